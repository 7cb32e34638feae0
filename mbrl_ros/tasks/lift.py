"""Lift: grasp the body, raise it and hold it there."""

import numpy as np
import torch

from mbrl_ros.spaces.tabletop import BODY
from mbrl_ros.tasks.grasp import GraspTask
from mbrl_ros.types import RobotState

#: Height of the goal above the body at rest. The body succeeds 10 cm up already, so it may waver within the tolerance.
_RISE_M = 0.15


class LiftTask(GraspTask):
    """Body up by 10 cm for a second; its x and y do not matter."""

    name = 'lift'
    goal_tolerance_m = 0.05
    settle_s = 1.0

    def sample_goal(self, rng: np.random.Generator, state: RobotState) -> np.ndarray:
        """A point straight above the body; see `Task.sample_goal`."""
        return self.space.observe(state)[BODY] + np.array([0.0, 0.0, _RISE_M])

    def gap(self, achieved: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Missing height; see `Task.gap`."""
        return (goal[..., 2] - achieved[..., 2]).clamp(min=0.0)
