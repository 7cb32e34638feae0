"""Reach: move the tool to a point and stay there."""

import dataclasses

import numpy as np
import torch

from mbrl_ros.config import Config, section, setting
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.tasks.task import Task
from mbrl_ros.types import RobotState


@dataclasses.dataclass(frozen=True)
class ReachWeights(Config):
    """Weights of the reward's terms; 0 switches a term off. They may change between any two plans."""

    distance: float = setting(5.0, 'Cost of each metre from the goal.', low=0.0, live=True)
    precision: float = setting(1.0, 'Reward for being at the goal, gone within some precision_m.', low=0.0, live=True)
    speed: float = setting(0.5, 'Cost of joint speed near the goal.', low=0.0, live=True)
    effort: float = setting(0.01, 'Cost of the squared action.', low=0.0, live=True)
    limits: float = setting(1.0, 'Cost of nearing a joint limit.', low=0.0, live=True)
    posture: float = setting(1.0, 'Cost of leaving home; keeps spare joints off their limits.', low=0.0, live=True)
    clearance: float = setting(5.0, 'Cost of the tool nearing the lowest allowed height.', low=0.0, live=True)


@dataclasses.dataclass(frozen=True)
class ReachGoalConfig(Config):
    """When the goal is reached."""

    tolerance_m: float = setting(0.02, 'Largest distance that counts as reached.', unit='m', low=1e-4, high=1.0)
    settle_s: float = setting(0.25, 'Time within tolerance on end that makes a success.', unit='s', low=0.0, high=60.0)


@dataclasses.dataclass(frozen=True)
class ReachConfig(Config):
    """Settings of the reward."""

    precision_m: float = setting(0.05, 'Distance over which the precision term falls off.', unit='m', low=1e-4, high=1.0)
    limit_margin_rad: float = setting(0.2, 'Distance from a joint limit where its cost begins.', unit='rad', low=1e-3, high=2.0)
    clearance_m: float = setting(0.02, 'Height above the lowest allowed where its cost begins.', unit='m', low=1e-4, high=1.0)
    weights: ReachWeights = section(ReachWeights, 'Weights of the reward.')


class ReachTask(Task):
    """Tool at a goal in the robot's workspace; `kinematics` is the chain of the robot."""

    name = 'reach'
    rewards = ('precision',)

    def __init__(self, robot: RobotProfile, kinematics: KinematicChain, config: ReachConfig,
                 goal: ReachGoalConfig | None = None) -> None:
        super().__init__(JointSpace(robot), config.weights)
        self.config = config
        goal = goal or ReachGoalConfig()
        self.goal_tolerance_m, self.settle_s = goal.tolerance_m, goal.settle_s
        self._kinematics, self._robot = kinematics, robot
        self._placed: dict[tuple[torch.dtype, torch.device], tuple[torch.Tensor, ...]] = {}

    @classmethod
    def of_robot(cls, robot: RobotProfile, config: ReachConfig | None = None, goal: ReachGoalConfig | None = None) -> 'ReachTask':
        """Reach task of a robot, by default with the default settings; raises ConfigError if its URDF has no such chain."""
        return cls(robot, KinematicChain.of_robot(robot), config or ReachConfig(), goal)

    def sample_goal(self, rng: np.random.Generator, state: RobotState) -> np.ndarray:
        """A point in the workspace; see `Task.sample_goal`."""
        return self._robot.workspace.sample(rng)

    def goal_refusal(self, goal_m: np.ndarray) -> str:
        """See `Task.goal_refusal`."""
        return self._robot.workspace.refusal(goal_m)

    def achieved(self, obs: torch.Tensor) -> torch.Tensor:
        """The tool's position; see `Task.achieved`."""
        return self._kinematics.position(obs[..., :self.action_size])

    def paths(self, obs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Position of the tool; see `Task.paths`."""
        return {'tool': self.achieved(obs)}

    def gap(self, achieved: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Distance between the tool and the goal; see `Task.gap`."""
        return (achieved - goal).norm(dim=-1)

    def values(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms before weighting; see `Task.values`."""
        config, (lower, upper, home, half_range, max_velocity) = self.config, self._constants(obs)
        q, tool = obs[..., :self.action_size], self.achieved(obs)
        distance = (tool - goal).norm(dim=-1)
        near = 1.0 - torch.tanh(distance / config.precision_m)
        speed = (obs[..., self.action_size:] / max_velocity).square().mean(dim=-1)
        room = torch.minimum(q - lower, upper - q)
        low = (1.0 - (tool[..., 2] - self._robot.workspace.lowest_link_m) / config.clearance_m).clamp(min=0.0)
        return {
            'distance': distance,
            'precision': near,
            'speed': near * speed,
            'effort': action.square().mean(dim=-1),
            'limits': (1.0 - room / config.limit_margin_rad).clamp(min=0.0).square().sum(dim=-1),
            'posture': ((q - home) / half_range).square().mean(dim=-1),
            'clearance': low.square(),
        }

    def _constants(self, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Position limits, home, half the range and velocity limits of the joints, each of shape (J,).

        They are copied once for each dtype and device, because a copy to a GPU within a plan would stall the host.
        """
        key = like.dtype, like.device
        if key not in self._placed:
            with torch.inference_mode(False):
                robot = self._robot
                lower, upper = torch.tensor(robot.position_lower_rad), torch.tensor(robot.position_upper_rad)
                constants = (lower, upper, torch.tensor(robot.home_rad), 0.5 * (upper - lower),
                             torch.tensor(robot.max_velocity_rad_s))
                self._placed[key] = tuple(values.to(like) for values in constants)
        return self._placed[key]
