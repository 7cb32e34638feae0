"""The world that a task is played in, as a run knows it: an arm that obeys at once. Whoever starts a run says how one is made."""

from typing import Protocol

import numpy as np

from mbrl_ros.robots import RobotProfile
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.types import RobotState


class TaskWorld(Protocol):
    """An arm, and perhaps an object on a table; equal seeds and equal commands give equal states.

    Attributes:
        kinematics: Of the arm.
    """

    kinematics: KinematicChain

    def reset(self, seed: int | None = None) -> RobotState:
        """Put the arm at home at rest and what is drawn by the seed on the table; the state then, stamped 0."""

    def step(self, velocity: np.ndarray, opening_m: float | None = None) -> RobotState:
        """Drive the arm for one control period; the state after it.

        Args:
            velocity: Of the joints, shape (J,), rad/s.
            opening_m: That the fingers move to; None leaves them moving to what they were told last.
        """

    def show_goal(self, position: np.ndarray) -> None:
        """Mark a position (3,), m, in pictures."""

    def render(self, width: int, height: int) -> np.ndarray:
        """Picture, shape (height, width, 3), uint8."""

    def close(self) -> None:
        """Leave the world; it cannot be used afterwards."""


class WorldMaker(Protocol):
    """Makes a world; a function of a module, so that processes that are started can have it too."""

    def __call__(self, robot: RobotProfile, *, is_tabletop: bool, object_kind: str, control_hz: float) -> TaskWorld:
        """Make it.

        Args:
            robot: Profile of the arm.
            is_tabletop: Whether there is an object on a table.
            object_kind: What lies there.
            control_hz: Control rate.

        Raises:
            ConfigError: There is no such object, or robot or rate cannot be had.
        """
