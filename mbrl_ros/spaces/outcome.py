"""Reward and end of an episode as additional entries of an environment's observation.

Predictor, trainer and planner then need no code for either: they see one longer observation. A frame hides the additional entries
from the inputs and predicts their values instead of their changes.
"""

from collections.abc import Callable

import numpy as np
import torch

#: Last entry of an observation after the end of an episode; far from 0, the episode goes on, and 1, it ends here.
OVER = 10.0
_ENDS = 0.5

RewardFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class OutcomeSpace:
    """An environment's own observation, then reward and end; implements `space.Space`.

    Args:
        obs_names: Entries of the environment's own observation.
        action_names: Entries of an action.
        is_reward_learned: Whether an observation ends in (reward, ended); otherwise in (ended).
    """

    name, version, has_velocities, is_directed = 'outcome', 1, False, False

    def __init__(self, obs_names: tuple[str, ...], action_names: tuple[str, ...], *, is_reward_learned: bool) -> None:
        self.state_names = (*obs_names, *(('reward', 'ended') if is_reward_learned else ('ended',)))
        self.action_names = action_names
        self.frame = OutcomeFrame(len(obs_names))

    def directions(self, obs: np.ndarray) -> None:
        """See `space.Space.directions`."""


class OutcomeFrame:
    """Frame of observations (o, reward, ended), or (o, ended) if the reward is not learned; implements `frame.Frame`.

    `ended` is 1 in the observation with which the environment terminates the episode (not at its time limit), else 0. A sampled
    value counts as an end if it differs from 0 by more than 0.5 in either direction: ends are rare, and a Gaussian fits rare
    values with its deviation rather than its mean. Predictions after an end are marked `OVER`, so an objective can skip them.
    The environment's own observation o has `obs_size` entries.
    """

    is_shiftable = True

    def __init__(self, obs_size: int) -> None:
        self._obs_size = obs_size

    def encode(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The environment's own observation, zeros in place of the rest, and the action."""
        own, rest = self._parts(obs)
        return torch.cat([own, torch.zeros_like(rest)], dim=-1), action

    def change(self, obs: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
        """Change of the environment's own observation, then the next values of the other entries."""
        own, _ = self._parts(obs)
        next_own, outcome = self._parts(next_obs)
        return torch.cat([next_own - own, outcome], dim=-1)

    def moved(self, obs: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Inverse of `change`; after an end the last entry is `OVER`."""
        own, rest = self._parts(obs)
        own_change, outcome = self._parts(change)
        ended = torch.where(rest[..., -1:].abs() > _ENDS, OVER, outcome[..., -1:])
        return torch.cat([own + own_change, outcome[..., :-1], ended], dim=-1)

    def counterfactuals(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor,
                        generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """No transitions, because the interactions in an environment are unknown."""
        return obs[:0], action[:0], next_obs[:0]

    def _parts(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return values[..., :self._obs_size], values[..., self._obs_size:]


def learned_reward(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Objective that reads the learned reward, shape (...), of obs (o, reward, ended), shape (..., O + 2); 0 after an end."""
    return torch.where(obs[..., -1] < 0.5 * OVER, obs[..., -2], 0.0)


class GivenReward:
    """Objective of a reward function; 0 after an end.

    Args:
        function: Reward of next observations, shape (..., O), and actions in the environment's units, shape (..., A).
        low: The environment's actions for -1, shape (A,).
        high: The environment's actions for 1, shape (A,).
    """

    def __init__(self, function: RewardFunction, low: torch.Tensor, high: torch.Tensor) -> None:
        self._function, self._low, self._high = function, low, high

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Rewards, shape (...), of observations (o, ended), shape (..., O + 1), and actions in [-1, 1], shape (..., A)."""
        low, high = self._low.to(action), self._high.to(action)
        scaled = low + 0.5 * (action + 1.0) * (high - low)
        reward = self._function(obs[..., :-1], scaled.expand(*obs.shape[:-1], -1))
        return torch.where(obs[..., -1] < 0.5 * OVER, reward, 0.0)
