"""Lift: grasp the body, raise it and hold it there."""

import numpy as np
import torch

from mbrl_ros.robots import RobotProfile
from mbrl_ros.spaces.joint_tool import table_space
from mbrl_ros.spaces.tabletop import BODY
from mbrl_ros.tasks.grasp import GraspConfig, GraspTask
from mbrl_ros.types import RobotState

#: How high the goal is above where the body lies; within tolerance of it the body is up by 10 cm. The rest is room to waver in.
_RISE_M = 0.15


class LiftTask(GraspTask):
    """Body up by 10 cm, for a second; where to does not matter."""

    name = 'lift'
    goal_tolerance_m = 0.05
    settle_s = 1.0

    @classmethod
    def of_robot(cls, robot: RobotProfile, config: GraspConfig | None = None,
                 actions: str = 'twist') -> 'LiftTask':
        """Lift task of a robot, with the default reward where none is given; actions as for `table_space`."""
        return cls(robot, table_space(robot, actions), config or GraspConfig())

    def sample_goal(self, rng: np.random.Generator, state: RobotState) -> np.ndarray:
        """Straight above the body; see `Task.sample_goal`."""
        place = self.space.observe(state)[BODY]
        return np.array([place[0], place[1], place[2] + _RISE_M])

    def gap(self, achieved: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Height that is missing; see `Task.gap`."""
        return (goal[..., 2] - achieved[..., 2]).clamp(min=0.0)
