"""Tells a jump from an outlier: outliers scatter, a world that was put back stays where it was put."""

import numpy as np


class JumpDetector:
    """Counts, for each of C channels, the refused measurements in a row that agree with one another.

    Args:
        agreement: How far apart two readings of a thing at rest may be, shape (C,).
        max_velocity: How fast the thing may move, shape (C,).
        needed: Readings that make a jump.
    """

    def __init__(self, agreement: np.ndarray, max_velocity: np.ndarray, needed: int) -> None:
        self._agreement, self._max_velocity, self._needed = agreement, max_velocity, needed
        self._count = np.zeros(len(agreement), dtype=int)
        self._position = np.zeros(len(agreement))
        self._stamp_ns = np.zeros(len(agreement), dtype=np.int64)

    def note(self, channels: np.ndarray, accepted: np.ndarray, stamp_ns: int, position: np.ndarray, *,
             together: bool = False) -> np.ndarray:
        """Note one measurement of some channels.

        Args:
            channels: The n measured channels, each once.
            accepted: Which of them took it in, shape (n,), bool.
            stamp_ns: Time of the measurement.
            position: Measured positions, shape (n,).
            together: Whether the channels jump as one or not at all.

        Returns:
            Which channels have jumped with this measurement, shape (n,), bool; their count starts again.
        """
        elapsed = (stamp_ns - self._stamp_ns[channels]) * 1e-9
        within = self._agreement[channels] + self._max_velocity[channels] * elapsed
        agrees = np.abs(position - self._position[channels]) <= within
        count = np.where(accepted, 0, np.where(agrees, self._count[channels] + 1, 1))
        jumped = count >= self._needed
        if together:
            jumped[:] = jumped.all()
        self._count[channels] = np.where(jumped, 0, count)
        self._position[channels] = position
        self._stamp_ns[channels] = stamp_ns
        return jumped
