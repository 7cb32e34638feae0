"""A gripper over a table and one body, moved by the tool's twist."""

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots import RobotProfile
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.twist import TWIST_SIZE, TwistConfig, TwistResolver
from mbrl_ros.spaces.tabletop import GRIP
from mbrl_ros.spaces.tool_frame import ToolFrame
from mbrl_ros.types import ArmCommand, RobotState, body_joint_names

#: Speeds of a body, m/s and rad/s, beyond which observations are cut off: what slips from between the fingers flies off at any
#: speed, and of a body on its side yaw has no rate; a few such numbers would set the scale of everything learned.
_FASTEST_BODY = np.array([1.0, 1.0, 1.0, 10.0])


class ToolSpace:
    """A gripper over a table, and one body: the tool's position and yaw, the opening, the body's position and yaw.

    An action is the tool's twist (x, y, z, yaw) in units of `TwistConfig`'s speeds, and the opening to take, -1 for closed
    and 1 for open.

    Args:
        robot: Arm with a gripper.
        kinematics: Chain of the same robot.
        body: Name of the tracked body.
        config: Speeds, and how joints follow.

    Raises:
        ConfigError: The robot has no gripper.

    Attributes:
        tilt: Entries of an observation that say how the tool is tilted, 0 where it points down; None as twists keep it upright.
        home: Where the joints of an observation are wanted, rad; empty as twists keep them there.
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
        """See `ActionSpace.action`; without an opening in the command the gripper counts as told to stay as it is."""
        q = state.positions(self._robot.joints)
        return np.array([*(self._resolver.twist(command.velocity, q) / self._resolver.scale), self._grip(command, state)])

    def of_twist(self, action: np.ndarray, state: RobotState) -> np.ndarray:
        """The action, shape (A,), that amounts in a state to a twist and an opening as an expert shows them, shape (5,)."""
        return action

    def largest_change(self, acceleration_scale: float, period_s: float) -> np.ndarray:
        """See `ActionSpace.largest_change`; the opening may change as it likes, the gripper limits itself."""
        twist = self._resolver.max_acceleration * acceleration_scale * period_s / self._resolver.scale
        return np.array([*twist, 2.0])

    def directions(self, obs: np.ndarray) -> np.ndarray | None:
        """See `Space.directions`."""
        return None

    def _opening(self, grip: float) -> float:
        """What an action's last entry tells the gripper, m."""
        closed, opened = self._gripper.closed_m, self._gripper.open_m
        return closed + 0.5 * (float(grip) + 1.0) * (opened - closed)

    def _grip(self, command: ArmCommand, state: RobotState) -> float:
        """The last entry of the action that a command amounted to."""
        opening = state.positions([self._gripper.name])[0] if command.opening_m is None else command.opening_m
        closed, opened = self._gripper.closed_m, self._gripper.open_m
        return float(np.clip(2.0 * (opening - closed) / (opened - closed) - 1.0, -1.0, 1.0))
