"""Ensembles that were not learned, and bundles of them; for tests."""

import torch

from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.linear import LinearPart
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.precision import stand_in


def random_parameters(seed: int = 0, members: int = 3, hidden_layers: int = 2) -> DynamicsParameters:
    """Of 4 observations and 1 action."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    ensemble = Ensemble(5, 4, EnsembleConfig(ensemble_size=members, hidden_layers=hidden_layers, hidden_size=8),
                        generator=generator)
    network = {name: value + 0.3 * draw(*value.shape) for name, value in ensemble.state_dict().items()}
    return DynamicsParameters(Normalizer(draw(5), draw(5).abs() + 0.2), Normalizer(0.1 * draw(4), 0.1 * draw(4).abs() + 0.01),
                              LinearPart(draw(members, 5, 4), draw(members, 1, 4)), draw(4).abs() + 0.1, network)


def untrained_bundle(contract: Contract, version: int = 1) -> AgentBundle:
    """Of PETS, for a contract without a frame of other sizes; it knows nothing."""
    return bundle_of(stand_in(contract.obs_size, contract.action_size), contract, version)


def bundle_of(parameters: DynamicsParameters, contract: Contract, version: int = 1) -> AgentBundle:
    """Of PETS, with a card that says it was made from 50 transitions."""
    card = Card(version=version, contract=contract, num_transitions=50, trained_episode=0,
                figures={'holdout_rmse': 0.1, 'holdout_nll': 0.0}, created_ns=0, real_steps=60)
    return AgentBundle(card, {'model': parameters.tensors()})
