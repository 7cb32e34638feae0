"""Joint states of a driver as the command guard uses them: raw, of the arm alone, with velocities whatever the driver sends."""

from collections.abc import Sequence

import numpy as np

from mbrl_ros.errors import MeasurementError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import RobotState

#: Share of the old velocity that a difference of positions leaves, where the driver sends no velocities.
_MEMORY = 0.5


class MeasuredJoints:
    """Makes states of joint state messages, whatever their order.

    Args:
        robot: Names the joints, and says which of them turn without end: their angles go on through half turns, from what the
            driver says first.
    """

    def __init__(self, robot: RobotProfile) -> None:
        self._robot, self._joints = robot, robot.joints
        self._last: RobotState | None = None

    def state(self, stamp_ns: int, names: Sequence[str], position: Sequence[float],
              velocity: Sequence[float]) -> RobotState | None:
        """State of the arm's joints, or None for a message that lacks some of them, as that of a gripper.

        Args:
            stamp_ns: Stamp of the message.
            names: Its joints, in any order.
            position: One number a joint, rad.
            velocity: Likewise, rad/s; empty or NaN where the driver does not measure them.

        Raises:
            MeasurementError: A position of the arm is missing or not finite.
        """
        index = {name: place for place, name in enumerate(names)}
        if not all(joint in index for joint in self._joints):
            return None
        order = [index[joint] for joint in self._joints]
        if len(position) != len(names):
            raise MeasurementError(f'joint state has {len(names)} names but {len(position)} positions')
        places = np.array(position, dtype=np.float64)[order]
        if not np.isfinite(places).all():
            raise MeasurementError(f'position of {self._joints[int(np.argmin(np.isfinite(places)))]} is not finite')
        if self._last is not None:
            places = self._robot.unwrapped(places, self._last.position)
        speeds = np.array(velocity, dtype=np.float64)[order] if len(velocity) == len(names) else np.full(len(order), np.nan)
        if not np.isfinite(speeds).all():
            speeds = self._difference(stamp_ns, places)
        self._last = RobotState(stamp_ns, self._joints, places, speeds)
        return self._last

    def _difference(self, stamp_ns: int, places: np.ndarray) -> np.ndarray:
        """Smoothed velocity from two positions, shape (J,); zero before there are two."""
        last = self._last
        if last is None or stamp_ns <= last.stamp_ns:
            return np.zeros(len(places)) if last is None else last.velocity
        return _MEMORY * last.velocity + (1.0 - _MEMORY) * (places - last.position) / ((stamp_ns - last.stamp_ns) * 1e-9)
