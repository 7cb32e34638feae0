"""What an environment says besides its observation, learned as further entries of it: the reward, and that the episode ended.

So predictor, trainer and planner need no notion of either: they see one longer observation, and a frame that hides the further
entries from the inputs and predicts them themselves in place of their change.
"""

from collections.abc import Callable

import numpy as np
import torch

#: Last entry of an observation after the episode had ended before; far from the 0 and 1 of one that goes on and one that ends.
OVER = 10.0
_ENDS = 0.5

RewardFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class OutcomeSpace:
    """An environment's own observation, then what else it says; implements `space.Space`.

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
    """Frame of observations (o, reward, ended), or (o, ended) where the reward is not learned; implements `frame.Frame`.

    `ended` is 1 with the observation that ends an episode by the environment's word (not by its time limit), else 0. A sampled
    one counts as an end when it is away from 0 by more than half, whichever way: ends are rare, and a Gaussian tends to explain
    what is rare by its deviation and not by its mean. What is predicted to come after an end is marked `OVER`, so that an
    objective can leave it out.

    Args:
        obs_size: Entries of o, the environment's own.
    """

    def __init__(self, obs_size: int) -> None:
        self._obs_size = obs_size

    def encode(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The environment's own observation, zeros in place of the rest, and the action."""
        own, rest = self._parts(obs)
        return torch.cat([own, torch.zeros_like(rest)], dim=-1), action

    def change(self, obs: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
        """Change of the environment's own observation; the other entries as they come to be."""
        own, _ = self._parts(obs)
        next_own, outcome = self._parts(next_obs)
        return torch.cat([next_own - own, outcome], dim=-1)

    def moved(self, obs: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Inverse of `change` from an observation that goes on; from one that has ended, `OVER`."""
        own, rest = self._parts(obs)
        own_change, outcome = self._parts(change)
        ended = torch.where(rest[..., -1:].abs() > _ENDS, OVER, outcome[..., -1:])
        return torch.cat([own + own_change, outcome[..., :-1], ended], dim=-1)

    def counterfactuals(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor,
                        generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """None: what acts on what in an environment is not known."""
        return obs[:0], action[:0], next_obs[:0]

    def _parts(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return values[..., :self._obs_size], values[..., self._obs_size:]


def learned_reward(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Objective that reads the learned reward; nothing is earned after an end.

    Args:
        obs: (o, reward, ended), shape (..., O + 2).
        action: Not looked at.

    Returns:
        Shape (...).
    """
    return torch.where(obs[..., -1] < 0.5 * OVER, obs[..., -2], 0.0)


class GivenReward:
    """Objective of a reward function; nothing is earned after an end.

    Args:
        function: Reward of the environment's own next observations, shape (..., O), and actions in its units, shape (..., A).
        low: Actions that -1 stands for, shape (A,).
        high: Actions that 1 stands for, shape (A,).
    """

    def __init__(self, function: RewardFunction, low: torch.Tensor, high: torch.Tensor) -> None:
        self._function, self._low, self._high = function, low, high

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Rewards, shape (...), of observations (o, ended), shape (..., O + 1), and actions in [-1, 1], shape (..., A)."""
        low, high = self._low.to(action), self._high.to(action)
        scaled = low + 0.5 * (action + 1.0) * (high - low)
        reward = self._function(obs[..., :-1], scaled.expand(*obs.shape[:-1], -1))
        return torch.where(obs[..., -1] < 0.5 * OVER, reward, 0.0)
