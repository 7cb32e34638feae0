"""What a task plans in: how a raw state looks to it, and what its actions mean to the driver.

The state stays raw and task-free. A space is the pure function between it and a planner, the same one in training and in
planning, so that bags stay useful when spaces change.
"""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots import RobotProfile
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.twist import TWIST_SIZE, TwistConfig, TwistResolver
from mbrl_ros.tasks.tabletop import GRIP
from mbrl_ros.tasks.tool_frame import ToolFrame
from mbrl_ros.types import ArmCommand, RobotState, body_joint_names

if TYPE_CHECKING:
    from mbrl_ros.learning.framed import Frame

#: Speeds of a body, m/s and rad/s, beyond which observations are cut off: what slips from between the fingers flies off at any
#: speed, and of a body on its side yaw has no rate; a few such numbers would set the scale of everything learned.
_FASTEST_BODY = np.array([1.0, 1.0, 1.0, 10.0])


class ActionSpace(Protocol):
    """Observations and actions of a task.

    Attributes:
        state_names: Entries of an observation: their positions, then their velocities.
        action_names: Entries of an action.
        raw_names: Entries of the raw state that observations are made from.
        frame: What the dynamics of observations are learned in; None for as they are.
        is_directed: Whether actions that are worth trying are made of several entries together, as `directions` says.
    """

    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    raw_names: tuple[str, ...]
    frame: 'Frame | None'
    is_directed: bool

    def observe(self, state: RobotState) -> np.ndarray:
        """Observation of a raw state, shape (O,), O = 2 * len(state_names).

        Raises:
            MeasurementError: The state lacks an entry of `raw_names`.
        """

    def command(self, action: np.ndarray, state: RobotState) -> ArmCommand:
        """What an action, shape (A,), within [-1, 1], asks of an arm in a state."""

    def action(self, command: ArmCommand, state: RobotState) -> np.ndarray:
        """The action, shape (A,), that a command amounted to in a state; inverse of `command` where the arm could obey."""

    def largest_change(self, acceleration_scale: float, period_s: float) -> np.ndarray:
        """Largest change of an action that is planned with, shape (A,).

        Args:
            acceleration_scale: Share of the profile's acceleration limits that may be used.
            period_s: Control period.
        """

    def directions(self, obs: np.ndarray) -> np.ndarray | None:
        """What actions are tried along when one is looked for, as columns, shape (A, A), invertible.

        None where not `is_directed`.

        Args:
            obs: Where, shape (O,).
        """


class JointSpace:
    """Joint positions and velocities; an action is the joint velocities in units of the profile's limits.

    Args:
        robot: Joints and limits.
    """

    is_directed = False

    def __init__(self, robot: RobotProfile) -> None:
        self.state_names = self.action_names = self.raw_names = robot.joints
        self.frame = None
        self._limits = np.array(robot.max_velocity_rad_s)
        self._acceleration = np.array(robot.max_acceleration_rad_s2)

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
        """See `ActionSpace.largest_change`; what the command filter lets an action change by."""
        return self._acceleration * acceleration_scale * period_s / self._limits

    def directions(self, obs: np.ndarray) -> None:
        """See `ActionSpace.directions`."""


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

    is_directed = False

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
        """See `ActionSpace.directions`."""
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


def state_at_home(robot: RobotProfile, space: ActionSpace) -> RobotState:
    """A raw state to try things out with: the arm at home, the gripper open, bodies at the origin, everything at rest."""
    known = dict(zip(robot.joints, robot.home_rad))
    if robot.gripper:
        known[robot.gripper.name] = robot.gripper.open_m
    return RobotState(0, space.raw_names, np.array([known.get(name, 0.0) for name in space.raw_names]),
                      np.zeros(len(space.raw_names)))
