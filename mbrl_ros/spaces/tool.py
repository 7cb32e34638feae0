"""A gripper over a table and one body, moved by the tool's twist."""

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.robots.twist import TWIST_SIZE, TwistConfig, TwistResolver
from mbrl_ros.spaces.tabletop import GRIP
from mbrl_ros.spaces.tool_frame import ToolFrame
from mbrl_ros.spaces.tool_view import ToolView
from mbrl_ros.spaces.view import View
from mbrl_ros.types import ArmCommand, RobotState, body_joint_names

#: Largest observed speeds of a body, m/s and rad/s. A body that slips out of the fingers may have any speed, and the yaw rate
#: of a body on its side is undefined; a few outliers would otherwise dominate the model's normalisation.
_FASTEST_BODY = np.array([1.0, 1.0, 1.0, 10.0])


class ToolSpace:
    """A gripper over a table and one body, moved by the tool's twist.

    An observation has the tool's position and yaw, the opening, and the body's position and yaw, then their rates. An action is
    the tool's twist (x, y, z, yaw) in units of `TwistConfig`'s speeds, then the opening, from -1 for closed to 1 for open.

    Args:
        robot: Arm with a gripper.
        kinematics: Chain of the same robot.
        body: Name of the tracked body.
        config: Speeds of the tool, and gains of the joints.

    Raises:
        ConfigError: The robot has no gripper.

    Attributes:
        tilt: Entries of an observation with the tool's tilt, 0 if it points down; None here, where twists keep it upright.
        view: What a policy sees.
        home: Home of the joints in an observation, rad; empty here, where twists keep them near it.
    """

    name, version, has_velocities, is_directed = 'tool', 1, True, False

    def __init__(self, robot: RobotProfile, kinematics: KinematicChain, body: str = 'object',
                 config: TwistConfig | None = None) -> None:
        if robot.gripper is None:
            raise ConfigError(f'{robot.name} has no gripper, which a task over a table needs')
        self._robot, self._gripper = robot, robot.gripper
        self._resolver = TwistResolver(robot, kinematics, config)
        self._body = tuple(f'{body}_{axis}' for axis in ('x', 'y', 'z', 'yaw'))
        self.state_names = ('tool_x', 'tool_y', 'tool_z', 'tool_yaw', robot.gripper.name, *self._body)
        self.action_names = ('twist_x', 'twist_y', 'twist_z', 'twist_yaw', robot.gripper.name)
        self.raw_names = (*robot.state_names, *body_joint_names(body))
        self.frame = ToolFrame()
        self.view: View = ToolView(self.frame)
        self.tilt: slice | None = None
        self.home: tuple[float, ...] = ()

    def observe(self, state: RobotState) -> np.ndarray:
        """See `ActionSpace.observe`."""
        q, speed = state.positions(self._robot.joints), state.velocities(self._robot.joints)
        others = (self._gripper.name, *self._body)
        rates = state.velocities(others)
        rates[1:] = np.clip(rates[1:], -_FASTEST_BODY, _FASTEST_BODY)
        return np.concatenate([self._resolver.pose(q), state.positions(others), self._resolver.twist(speed, q), rates])

    def command(self, action: np.ndarray, state: RobotState) -> ArmCommand:
        """See `ActionSpace.command`."""
        q = state.positions(self._robot.joints)
        velocity = self._resolver.joint_velocity(action[:TWIST_SIZE] * self._resolver.scale, q)
        return ArmCommand(velocity, self._opening(action[GRIP]))

    def action(self, command: ArmCommand, state: RobotState) -> np.ndarray:
        """See `ActionSpace.action`; without an opening in the command the action has the present opening."""
        q = state.positions(self._robot.joints)
        return np.array([*(self._resolver.twist(command.velocity, q) / self._resolver.scale), self._grip(command, state)])

    def of_twist(self, action: np.ndarray, state: RobotState) -> np.ndarray:
        """Action, shape (A,), of an expert's twist and opening, shape (5,), in a state."""
        return action

    def largest_change(self, acceleration_scale: float, period_s: float) -> np.ndarray:
        """See `ActionSpace.largest_change`; the opening may change at will, because the gripper limits its own speed."""
        twist = self._resolver.max_acceleration * acceleration_scale * period_s / self._resolver.scale
        return np.array([*twist, 2.0])

    def directions(self, obs: np.ndarray) -> np.ndarray | None:
        """See `Space.directions`."""
        return None

    def _opening(self, grip: float) -> float:
        """Opening of an action's last entry, m."""
        closed, opened = self._gripper.closed_m, self._gripper.open_m
        return closed + 0.5 * (float(grip) + 1.0) * (opened - closed)

    def _grip(self, command: ArmCommand, state: RobotState) -> float:
        """Last entry of a command's action."""
        opening = state.positions([self._gripper.name])[0] if command.opening_m is None else command.opening_m
        closed, opened = self._gripper.closed_m, self._gripper.open_m
        return float(np.clip(2.0 * (opening - closed) / (opened - closed) - 1.0, -1.0, 1.0))
