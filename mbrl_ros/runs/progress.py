"""How far an episode of a task has come: the one place where steps become return, distance and success."""

import numpy as np
import torch

from mbrl_ros.tasks import SuccessCounter, Task


class TaskProgress:
    """Steps, return, distance and success of one episode.

    The return is the sum of the states' rewards: what an action costs by itself is left out, as against the wall clock nobody but
    the controller knows in time which one was applied.

    Args:
        task: The task.
        period_s: Control period.
        max_steps: Control steps after which the episode ends.

    Attributes:
        goal: What is pursued, shape (3,), metres.
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
        """Whether the episode ends here, with success or by its number of steps."""
        return self.success or self.step >= self._max_steps

    def begin(self, goal: np.ndarray, obs: np.ndarray) -> None:
        """Begin an episode with a goal, shape (3,), at an observation, shape (O,)."""
        self.step, self.reward, self.episode_return = 0, 0.0, 0.0
        self.aim(goal)
        self.distance_m = float(self._task.distance(torch.from_numpy(obs), goal))

    def aim(self, goal: np.ndarray) -> None:
        """Pursue another goal from here on; it has to be held anew."""
        self.goal = np.asarray(goal, dtype=float)
        self._success.reset()

    def advance(self, obs: np.ndarray, steps: int = 1) -> None:
        """Count control steps, of which only the last one's observation was seen; no more than the episode has left."""
        steps = min(steps, self._max_steps - self.step)
        seen = torch.from_numpy(obs)
        self.step += steps
        self.reward = float(self._task.reward(seen, self._no_action, self.goal))
        self.distance_m = float(self._task.distance(seen, self.goal))
        self.episode_return += steps * self.reward
        self._success.update(bool(self._task.is_within(seen, self.goal)), steps)
