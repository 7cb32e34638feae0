"""The arm alone: joint positions and velocities."""

import functools

import numpy as np

from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.spaces.joint_view import JointView
from mbrl_ros.types import ArmCommand, RobotState


class JointSpace:
    """Joint positions and velocities; an action is joint velocities in units of the limits of the profile `robot`."""

    name, version, has_velocities, is_directed = 'joint', 1, True, False

    def __init__(self, robot: RobotProfile) -> None:
        self.state_names = self.action_names = self.raw_names = robot.joints
        self.robot, self.frame = robot, None
        self._limits = np.array(robot.max_velocity_rad_s)
        self._acceleration = np.array(robot.max_acceleration_rad_s2)

    @functools.cached_property
    def view(self) -> JointView:
        """What a learned policy sees; raises ConfigError if the robot's URDF has no such chain."""
        return JointView(KinematicChain.of_robot(self.robot))

    def observe(self, state: RobotState) -> np.ndarray:
        """See `ActionSpace.observe`."""
        return state.obs(self.state_names)

    def command(self, action: np.ndarray, state: RobotState) -> ArmCommand:
        """See `ActionSpace.command`."""
        return ArmCommand(action * self._limits)

    def action(self, command: ArmCommand, state: RobotState) -> np.ndarray:
        """See `ActionSpace.action`."""
        return command.velocity / self._limits

    def largest_change(self, acceleration_scale: float, period_s: float) -> np.ndarray:
        """See `ActionSpace.largest_change`; the command filter allows the same change."""
        return self._acceleration * acceleration_scale * period_s / self._limits

    def directions(self, obs: np.ndarray) -> None:
        """See `Space.directions`."""
