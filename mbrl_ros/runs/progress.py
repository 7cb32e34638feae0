"""Progress of an episode of a task: the one place where steps become return, distance and success."""

import numpy as np
import torch

from mbrl_ros.tasks.task import SuccessCounter, Task


class TaskProgress:
    """Steps, return, distance and success of one episode.

    The return sums the rewards of states. The cost of actions is left out, because against the wall clock only the controller
    knows in time which action was applied.

    Args:
        task: The task.
        period_s: Control period.
        max_steps: Control steps after which the episode ends.

    Attributes:
        goal: Goal, shape (3,), metres.
        step: Control steps done.
        reward: Reward of the newest state.
        episode_return: Sum of rewards so far.
        distance_m: Distance from the goal.
    """

    def __init__(self, task: Task, period_s: float, max_steps: int) -> None:
        self._task, self._max_steps = task, max_steps
        self._success = SuccessCounter(task.settle_s, period_s)
        self._no_action = torch.zeros(task.action_size, dtype=torch.float64)
        self.goal, self.distance_m = np.zeros(3), float('inf')
        self.step, self.reward, self.episode_return = 0, 0.0, 0.0

    @property
    def success(self) -> bool:
        """Whether the goal was reached and held."""
        return self._success.success

    @property
    def is_over(self) -> bool:
        """Whether the episode has ended, with success or by its number of steps."""
        return self.success or self.step >= self._max_steps

    def begin(self, goal: np.ndarray, obs: np.ndarray) -> None:
        """Begin an episode with a goal, shape (3,), at an observation, shape (O,)."""
        self.step, self.reward, self.episode_return = 0, 0.0, 0.0
        self.aim(goal)
        self.distance_m = float(self._task.distance(torch.from_numpy(obs), goal))

    def aim(self, goal: np.ndarray) -> None:
        """Change the goal; the new one has to be reached and held from here on."""
        self.goal = np.asarray(goal, dtype=float)
        self._success.reset()

    def withdraw(self, steps: int, reward: float) -> None:
        """Uncount control steps that were counted with this reward each."""
        self.step -= steps
        self.episode_return -= steps * reward

    def advance(self, obs: np.ndarray, steps: int = 1) -> None:
        """Count control steps, at most those left in the episode; `obs` is the observation after the last of them."""
        steps = min(steps, self._max_steps - self.step)
        seen = torch.from_numpy(obs)
        self.step += steps
        self.reward = float(self._task.reward(seen, self._no_action, self.goal))
        self.distance_m = float(self._task.distance(seen, self.goal))
        self.episode_return += steps * self.reward
        self._success.update(bool(self._task.is_within(seen, self.goal)), steps)
