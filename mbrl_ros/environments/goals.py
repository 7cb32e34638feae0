"""The reward that an environment computes of goals, as `compute_reward` of Gymnasium-Robotics' `GoalEnv` and of panda-gym.

Plappert et al. 2018 (arXiv:1802.09464) describe the interface: an observation has an achieved and a desired goal, and rewards
can be computed of any pair of them.
"""

import numpy as np
import torch

from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.errors import ConfigError

#: Share of a step's reward, for the distance at the beginning of an episode, that guides to the goal where rewards are sparse.
_GUIDE = 0.1
#: What the effector's distance from what it moves costs, beside what that costs for its distance from the goal: less, so that the
#: effector may go around.
_APPROACH = 0.3
#: Points from the goal to where the trial began and as far again, at which rewards are looked at.
_POINTS = 65
#: Rewards closer than this count as one.
_ALIKE = 1e-6


class RewardOfGoals:
    """Rewards of observations by an environment's `compute_reward`; a `RewardFunction`.

    A sparse reward, which has two values at most, does not say which way leads to the goal. It is guided: a tenth of the
    achieved goal's distance from the desired one, in distances of the trial, is taken off. No reward of goals says that a thing
    has to be touched to be moved; where the effector is known, three tenths of what the way to the goal costs are taken off for
    the way from the effector to what is achieved.

    Args:
        env: The environment.
        effector: Indices of the effector in observations, shape (G,), in the axes and units of the goals; None if not known.

    Raises:
        ConfigError: It has no goals, or no `compute_reward` that agrees with the rewards of its steps.

    Attributes:
        is_sparse: Whether the reward is guided.
    """

    def __init__(self, env: FlatEnvironment, effector: np.ndarray | None = None) -> None:
        if not env.is_goal.any():
            raise ConfigError(f'{env.env_id} has no goals to compute rewards of: its observations are no Dict of observation, '
                              'achieved_goal and desired_goal')
        if not env.has_reward_of_goals:
            raise ConfigError(f'{env.env_id} has no compute_reward(achieved_goal, desired_goal, info) that agrees '
                              'with the rewards of its steps; have the reward learned, by --reward learned')
        self._env, self._effector = env, effector
        self.achieved, self.desired = np.flatnonzero(env.is_achieved), np.flatnonzero(env.is_goal)
        achieved, desired = env.trial_obs[self.achieved], env.trial_obs[self.desired]
        way = achieved - desired if np.any(achieved != desired) else np.ones_like(achieved)
        self._unit = float(np.linalg.norm(way))
        points = desired + np.linspace(0.0, 2.0, _POINTS)[:, None] * way
        rewards = np.sort(env.compute_reward(points, np.broadcast_to(desired, points.shape)))
        self.is_sparse = int((np.diff(rewards) > _ALIKE).sum()) < 2  # noqa: PLR2004  two values have one step between them
        # The points end at twice the unit from the goal.
        self._approach = _APPROACH * (_GUIDE if self.is_sparse else float(rewards[-1] - rewards[0]) / 2.0) / self._unit

    def __call__(self, obs: torch.Tensor, action: torch.Tensor | None = None) -> torch.Tensor:
        """Rewards, shape (...), of the environment's next observations, shape (..., O); actions play no role.

        Raises:
            MeasurementError: `compute_reward` raised an exception or returned something else.
        """
        rows = obs.detach().reshape(-1, obs.shape[-1]).double().cpu().numpy()
        achieved, desired = rows[:, self.achieved], rows[:, self.desired]
        rewards = self._env.compute_reward(achieved, desired)
        if self.is_sparse:
            rewards = rewards - _GUIDE * np.linalg.norm(achieved - desired, axis=1) / self._unit
        if self._effector is not None:
            rewards = rewards - self._approach * np.linalg.norm(achieved - rows[:, self._effector], axis=1)
        return torch.from_numpy(rewards).to(obs).reshape(obs.shape[:-1])

    def of_step(self, obs: torch.Tensor) -> torch.Tensor:
        """Rewards, shape (N,), as a step would give them, of next observations, shape (N, O): never guided."""
        rows = obs.double().numpy()
        return torch.from_numpy(self._env.compute_reward(rows[:, self.achieved], rows[:, self.desired])).to(obs)

    def are_reached(self, obs: np.ndarray) -> np.ndarray | None:
        """Whether observations, shape (N, O), are at their goals by the sparse reward, shape (N,); None for a dense reward."""
        if not self.is_sparse:
            return None
        goals = obs[:, self.desired]
        return self._env.compute_reward(obs[:, self.achieved], goals) == self._env.compute_reward(goals, goals)
