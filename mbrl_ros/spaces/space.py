"""What an agent sees and how it moves: the pure functions between a raw state, observations, actions and commands.

The state stays raw and task-free. The same functions serve training and planning, so old bags stay useful when spaces change.
"""

from typing import Protocol

import numpy as np

from mbrl_ros.robots import RobotProfile
from mbrl_ros.spaces.frame import Frame
from mbrl_ros.types import ArmCommand, RobotState


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
    frame: Frame | None
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


def state_at_home(robot: RobotProfile, space: ActionSpace) -> RobotState:
    """A raw state to try things out with: the arm at home, the gripper open, bodies at the origin, everything at rest."""
    known = dict(zip(robot.joints, robot.home_rad))
    if robot.gripper:
        known[robot.gripper.name] = robot.gripper.open_m
    return RobotState(0, space.raw_names, np.array([known.get(name, 0.0) for name in space.raw_names]),
                      np.zeros(len(space.raw_names)))
