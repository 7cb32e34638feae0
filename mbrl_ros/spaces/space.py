"""What an agent sees and how it moves: the pure functions between a raw state, observations, actions and commands.

The state stays raw and task-free. The same functions serve training and planning, so old bags stay useful when spaces change.
"""

from typing import Protocol

import numpy as np

from mbrl_ros.robots import RobotProfile
from mbrl_ros.spaces.frame import Frame
from mbrl_ros.types import ArmCommand, RobotState


class Space(Protocol):
    """What an agent and its learner know of a space; of an environment's it is all that there is.

    Attributes:
        name: What it is called in contracts.
        version: Counts changes of its functions and features; what was learned in another version does not fit.
        state_names: Entries of an observation: their positions, then their velocities.
        action_names: The A entries of an action.
        has_velocities: Whether an observation has velocities; otherwise it is the entries alone.
        frame: What the dynamics of observations are learned in; None for as they are.
        is_directed: Whether actions that are worth trying are made of several entries together, as `directions` says.
    """

    name: str
    version: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    has_velocities: bool
    frame: Frame | None
    is_directed: bool

    def directions(self, obs: np.ndarray) -> np.ndarray | None:
        """What actions are tried along when one is looked for, as columns, shape (A, A), invertible.

        None where not `is_directed`.

        Args:
            obs: Where, shape (O,).
        """


class ActionSpace(Space, Protocol):
    """Observations and actions of an arm.

    Attributes:
        raw_names: Entries of the raw state that observations are made from.
    """

    raw_names: tuple[str, ...]

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


def state_at_home(robot: RobotProfile, space: ActionSpace) -> RobotState:
    """A raw state to try things out with: the arm at home, the gripper open, bodies at the origin, everything at rest."""
    known = dict(zip(robot.joints, robot.home_rad))
    if robot.gripper:
        known[robot.gripper.name] = robot.gripper.open_m
    return RobotState(0, space.raw_names, np.array([known.get(name, 0.0) for name in space.raw_names]),
                      np.zeros(len(space.raw_names)))
