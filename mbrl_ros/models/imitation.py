"""A policy that imitates demonstrated steps, for a planner to choose among its rollouts.

Behaviour cloning alone stalls where demonstrations are few: the mean of members that disagree stands still. Such a policy is
good at proposing, as planning with its rollouts needs (Nair et al. 2018, arXiv:1709.10089, on what demonstrations are worth for
exploration; Wang and Ba 2020, arXiv:1906.08649, on policies that propose to a planner).
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import BundleError, TrainingCancelled
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.normalizer import Normalizer

#: Largest normalised input in either direction.
_BOUND = 5.0
#: A relation is seen at each of these multiples, below 1 in size, so that millimetres count where it is small.
_RESOLUTIONS = (1.0, 3.0, 10.0)
#: Standard deviation of noise on relations while training; also on entries where there are no relations.
_NOISE = 0.05
_WEIGHT_DECAY = 1e-3
_STEPS_PER_POLL = 50


@dataclasses.dataclass(frozen=True)
class ImitationConfig(Config):
    """How demonstrated steps are imitated."""

    max_steps: int = setting(0, 'Gradient steps in which demonstrated steps are imitated; with 0 nothing is imitated, and plans '
                                'are searched for freely.', low=0)
    ensemble_size: int = setting(5, 'Networks, each trained from other weights and on other batches.', low=1, high=64)
    hidden_size: int = setting(128, 'Units of each of two hidden layers.', low=1, high=2048)
    learning_rate: float = setting(2e-3, 'First step size of AdamW; it falls along a half cosine.', low=1e-6, high=0.1)
    batch_size: int = setting(128, 'Steps a gradient step and network.', low=1)
    entry_noise: float = setting(0.7, 'Standard deviation of noise on normalised observations while training, where the space '
                                      'knows relations between entries: few demonstrations say how to move relative to things, '
                                      'and nothing reliable of where in the scene, or how fast.', low=0.0, high=10.0)


@dataclasses.dataclass(frozen=True)
class Policy:
    """Actions of observations; immutable.

    Attributes:
        inputs: Normaliser of the O entries of an observation.
        relations: Entries (from, to) of K relations of G numbers each, shape (2, K, G), int64; a relation is the difference.
        offset: What is added to the differences, shape (K, G): those of the origin.
        unit: Unit of each relation, shape (K, 1).
        network: An `Ensemble` with a mean for each entry of an action; its variances are not used.
        num_steps: Demonstrated steps that it was made from.
    """

    inputs: Normalizer
    relations: torch.Tensor
    offset: torch.Tensor
    unit: torch.Tensor
    network: Ensemble
    num_steps: int

    @torch.no_grad()
    def actions(self, obs: torch.Tensor) -> torch.Tensor:
        """Action of each of E members, shape (E, B, A), in [-1, 1], for observations of shape (B, O)."""
        features = self.features(obs)
        return self.network(features.expand(self.network.config.ensemble_size, -1, -1))[0].clamp(-1.0, 1.0)

    def features(self, obs: torch.Tensor) -> torch.Tensor:
        """What the network sees of observations, (B, O): entries, relations, and relations at several resolutions, (B, I)."""
        start, end = self.relations
        relations = ((obs[:, end] - obs[:, start] + self.offset) / self.unit).flatten(1)
        parts = [self.inputs.normalize(obs), relations]
        return torch.cat([*(part.clamp(-_BOUND, _BOUND) for part in parts),
                          *(torch.tanh(factor * relations) for factor in _RESOLUTIONS)], dim=1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        return {'inputs.mean': self.inputs.mean, 'inputs.std': self.inputs.std, 'relations': self.relations,
                'offset': self.offset, 'unit': self.unit, 'num_steps': torch.tensor([self.num_steps]),
                **{f'network.{name}': value.detach() for name, value in self.network.state_dict().items()}}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], obs_size: int, action_size: int,
                     device: torch.device | str = 'cpu') -> 'Policy':
        """Inverse of `tensors`, on a device.

        Raises:
            BundleError: The tensors are no policy of these sizes.
        """
        try:
            own = {name: value.to(device) for name, value in tensors.items()}
            first, last = own['network.weights.0'], own['network.weights.2']
            members, num_features, hidden_size = first.shape
            network = Ensemble(num_features, last.shape[-1] // 2, _shape(members, hidden_size), generator=torch.Generator())
            network.to(device).load_state_dict({name.removeprefix('network.'): value for name, value in own.items()
                                                if name.startswith('network.')})
            policy = cls(Normalizer(own['inputs.mean'], own['inputs.std']), own['relations'], own['offset'], own['unit'], network,
                         int(own['num_steps']))
            shape = policy.actions(torch.zeros(1, obs_size, device=device)).shape
        except (KeyError, IndexError, RuntimeError, ValueError, TypeError) as error:
            raise BundleError(f'the tensors are no policy that imitates ({type(error).__name__}: {error})') from None
        if shape != (members, 1, action_size):
            raise BundleError(f'the policy has actions of {shape[-1]} numbers, here they have {action_size}')
        return policy


def imitate(obs: np.ndarray, action: np.ndarray, config: ImitationConfig, *, relations: np.ndarray | None = None,
            origin: tuple[float, ...] = (), seed: int, is_cancelled: Callable[[], bool] = bool) -> Policy:
    """Fit a policy to demonstrated steps by the mean squared error of its actions.

    Args:
        obs: Observations less the origin, shape (N, O), N at least 1.
        action: Demonstrated actions, shape (N, A), in [-1, 1].
        config: Settings.
        relations: Entries (from, to) whose differences matter, shape (2, K, G); None for none.
        origin: What was taken off observations, O numbers; empty for nothing.
        seed: Seed of all randomness; the same seed and data give the same bytes.
        is_cancelled: Asked now and then.

    Raises:
        TrainingCancelled: `is_cancelled` returned true.
    """
    x, y = (torch.as_tensor(np.array(values), dtype=torch.float32) for values in (obs, action))
    pairs = torch.zeros((2, 0, 1), dtype=torch.int64) if relations is None else torch.as_tensor(relations)
    start, end = pairs
    offset = torch.as_tensor(np.array(origin), dtype=torch.float32)[pairs] if origin else torch.zeros(pairs.shape)
    offset = offset[1] - offset[0]
    unit = (x[:, end] - x[:, start] + offset).square().mean(dim=(0, 2)).sqrt().unsqueeze(1)  # (K, 1)
    generator = torch.Generator().manual_seed(seed)
    num_features = x.shape[1] + (1 + len(_RESOLUTIONS)) * start.numel()
    network = Ensemble(num_features, y.shape[1], _shape(config.ensemble_size, config.hidden_size), generator=generator)
    policy = Policy(Normalizer.fit(x, constant_scale=1.0), pairs, offset, torch.where(unit > 0.0, unit, 1.0), network, len(x))
    noise = torch.full((num_features,), _NOISE)
    if start.numel():
        noise[:x.shape[1]] = config.entry_noise
    _descend(network, policy.features(x), y, noise, config, generator, is_cancelled)
    return policy


def _descend(network: Ensemble, features: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor, config: ImitationConfig,
             generator: torch.Generator, is_cancelled: Callable[[], bool]) -> None:
    """Train the network on features, (N, I), with noise of these deviations, (I,), and actions, (N, A)."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.max_steps)
    shape = config.ensemble_size, config.batch_size
    for step in range(config.max_steps):
        if step % _STEPS_PER_POLL == 0 and is_cancelled():
            raise TrainingCancelled
        rows = torch.randint(len(features), shape, generator=generator)
        seen = features[rows] + noise * torch.randn((*shape, len(noise)), generator=generator)
        loss = (network(seen)[0] - actions[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _shape(members: int, hidden_size: int) -> EnsembleConfig:
    return EnsembleConfig(ensemble_size=members, hidden_layers=2, hidden_size=hidden_size)
