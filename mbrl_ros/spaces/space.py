"""The protocols of spaces: pure functions between raw states, observations, actions and commands.

The state stays raw and task-free, so old bags stay useful when spaces change.
"""

from typing import Protocol

import numpy as np

from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.spaces.frame import Frame
from mbrl_ros.types import ArmCommand, RobotState


class Space(Protocol):
    """What an agent and its learner know of a space; spaces of environments have nothing else.

    Attributes:
        name: Name in contracts.
        version: Counts changes of functions and features; a model of another version is refused.
        state_names: Entries of an observation: their positions, then their velocities.
        action_names: The A entries of an action.
        has_velocities: Whether an observation has velocities; otherwise it has the entries alone.
        frame: Frame in which the dynamics are learned; None learns them on observations directly.
        is_directed: Whether `directions` returns directions to search actions along.

    A space may have an attribute `relations`: entries (from, to) of an observation whose differences matter, shape (2, K, G),
    for a policy that imitates. It may have a `view`, what a learned policy sees, see `view.view_of`. It may have `bounded_names`:
    entries that a frame leaves as they are, of which plans count on no larger values than experience has. One of finitely many
    states and actions has a `numbering`, a `Numbering`.
    """

    name: str
    version: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    has_velocities: bool
    frame: Frame | None
    is_directed: bool

    def directions(self, obs: np.ndarray) -> np.ndarray | None:
        """Directions to search actions along at an observation, shape (O,): columns of an invertible matrix, shape (A, A).

        None unless `is_directed`. For example, the columns of a space of joint velocities each move the tool along one axis.
        """


class ActionSpace(Space, Protocol):
    """Observations and actions of an arm.

    Attributes:
        raw_names: Entries of the raw state that observations need.
    """

    raw_names: tuple[str, ...]

    def observe(self, state: RobotState) -> np.ndarray:
        """Observation of a raw state, shape (O,), O = 2 * len(state_names).

        Raises:
            MeasurementError: The state lacks an entry of `raw_names`.
        """

    def command(self, action: np.ndarray, state: RobotState) -> ArmCommand:
        """Command of an action, shape (A,), within [-1, 1], for an arm in a state; raises like `observe`."""

    def action(self, command: ArmCommand, state: RobotState) -> np.ndarray:
        """Action, shape (A,), of a command in a state; inverse of `command` if the arm can follow it. Raises like `observe`."""

    def largest_change(self, acceleration_scale: float, period_s: float) -> np.ndarray:
        """Largest change of an action within one step for the planner, shape (A,).

        Args:
            acceleration_scale: Share of the acceleration limits to use.
            period_s: Control period.
        """


def state_at_home(robot: RobotProfile, space: ActionSpace) -> RobotState:
    """Raw state for trials: the arm at home, the gripper open, bodies at the origin, everything at rest."""
    known = dict(zip(robot.joints, robot.home_rad))
    if robot.gripper:
        known[robot.gripper.name] = robot.gripper.open_m
    return RobotState(0, space.raw_names, np.array([known.get(name, 0.0) for name in space.raw_names]),
                      np.zeros(len(space.raw_names)))
