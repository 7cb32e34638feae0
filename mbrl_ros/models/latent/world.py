"""A latent model as it acts and travels, and as a planner sees it."""

import dataclasses
import math
from collections.abc import Mapping

import torch

from mbrl_ros.errors import BundleError
from mbrl_ros.models.actor_critic.learning import INPUTS, inputs_of, normalised
from mbrl_ros.models.actor_critic.networks import Networks, mean_action, sampled_action, values_of
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.latent.networks import LatentNetworks, Tensors
from mbrl_ros.planning.returns import particle_returns
from mbrl_ros.spaces.view import View

_CRITICS, _ACTOR, _UNITS = 'critics', 'actor', 'units'


@dataclasses.dataclass(frozen=True)
class Units:
    """What numbers of a latent model are measured in.

    Attributes:
        discount: Factor by which a reward shrinks with each step.
        reward_scale: Factor on rewards.
        disagreement: Disagreement of the critics that 19 of 20 real steps do not exceed.
        error: Root mean squared error of predicted latents on held-out steps.
        change: Root mean squared change of latents in a step.
    """

    discount: float
    reward_scale: float
    disagreement: float = 1.0
    error: float = 1.0
    change: float = 1.0

    def tensors(self) -> dict[str, torch.Tensor]:
        """Each as a tensor, shape ()."""
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> 'Units':
        """Inverse of `tensors`; raises BundleError for anything else than positive numbers, where a discount may be 0."""
        numbers = {field.name: tensors.get(field.name, torch.empty(0)) for field in dataclasses.fields(cls)}
        for name, number in numbers.items():
            if number.shape != () or not 0.0 <= number < math.inf or (number == 0.0 and name != 'discount'):
                raise BundleError(f'the latent model needs one positive finite number for {name!r}, got {number.tolist()}')
        return cls(**{name: float(number) for name, number in numbers.items()})


@dataclasses.dataclass(frozen=True)
class LatentModel:
    """All that acting needs; immutable.

    Attributes:
        inputs: Normaliser of the features, (F,).
        networks: Encoder, dynamics and outcome.
        critics: Values of latent and action.
        actor: Policy of latents, as for `mean_action`.
        units: What its numbers are measured in.
    """

    inputs: Normalizer
    networks: LatentNetworks
    critics: Networks
    actor: Networks
    units: Units

    def encode(self, features: torch.Tensor) -> torch.Tensor:
        """Latent, shape (B, S), of features of a view, shape (B, F)."""
        return self.networks.encode(normalised(self.inputs, features))

    def disagreement(self, latent: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Standard deviation of the critics, shape (B,), in the scale of rewards."""
        return values_of(self.critics, latent, action).std(dim=0, correction=0)

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """All tensors by name, for each group's name."""
        parts = {_CRITICS: self.critics, _ACTOR: self.actor}
        return {**self.networks.groups(), **{name: part.state_dict() for name, part in parts.items()},
                INPUTS: {'mean': self.inputs.mean, 'std': self.inputs.std}, _UNITS: self.units.tensors()}

    @classmethod
    def from_groups(cls, groups: Mapping[str, Tensors], num_features: int, action_size: int) -> 'LatentModel':
        """Inverse of `groups`; there may be more of them.

        Raises:
            BundleError: The tensors are no model for F features and A entries of an action.
        """
        networks = LatentNetworks.from_groups(groups, num_features, action_size)
        critics, actor = (Networks.from_tensors(groups.get(name, {})) for name in (_CRITICS, _ACTOR))
        latent = networks.latent_size
        for name, own, fitting in ((_CRITICS, critics.sizes[1:], (latent + action_size, 1)),
                                   (_ACTOR, actor.sizes, (1, latent, 2 * action_size))):
            if own != fitting:
                raise BundleError(f'{name} of the latent model have the sizes {own}, here they are {fitting}')
        return cls(inputs_of(groups, num_features), networks, critics, actor, Units.from_tensors(groups.get(_UNITS, {})))


class LatentWorld:
    """A latent model on the way to one goal; implements `WorldModel`, with rewards in their scale.

    Actions are in the axes of the view.

    Args:
        model: The model.
        view: What it sees, and in which axes it acts.
        goal: Shape (3,), metres; NaN without one.
        sensed_size: O.
        anchor: Reward taken off for the squared distance of an action from the policy's.
    """

    ensemble_size = 1

    def __init__(self, model: LatentModel, view: View, goal: torch.Tensor, sensed_size: int, anchor: float = 0.0) -> None:
        self._model, self._view, self._goal, self.sensed_size, self._anchor = model, view, goal, sensed_size, anchor
        self.obs_size, self.action_size = model.networks.latent_size, model.actor.sizes[2] // 2
        self.output_scale = torch.ones(self.obs_size)

    def start(self, obs: torch.Tensor) -> torch.Tensor:
        """See `WorldModel.start`."""
        return self._model.encode(self._view.features(obs.unsqueeze(0), self._goal.unsqueeze(0)))[0]

    def predict(self, state: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `DynamicsModel.predict`; the deviation is 0."""
        reached = self._model.networks.next(state[0], action[0]).unsqueeze(0)
        return reached, torch.zeros_like(reached)

    def outcome(self, state: torch.Tensor, action: torch.Tensor, next_state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `WorldModel.outcome`."""
        shape = state.shape[:-1]
        rows = state.reshape(-1, self.obs_size), action.expand(*shape, -1).reshape(-1, self.action_size)
        reward, end = self._model.networks.outcome_of(*rows)
        if self._anchor:
            reward = reward - self._anchor * (rows[1] - mean_action(self._model.actor, rows[0])).square().sum(dim=1)
        return reward.view(shape), torch.sigmoid(end).view(shape)

    def value(self, state: torch.Tensor) -> torch.Tensor:
        """See `WorldModel.value`; the lowest critic's of the policy's action."""
        rows = state.reshape(-1, self.obs_size)
        values = values_of(self._model.critics, rows, mean_action(self._model.actor, rows))
        return values.amin(dim=0).view(state.shape[:-1])

    def proposals(self, obs: torch.Tensor, count: int, horizon: int, generator: torch.Generator) -> torch.Tensor:
        """Sequences of the policy, shape (M, H, A), of which the first is of its mean actions and the others are sampled."""
        state, actions = self.start(obs).expand(count, -1), []
        for _ in range(horizon):
            noise = torch.randn((count, self.action_size), generator=generator)
            sampled, _ = sampled_action(self._model.actor, state, noise)
            actions.append(torch.cat([mean_action(self._model.actor, state[:1]), sampled[1:]]))
            state = self._model.networks.next(state, actions[-1])
        return torch.stack(actions, dim=1)

    def worth(self, states: torch.Tensor, actions: torch.Tensor) -> float:
        """Expected return of a path, states (H + 1, S) and actions (H, A), and of what comes after it, in units of rewards."""
        units, path = self._model.units, states[1:].unsqueeze(1).unsqueeze(1)  # (H, 1, 1, S)
        found = particle_returns(Discounted(units.discount), path, actions.unsqueeze(0), states[0], self)
        return float(found) / units.reward_scale

    def doubt(self, states: torch.Tensor, actions: torch.Tensor) -> float:
        """Largest disagreement of the critics along a path, states (H, S) and actions (H, A), in its unit."""
        return float(self._model.disagreement(states, actions).max() / self._model.units.disagreement)


@dataclasses.dataclass(frozen=True)
class Discounted:
    """Objective that leaves rewards to the model; implements `planning.planner.DiscountedObjective`.

    Attributes:
        discount: Factor by which a reward shrinks with each step.
    """

    discount: float

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Zeros, shape (...)."""
        return torch.zeros(obs.shape[:-1], device=obs.device)

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """Zeros, shape (...)."""
        return torch.zeros(obs.shape[:-1], device=obs.device)
