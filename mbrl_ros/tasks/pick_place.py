"""Pick and place: grasp the body and bring it to a place, in the air or on the table."""

import numpy as np
import torch

from mbrl_ros.spaces.tabletop import BODY
from mbrl_ros.tasks.grasp import GraspTask
from mbrl_ros.tasks.task import draw_goal
from mbrl_ros.tasks.terms import REGION_M, length
from mbrl_ros.types import RobotState

#: Heights of goals in the air, share of goals on the table, and least distance of a goal from the body over the table.
_HEIGHTS_M, _ON_TABLE, _LEAST_WAY_M = (0.1, 0.3), 0.5, 0.08


class PickPlaceTask(GraspTask):
    """Body within 4 cm of the goal for half a second."""

    name = 'pick_place'
    goal_tolerance_m = 0.04
    settle_s = 0.5

    def sample_goal(self, rng: np.random.Generator, state: RobotState) -> np.ndarray:
        """A point on the table or, with equal chance, above it, away from the body; see `Task.sample_goal`."""
        place = self.space.observe(state)[BODY]

        def propose() -> np.ndarray:
            height = place[2] if rng.random() < _ON_TABLE else rng.uniform(*_HEIGHTS_M)
            return np.array([*rng.uniform(*REGION_M), height])

        return draw_goal(propose, lambda goal: np.linalg.norm(goal[:2] - place[:2]) >= _LEAST_WAY_M
                         and not self.goal_refusal(goal))

    def gap(self, achieved: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Distance between the body's centre and the goal; see `Task.gap`."""
        return length(achieved - goal)
