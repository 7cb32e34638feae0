"""Reward and end of an episode as additional entries of an environment's observation.

Predictor, trainer and planner then need no code for either: they see one longer observation. A frame hides the additional entries
from the inputs and predicts their values instead of their changes.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from mbrl_ros.spaces.numbering import Numbering
from mbrl_ros.spaces.view import PlainView

#: Last entry of an observation after the end of an episode; far from 0, the episode goes on, and 1, it ends here.
OVER = 10.0
_ENDS = 0.5
#: Distance of the effector, in the units of the goals, below which closeness hardly grows.
_TOUCHING = 1e-3
_NAME, _WITH = 'outcome', ' with '

RewardFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Goals:
    """Entries of an environment's own observation that are goals, which no action changes.

    Attributes:
        achieved: Indices of the achieved goal, shape (G,).
        desired: Indices of the desired goal, shape (G,).
        effector: Indices of the part of the arm that moves what is achieved, shape (G,), in the same axes and units; None if it
            is not known.
        reward: Reward, shape (N,), of the environment's next observations, shape (N, O), whatever goal they have; None if that is
            not known.
    """

    achieved: np.ndarray
    desired: np.ndarray
    effector: np.ndarray | None = None
    reward: Callable[[torch.Tensor], torch.Tensor] | None = None

    @property
    def relations(self) -> np.ndarray:
        """Entries (from, to) of the ways to the goal and, if known, from the effector to what is achieved, shape (2, K, G)."""
        ways = [(self.achieved, self.desired)] + ([] if self.effector is None else [(self.effector, self.achieved)])
        return np.array(ways).swapaxes(0, 1)


class OutcomeSpace:
    """An environment's own observation, then reward and end; implements `space.Space`.

    Args:
        obs_names: Entries of the environment's own observation.
        action_names: Entries of an action.
        is_reward_learned: Whether an observation ends in (reward, ended); otherwise in (ended).
        goals: Goals among the entries, if there are any.
        action_features: What the dynamics depend on, shape (..., A), of an action; the action itself by default.
        features: Further inputs of the model, shape (..., F), of the environment's own observations, shape (..., O); none by
            default.
        features_name: Name of `features`, which becomes part of the space's.
        numbering: Numbers of states and actions, if they are finitely many.

    Attributes:
        relations: `Goals.relations`; None without goals.
        view: What a policy sees: the environment's own observation.
        bounded_names: The learned reward, if there is one.
    """

    version, has_velocities, is_directed = 1, False, False

    def __init__(self, obs_names: tuple[str, ...], action_names: tuple[str, ...], *, is_reward_learned: bool,
                 goals: Goals | None = None, action_features: Callable[[torch.Tensor], torch.Tensor] | None = None,
                 features: Callable[[torch.Tensor], torch.Tensor] | None = None, features_name: str = '',
                 numbering: Numbering | None = None) -> None:
        self.name = f'{_NAME}{_WITH}{features_name}' if features_name else _NAME
        self.state_names = (*obs_names, *(('reward', 'ended') if is_reward_learned else ('ended',)))
        self.action_names, self.numbering = action_names, numbering
        self.bounded_names = ('reward',) if is_reward_learned else ()
        self.relations = None if goals is None else goals.relations
        self.view = PlainView(len(obs_names), has_goal=False)
        self.frame = OutcomeFrame(len(obs_names), is_reward_learned=is_reward_learned, goals=goals,
                                  action_features=action_features, features=features)

    def directions(self, obs: np.ndarray) -> None:
        """See `space.Space.directions`."""


def features_name(space: str) -> str | None:
    """Name of the features in the name of a space; None without further features."""
    return space.partition(_WITH)[2] or None


class OutcomeFrame:
    """Frame of observations (o, reward, ended), or (o, ended) if the reward is not learned; implements `frame.Frame`.

    `ended` is 1 in the observation with which the environment terminates the episode (not at its time limit), else 0. A sampled
    value counts as an end if it differs from 0 by more than 0.5 in either direction: ends are rare, and a Gaussian fits rare
    values with its deviation rather than its mean. Predictions after an end are marked `OVER`, so an objective can skip them.

    A desired goal stays as it is, and only a learned reward depends on it. The environment's own observation o has `obs_size`
    entries; the other arguments are those of `OutcomeSpace`.
    """

    def __init__(self, obs_size: int, *, is_reward_learned: bool = True, goals: Goals | None = None,
                 action_features: Callable[[torch.Tensor], torch.Tensor] | None = None,
                 features: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        self._obs_size, self._is_reward_learned, self._goals = obs_size, is_reward_learned, goals
        self._action_features, self._features = action_features, features
        # Given functions and distances between entries need observations as they are.
        self.is_shiftable = features is None and (goals is None or (
            goals.effector is None and not (is_reward_learned and goals.reward is not None)))
        moves = torch.ones(obs_size)
        if goals is not None:
            moves[torch.from_numpy(goals.desired)] = 0.0
        self._moves = moves

    def encode(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The environment's own observation, zeros in place of the rest; the action with further features.

        Further features are those given and, where the effector is known, its offset from what is achieved and the logarithm of
        their distance. A body moves when it is touched and rests a little farther away. The logarithm resolves that for bodies of
        any size; given the offset alone, networks predicted that a resting body creeps.
        """
        own, rest = self._parts(obs)
        inputs = [action if self._action_features is None else self._action_features(action)]
        if self._goals is not None and self._goals.effector is not None:
            seen = own[..., self._goals.achieved] - own[..., self._goals.effector]
            inputs += [seen, torch.log(torch.linalg.vector_norm(seen, dim=-1, keepdim=True) + _TOUCHING)]
        if self._features is not None:
            inputs.append(self._features(own))
        if self._goals is not None and not self._is_reward_learned:
            own = own * self._moves.to(own)
        leading = inputs[0].shape[:-1]
        return (torch.cat([own, torch.zeros_like(rest)], dim=-1),
                torch.cat([part.expand(*leading, -1) for part in inputs], dim=-1) if inputs[1:] else inputs[0])

    def change(self, obs: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
        """Change of the environment's own observation, then the next values of the other entries."""
        own, _ = self._parts(obs)
        next_own, outcome = self._parts(next_obs)
        return torch.cat([(next_own - own) * self._moves.to(own), outcome], dim=-1)

    def moved(self, obs: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Inverse of `change`, but for a goal that was changed; after an end the last entry is `OVER`."""
        own, rest = self._parts(obs)
        own_change, outcome = self._parts(change)
        ended = torch.where(rest[..., -1:].abs() > _ENDS, OVER, outcome[..., -1:])
        return torch.cat([own + own_change * self._moves.to(own), outcome[..., :-1], ended], dim=-1)

    def counterfactuals(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor,
                        generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same steps on the way to other goals, so that a learned reward is seen to depend on the goal.

        Hindsight experience replay (Andrychowicz et al. 2017, arXiv:1707.01495): every second goal is what the step achieved, the
        others are what another step achieved. None without goals, or where rewards of other goals are not known, and none where
        the reward is not learned.
        """
        if self._goals is None or self._goals.reward is None or not self._is_reward_learned:
            return obs[:0], action[:0], next_obs[:0]
        count = len(obs)
        chosen = torch.where(torch.arange(count) % 2 == 0, torch.arange(count), torch.randperm(count, generator=generator))
        goal = next_obs[chosen][:, self._goals.achieved]
        obs, next_obs = obs.clone(), next_obs.clone()
        obs[:, self._goals.desired] = next_obs[:, self._goals.desired] = goal
        next_obs[:, self._obs_size] = self._goals.reward(next_obs[:, :self._obs_size])
        return obs, action, next_obs

    def _parts(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return values[..., :self._obs_size], values[..., self._obs_size:]


def learned_reward(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Objective that reads the learned reward, shape (...), of obs (o, reward, ended), shape (..., O + 2); 0 after an end."""
    return torch.where(obs[..., -1] < 0.5 * OVER, obs[..., -2], 0.0)


class GivenReward:
    """Objective of a reward function; 0 after an end.

    Args:
        function: Reward of next observations, shape (..., O), and actions in the environment's units, shape (..., U).
        units: Actions in the environment's units, shape (..., U), of actions in [-1, 1], shape (..., A).
    """

    def __init__(self, function: RewardFunction, units: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._function, self._units = function, units

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Rewards, shape (...), of observations (o, ended), shape (..., O + 1), and actions in [-1, 1], shape (..., A)."""
        reward = self._function(obs[..., :-1], self._units(action).expand(*obs.shape[:-1], -1))
        return torch.where(obs[..., -1] < 0.5 * OVER, reward, 0.0)


class OutcomeReward:
    """An objective for observations with outcomes as what is wanted of a policy; implements `tasks.reward.GoalReward`.

    Goals of an environment are entries of its observations, so there are no others.
    """

    has_goal = False

    def __init__(self, objective: RewardFunction) -> None:
        self._objective = objective

    def reward(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """See `tasks.reward.GoalReward.reward`."""
        return self._objective(obs, action)

    def is_within(self, obs: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """It is not known, shape (N,)."""
        return torch.zeros(obs.shape[:-1], dtype=torch.bool)

    def achieved(self, obs: torch.Tensor) -> torch.Tensor:
        """Positions that are not there, shape (N, 3), NaN."""
        return torch.full((*obs.shape[:-1], 3), float('nan'))

    def is_over(self, obs: torch.Tensor) -> torch.Tensor:
        """See `tasks.reward.GoalReward.is_over`."""
        return obs[..., -1].abs() > _ENDS
