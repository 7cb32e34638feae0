"""The common part of tasks over a table: settings, reward terms, and their geometry."""

import dataclasses

import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.spaces.joint_tool import table_space
from mbrl_ros.spaces.tabletop import BODY, BODY_VELOCITY, TILT, TOOL
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.tasks.task import Task

#: Where goals are drawn, x and y in metres: the part of the table on which bodies are placed.
REGION_M = ((0.35, -0.25), (0.65, 0.25))
#: Keeps the slope of a distance finite at zero.
_TINY = 1e-6


@dataclasses.dataclass(frozen=True)
class TableRewardConfig(Config):
    """How the tool descends to its working point, and how the body comes to rest."""

    descent_m: float = setting(0.1, 'Largest height that the tool keeps above its working point while beside it; 0 for none.',
                               unit='m', low=0.0, high=0.5)
    descent_slope: float = setting(2.0, 'Height that the tool keeps for each metre beside the working point, up to descent_m.',
                                   low=0.0, high=100.0)
    settled_m: float = setting(0.05, 'Distance from the goal over which the body has to slow down.', unit='m', low=1e-3, high=1.0)
    clearance_m: float = setting(0.008, 'Height above the lowest allowed where its cost begins.', unit='m', low=1e-4, high=1.0)

    def height_kept(self, beside: torch.Tensor) -> torch.Tensor:
        """Wanted height of the tool above its working point, m, for its distance beside it, m, both of shape (...).

        A tool that approaches from the side would push the body.
        """
        return (self.descent_slope * beside).clamp(min=0.0, max=self.descent_m)


class TableTask(Task):
    """A task over a table: the goal is a position of the body.

    Args:
        robot: Arm with a gripper, and its workspace.
        space: How the task observes the scene.
        config: Settings of the reward; a subclass of `TableRewardConfig` with a section `weights`.
    """

    def __init__(self, robot: RobotProfile, space: ToolSpace, config: TableRewardConfig) -> None:
        super().__init__(space, config.weights)
        self.config = config
        self._workspace, self._opened_m = robot.workspace, robot.gripper.open_m

    @classmethod
    def of_robot(cls, robot: RobotProfile, config: TableRewardConfig, actions: str) -> 'TableTask':
        """Task of a robot; `actions` and errors as for `table_space`."""
        return cls(robot, table_space(robot, actions), config)

    def achieved(self, obs: torch.Tensor) -> torch.Tensor:
        """The body's centre; see `Task.achieved`."""
        return obs[..., BODY]

    def paths(self, obs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Positions of tool and body; see `Task.paths`."""
        return {'tool': obs[..., TOOL], 'object': obs[..., BODY]}

    def common_values(self, obs: torch.Tensor, action: torch.Tensor, near_goal: torch.Tensor) -> dict[str, torch.Tensor]:
        """The last terms of every table task before weighting, `still` to `clearance`, each of shape (...).

        Args:
            obs: Shape (..., O).
            action: Shape (..., A).
            near_goal: From 1 at the goal to 0 far away, shape (...).
        """
        home, tilt, zero = self.space.home, self.space.tilt, torch.zeros_like(obs[..., 0])
        joints = obs[..., TILT.stop:TILT.stop + len(home)].unbind(dim=-1)
        room = (obs[..., TOOL][..., 2] - self._workspace.lowest_tool_m) / self.config.clearance_m
        return {
            'still': near_goal * obs[..., BODY_VELOCITY].square().sum(dim=-1),
            'effort': action.square().mean(dim=-1),
            # Squared sine of the angle between approach axis and vertical.
            'upright': zero if tilt is None else obs[..., tilt].square().sum(dim=-1),
            'posture': sum(((q - rest).square() for q, rest in zip(joints, home)), zero) / max(len(home), 1),
            'clearance': (1.0 - room).clamp(min=0.0).square(),
        }


def length(vector: torch.Tensor) -> torch.Tensor:
    """Euclidean length along the last axis, with a finite slope at zero."""
    return (vector.square().sum(dim=-1) + _TINY).sqrt()


def hypotenuse(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Hypotenuse of two legs, with a finite slope at zero."""
    return (one.square() + other.square() + _TINY).sqrt()
