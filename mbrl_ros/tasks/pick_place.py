"""Pick and place: grasp the body and bring it to a place, in the air or on the table."""

import numpy as np
import torch

from mbrl_ros.robots import RobotProfile
from mbrl_ros.spaces.joint_tool import table_space
from mbrl_ros.spaces.tabletop import BODY
from mbrl_ros.tasks.grasp import GraspConfig, GraspTask
from mbrl_ros.tasks.task import draw_goal
from mbrl_ros.tasks.terms import length
from mbrl_ros.types import RobotState

#: Where goals are drawn: over the part of the table where bodies are put, as high as this.
_REGION_M = ((0.35, -0.25), (0.65, 0.25))
_HEIGHTS_M = (0.1, 0.3)
_ON_TABLE = 0.5
_LEAST_WAY_M = 0.08


class PickPlaceTask(GraspTask):
    """Body within 4 cm of the goal, for half a second."""

    name = 'pick_place'
    goal_tolerance_m = 0.04
    settle_s = 0.5

    @classmethod
    def of_robot(cls, robot: RobotProfile, config: GraspConfig | None = None,
                 actions: str = 'twist') -> 'PickPlaceTask':
        """Pick-and-place task of a robot, with the default reward where none is given; actions as for `table_space`."""
        return cls(robot, table_space(robot, actions), config or GraspConfig())

    def sample_goal(self, rng: np.random.Generator, state: RobotState) -> np.ndarray:
        """Every second one on the table, the others above it, none where the body is already; see `Task.sample_goal`."""
        place = self.space.observe(state)[BODY]

        def propose() -> np.ndarray:
            height = place[2] if rng.random() < _ON_TABLE else rng.uniform(*_HEIGHTS_M)
            return np.array([*rng.uniform(*_REGION_M), height])

        return draw_goal(propose, lambda goal: np.linalg.norm(goal[:2] - place[:2]) >= _LEAST_WAY_M
                         and not self.goal_refusal(goal))

    def gap(self, achieved: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Between the body's centre and the goal; see `Task.gap`."""
        return length(achieved - goal)
