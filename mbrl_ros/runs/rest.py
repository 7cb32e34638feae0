"""Whether the arm stands, and whether it is at home: by positions on control ticks, because a measured velocity is noisy."""

from collections import deque

import numpy as np

from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import RobotState

_NANOSECONDS = 1_000_000_000


class RestWatch:
    """Watches the arm in a phase that waits for it.

    Args:
        robot: Joints and home.
        standing_rad: Motion of a joint within `standing_steps` up to which the arm stands.
        standing_steps: Control steps in which it has to stand.
        home_tolerance_rad: Joint error up to which the arm is at home.
    """

    def __init__(self, robot: RobotProfile, *, standing_rad: float, standing_steps: int, home_tolerance_rad: float) -> None:
        self._robot, self._standing_rad, self._tolerance_rad = robot, standing_rad, home_tolerance_rad
        self._places: deque[np.ndarray] = deque(maxlen=standing_steps + 1)

    def restart(self, state: RobotState) -> None:
        """Begin to watch with this state."""
        self._places.clear()
        self._start_ns = self._gained_ns = state.stamp_ns
        self._least_rad = np.inf
        self.note(state)

    def note(self, state: RobotState) -> None:
        """Take the state of the next control tick."""
        self._newest_ns = state.stamp_ns
        self._places.append(state.positions(self._robot.joints))
        away_rad = self._errors.max()
        if away_rad < self._least_rad - self._tolerance_rad:
            self._least_rad, self._gained_ns = away_rad, state.stamp_ns

    @property
    def elapsed_s(self) -> float:
        """Time watched, by the stamps."""
        return (self._newest_ns - self._start_ns) / _NANOSECONDS

    @property
    def stands(self) -> bool:
        """Whether no joint has moved for `standing_steps`."""
        return len(self._places) == self._places.maxlen and self._motion.max() <= self._standing_rad

    @property
    def is_home(self) -> bool:
        """Whether every joint is at home."""
        return self._errors.max() <= self._tolerance_rad

    @property
    def stuck_s(self) -> float:
        """Time since the arm came nearer to home by more than the tolerance."""
        return (self._newest_ns - self._gained_ns) / _NANOSECONDS

    def describe(self, *, on_the_way_home: bool) -> str:
        """The joint that keeps the arm from being at home, or from standing, with figures."""
        if on_the_way_home and not self.is_home:
            joint, error = self._worst(self._errors)
            return f'{joint} is {error:.2f} rad from home (tolerance {self._tolerance_rad:g})'
        joint, motion = self._worst(self._motion)
        return (f'{joint} moved by {motion:.3f} rad in the last {len(self._places) - 1} control steps '
                f'(standing: at most {self._standing_rad:g})')

    @property
    def _errors(self) -> np.ndarray:
        return np.abs(self._robot.way_home(self._places[-1]))

    @property
    def _motion(self) -> np.ndarray:
        return np.ptp(self._places, axis=0)

    def _worst(self, values: np.ndarray) -> tuple[str, float]:
        index = int(values.argmax())
        return self._robot.joints[index], float(values[index])
