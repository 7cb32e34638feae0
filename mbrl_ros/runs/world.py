"""The world of a task as a run knows it, without physics engine; whoever starts a run passes a `WorldMaker`."""

from typing import Protocol

import numpy as np

from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import RobotState


class TaskWorld(Protocol):
    """An arm that obeys at once, and perhaps an object on a table; equal seeds and commands give equal states."""

    kinematics: KinematicChain

    def reset(self, seed: int | None = None) -> RobotState:
        """Put the arm at home at rest and the object where the seed says; returns the state, stamped 0."""

    def step(self, velocity: np.ndarray, opening_m: float | None = None) -> RobotState:
        """Drive the arm for one control period and return the state after it.

        Args:
            velocity: Joint velocities, shape (J,), rad/s.
            opening_m: New opening of the gripper; None keeps the last one.
        """

    def show_goal(self, position: np.ndarray) -> None:
        """Mark a position (3,), m, in pictures."""

    def render(self, width: int, height: int) -> np.ndarray:
        """Picture, shape (height, width, 3), uint8."""

    def close(self) -> None:
        """Close the world; it cannot be used afterwards."""


class WorldMaker(Protocol):
    """Makes a world; has to be a function of a module, so that worker processes can import it."""

    def __call__(self, robot: RobotProfile, *, is_tabletop: bool, object_kind: str, control_hz: float) -> TaskWorld:
        """Make a world at a control rate; with `is_tabletop` it has a table with an object on it.

        Raises:
            ConfigError: The object does not exist, or the robot or rate cannot be simulated.
        """
