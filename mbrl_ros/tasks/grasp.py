"""The common part of tasks with a grasp: the reward's terms, and the goals within reach."""

import dataclasses

import numpy as np
import torch

from mbrl_ros.config import Config, section, setting
from mbrl_ros.spaces.tabletop import BODY, BODY_YAW, GRIP, OPENING, TOOL, TOOL_YAW
from mbrl_ros.tasks.terms import TableRewardConfig, TableTask, hypotenuse, length

#: A cube looks the same after a quarter turn.
_SYMMETRY = 4


@dataclasses.dataclass(frozen=True)
class GraspWeights(Config):
    """Weights of the reward's terms; 0 switches a term off. They may change between any two plans."""

    approach: float = setting(5.0, 'Cost of each metre between the tool and the way down to the body.', low=0.0, live=True)
    near: float = setting(1.0, 'Reward for the tool being at the body, gone within some near_m.', low=0.0, live=True)
    open: float = setting(1.0, 'Cost of a closed gripper away from the body.', low=0.0, live=True)
    close: float = setting(2.0, 'Reward for a gripper that is closed, and told to close, at the body.', low=0.0, live=True)
    align: float = setting(0.3, "Cost of fingers that are not along the body's sides.", low=0.0, live=True)
    goal: float = setting(20.0, 'Cost of each metre between the body and its goal.', low=0.0, live=True)
    still: float = setting(4.0, "Cost of the body's squared speed near the goal.", low=0.0, live=True)
    effort: float = setting(0.02, 'Cost of the squared action.', low=0.0, live=True)
    upright: float = setting(10.0, "Cost of the tool's squared tilt; zero with twists.", low=0.0, live=True)
    posture: float = setting(0.5, "Cost of the joints' mean squared distance from home; zero with twists.", low=0.0, live=True)
    clearance: float = setting(5.0, 'Cost of the tool nearing the lowest allowed height.', low=0.0, live=True)


@dataclasses.dataclass(frozen=True)
class GraspConfig(TableRewardConfig):
    """Settings of the reward."""

    held_m: float = setting(0.012, 'Distance within which the tool is at the body; fingers hold a body anywhere between them.',
                            unit='m', low=0.0, high=1.0)
    near_m: float = setting(0.02, 'Distance beyond held_m over which the near term falls off.', unit='m', low=1e-3, high=1.0)
    weights: GraspWeights = section(GraspWeights, 'Weights of the reward.')


class GraspTask(TableTask):
    """A task in which the gripper grasps the body; a subclass defines the goal of the body."""

    rewards = ('near', 'close')

    def goal_refusal(self, goal_m: np.ndarray) -> str:
        """Why the arm cannot bring the body there; goals on the table are allowed; see `Task.goal_refusal`."""
        point = np.array(goal_m, dtype=np.float64)
        if point.shape == (3,) and np.isfinite(point).all() and point[2] >= self._workspace.lowest_tool_m:
            point[2] = max(point[2], self._workspace.lower_m[2])
        return self._workspace.refusal(point)

    def values(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms before weighting; see `Task.values`."""
        config = self.config
        offset = obs[..., BODY] - obs[..., TOOL]
        near = 1.0 - torch.tanh((length(offset) - config.held_m).clamp(min=0.0) / config.near_m)
        closed = 1.0 - obs[..., OPENING] / self._opened_m
        left, beside = self.distance(obs, goal), length(offset[..., :2])
        return {
            'approach': hypotenuse(beside, offset[..., 2] + config.height_kept(beside - config.held_m)),
            'near': near,
            'open': closed.clamp(min=0.0) * (1.0 - near),
            'close': near * 0.5 * (closed + 0.5 * (1.0 - action[..., GRIP])),
            'align': 1.0 - torch.cos(_SYMMETRY * (obs[..., BODY_YAW] - obs[..., TOOL_YAW])),
            'goal': left,
            **self.common_values(obs, action, 1.0 - torch.tanh(left / config.settled_m)),
        }
