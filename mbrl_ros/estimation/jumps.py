"""Tells a jump from an outlier: outliers scatter, while readings after a jump agree with each other."""

import numpy as np


class JumpDetector:
    """Counts, for each of C channels, the refused measurements in a row that agree with one another.

    Args:
        agreement: Largest distance between two readings of a channel at rest, shape (C,).
        max_velocity: Largest speed of each channel, shape (C,).
        needed: Number of agreeing readings that make a jump.
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
            accepted: Which of them the filter has accepted, shape (n,), bool.
            stamp_ns: Time of the measurement.
            position: Measured positions, shape (n,).
            together: Whether either all n channels jump or none.

        Returns:
            Which channels have jumped, shape (n,), bool; their count starts again.
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
