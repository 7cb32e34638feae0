"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), which may imitate demonstrations as well.

Note:
    Targets contain no entropy, so that values are expected returns. The actor's loss has a term for the distance from actions to
    imitate (Nair et al. 2018, arXiv:1709.10089, section V; without the filter there, with which the first updates forgot them).
"""

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch.nn import functional

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import BundleError
from mbrl_ros.models.actor_critic.networks import Networks, mean_action, sampled_action, values_of

CRITICS, _TARGETS, _ACTOR, _AVERAGE, _TEMPERATURE = 'critics', 'targets', 'actor', 'average', 'temperature'
_FIRST_LOG_TEMPERATURE = -3.0
#: Share of a former reward in the values that counts as none.
_LEFT = 0.1
_TEMPERATURE_RATE = 1e-3
#: Entropy that the temperature aims at, for each entry of an action.
_ENTROPY_OF_ENTRY = -1.0
_WEIGHT_DECAY = 1e-4
#: Error of a value beyond which it counts linearly.
_FAR = 3.0

#: What Adam keeps of a parameter.
_OF_ADAM = 'step', 'exp_avg', 'exp_avg_sq'

Tensors = Mapping[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig(Config):
    """How a policy and its critics are learned."""

    hidden_size: int = setting(128, 'Units of each of two hidden layers.', low=1, high=2048)
    num_critics: int = setting(2, 'Critics; the lowest counts.', low=1, high=16)
    discount: float = setting(0.92, 'Factor by which a reward shrinks with each step.', low=0.0, high=0.999)
    reward_scale: float = setting(0.3, 'Factor on rewards.', low=1e-6, high=1e3)
    learning_rate: float = setting(7e-4, 'Step size of actor and critics.', low=1e-6, high=0.1)
    target_rate: float = setting(0.01, 'Share of the critics that their targets take over in each update.', low=1e-4, high=1.0)
    average_rate: float = setting(0.005, 'Share of the actor that its average, which acts, takes over in each update.',
                                  low=1e-4, high=1.0)
    imitation: float = setting(20.0, 'Weight of the squared distance from demonstrated actions, against the value.', low=0.0)
    imitation_noise: float = setting(0.1, 'Standard deviation of noise on normalised features while imitating, so that what to do'
                                          ' beside the path is known too.', low=0.0, high=10.0)

    def rounds_to_follow(self, updates: int) -> int:
        """Rounds of so many updates after which a tenth of a former reward is left in the values.

        Each update moves the targets by their rate towards critics that know the new reward of one step and bootstrap from the
        targets, so that their distance from the new values falls by the factor 1 - (1 - discount) * target_rate in its slowest
        direction.
        """
        needed = math.log(1.0 / _LEFT) / ((1.0 - self.discount) * self.target_rate)
        return math.ceil(needed / max(updates, 1))


class Batch(NamedTuple):
    """B transitions, as a policy sees them.

    Attributes:
        features: Normalised, shape (B, F).
        action: In the axes of the view, shape (B, A).
        reward: Shape (B,).
        next_features: Normalised, shape (B, F).
        goes_on: 0 where the transition ended the episode for good, else 1, shape (B,).
        is_shown: Whether the action is to be imitated, shape (B,), bool.
    """

    features: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    next_features: torch.Tensor
    goes_on: torch.Tensor
    is_shown: torch.Tensor


class SoftActorCritic:
    """Actor, critics and their optimisers.

    Args:
        num_features: F.
        action_size: A.
        config: Settings.
        generator: Source of the initial weights.
        shared: Parameters that learn with the critics, such as those of an encoder.

    Attributes:
        generator: Source of the samples in updates; as given at first.
        actor: The policy being learned, as for `mean_action`.
        average: Running average of the actor, which is steadier; this one acts.
        critics: Value of features and action, (B, F + A), by each critic, (E, B, 1).
    """

    def __init__(self, num_features: int, action_size: int, config: ActorCriticConfig, generator: torch.Generator,
                 shared: Iterable[torch.nn.Parameter] = ()) -> None:
        self._config, self.generator = config, generator
        self.actor = Networks(1, num_features, 2 * action_size, config.hidden_size, generator=generator)
        self.critics = Networks(config.num_critics, num_features + action_size, 1, config.hidden_size, generator=generator)
        self.average, self._targets = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self._log_temperature = torch.full((1,), _FIRST_LOG_TEMPERATURE, requires_grad=True)

        def adam(*parameters: torch.nn.Parameter) -> torch.optim.Optimizer:
            return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=_WEIGHT_DECAY)

        self._of_actor, self._of_critics = adam(*self.actor.parameters()), adam(*shared, *self.critics.parameters())
        self._of_temperature = torch.optim.Adam([self._log_temperature], lr=_TEMPERATURE_RATE)
        self._optimisers = {f'moments of {name}': optimiser for name, optimiser in (
            (_ACTOR, self._of_actor), (CRITICS, self._of_critics), (_TEMPERATURE, self._of_temperature))}

    def resume(self, groups: Mapping[str, Tensors]) -> None:
        """Continue with the tensors of `groups()`.

        Raises:
            BundleError: They are not for these sizes.
        """
        for name, own in self._networks().items():
            found = Networks.from_tensors(groups.get(name, {}))
            if found.sizes != own.sizes:
                raise BundleError(f'{name} of the policy have the sizes {found.sizes}, here they are {own.sizes}')
            own.load_state_dict(found.state_dict())
        temperature = groups.get(_TEMPERATURE, {}).get('log', torch.empty(0))
        if temperature.shape != (1,) or not torch.isfinite(temperature).all():
            raise BundleError(f'the temperature of a policy needs to be one finite number, got {temperature.tolist()}')
        with torch.no_grad():
            self._log_temperature.copy_(temperature)
        for name, optimiser in self._optimisers.items():
            _take_moments(optimiser, groups.get(name, {}))

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """All tensors by name, for each group's name."""
        own = {name: {key: value.clone() for key, value in networks.state_dict().items()}
               for name, networks in self._networks().items()}
        return {**own, _TEMPERATURE: {'log': self._log_temperature.detach().clone()},
                **{name: _moments(optimiser) for name, optimiser in self._optimisers.items()}}

    def imitate(self, features: torch.Tensor, action: torch.Tensor) -> None:
        """One step towards demonstrated actions alone, shape (B, A), at features of shape (B, F); the average follows at once."""
        self._descend(self._of_actor, self.away(features, action).mean())
        self.average.load_state_dict(self.actor.state_dict())

    def update(self, batch: Batch, *, learns_actor: bool = True) -> None:
        """One step of the critics, and of actor and temperature unless these rest."""
        values = values_of(self.critics, batch.features, batch.action)
        self.update_critics(value_loss(values, self.targets(batch)).mean())
        if learns_actor:
            self.update_actor(batch)

    def update_critics(self, loss: torch.Tensor) -> None:
        """One step of the critics, and of what learns with them, down a loss, shape (); their targets follow."""
        self._descend(self._of_critics, loss)
        _follow(self._targets, self.critics, self._config.target_rate)

    @torch.no_grad()
    def targets(self, batch: Batch) -> torch.Tensor:
        """What the critics should say of a batch, shape (B,): reward, and value after it unless the episode ended for good."""
        action, _ = sampled_action(self.actor, batch.next_features, self._noise(batch.action))
        after = values_of(self._targets, batch.next_features, action).amin(dim=0)
        return self._config.reward_scale * batch.reward + self._config.discount * batch.goes_on * after

    def update_actor(self, batch: Batch) -> None:
        """One step of actor and temperature; the average follows."""
        action, log_density = sampled_action(self.actor, batch.features, self._noise(batch.action))
        temperature = self._log_temperature.detach().exp()
        loss = (temperature * log_density - values_of(self.critics, batch.features, action).amin(dim=0)).mean()
        if self._config.imitation and batch.is_shown.any():
            loss = loss + self._config.imitation * (self.away(batch.features, batch.action) * batch.is_shown).mean()
        self._descend(self._of_actor, loss)
        missing = log_density.detach().mean() + _ENTROPY_OF_ENTRY * batch.action.shape[1]
        self._descend(self._of_temperature, -(self._log_temperature.exp() * missing).sum())
        _follow(self.average, self.actor, self._config.average_rate)

    def away(self, features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Squared distance of the actor from actions to imitate, shape (B,)."""
        beside = features + self._config.imitation_noise * self._noise(features)
        return (mean_action(self.actor, beside) - action.clamp(-1.0, 1.0)).square().sum(dim=1)

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self.generator)

    def _networks(self) -> dict[str, Networks]:
        return {_ACTOR: self.actor, _AVERAGE: self.average, CRITICS: self.critics, _TARGETS: self._targets}

    @staticmethod
    def _descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        """Change the optimiser's own parameters alone."""
        own = optimiser.param_groups[0]['params']
        for parameter, gradient in zip(own, torch.autograd.grad(loss, own)):
            parameter.grad = gradient
        optimiser.step()


def value_loss(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """What it costs that critics say other values, shape (E, B), than they should, shape (B,); shape (E, B)."""
    return functional.huber_loss(values, target.expand_as(values), reduction='none', delta=_FAR)


@torch.no_grad()
def _follow(slow: Networks, fast: Networks, rate: float) -> None:
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), rate)


def _moments(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What Adam keeps of each parameter, by name; nothing before the first step."""
    states = (optimiser.state[parameter] for parameter in optimiser.param_groups[0]['params'])
    return {f'{index}.{name}': value.clone() for index, state in enumerate(states) for name, value in state.items()}


def _take_moments(optimiser: torch.optim.Optimizer, moments: Tensors) -> None:
    """Inverse of `_moments`.

    Raises:
        BundleError: The moments are not those of the optimiser's parameters.
    """
    for index, parameter in enumerate(optimiser.param_groups[0]['params']):
        own = {name: moments[f'{index}.{name}'].clone() for name in _OF_ADAM if f'{index}.{name}' in moments}
        if own and (len(own) < len(_OF_ADAM) or any(own[name].shape != parameter.shape for name in _OF_ADAM[1:])):
            raise BundleError('the moments of a policy are not those of its weights')
        optimiser.state[parameter] = own
