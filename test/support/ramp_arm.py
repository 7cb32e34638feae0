"""An arm that reaches commanded velocities by an even acceleration within a control period, as an ensemble; for tests."""

import dataclasses

import numpy as np
import torch

from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.models.ensemble.linear import LinearPart
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.planning.solver.cost import CostWeights
from mbrl_ros.planning.solver.search import WeightDistribution

PERIOD_S = 0.05


def ramp_parameters(max_velocity: np.ndarray, network_scale: float = 1e-9) -> DynamicsParameters:
    """Parameters whose linear part is exact; its random networks add errors of `network_scale` in typical size."""
    size, limits = len(max_velocity), torch.tensor(max_velocity, dtype=torch.float32)
    one, zero = torch.eye(size), torch.zeros(size, size)
    half = 0.5 * PERIOD_S
    weight = torch.cat([torch.cat([zero, zero], dim=1), torch.cat([half * one, -one], dim=1),
                        torch.cat([half * torch.diag(limits), torch.diag(limits)], dim=1)])  # (I, O)
    start = stand_in(2 * size, size)
    members = start.sizes[0]
    return dataclasses.replace(start, outputs=Normalizer.identity(2 * size),
                               residual_scale=torch.full((2 * size,), network_scale),
                               linear=LinearPart(weight.expand(members, -1, -1).clone(), start.linear.bias))


def ramp_bundle(contract: Contract, max_velocity: np.ndarray, weights: CostWeights | None = None) -> AgentBundle:
    """The arm as a bundle of `solver_mpc`."""
    cost = WeightDistribution.around(weights or CostWeights(), 1.0)
    card = Card(version=1, contract=contract, num_transitions=50, trained_episode=0,
                figures={'holdout_rmse': 0.1, 'holdout_nll': 0.0}, created_ns=0, real_steps=60)
    return AgentBundle(card, {'model': ramp_parameters(max_velocity).tensors(),
                              'cost': {'mean': torch.from_numpy(cost.mean), 'std': torch.from_numpy(cost.std)}})
