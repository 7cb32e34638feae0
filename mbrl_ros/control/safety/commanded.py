"""Where the joints would be had they obeyed at once: the integral of the velocities that were sent."""

import numpy as np


class CommandedMotion:
    """Commanded velocities of the recent past, each in force until the next, and the motion that they add up to.

    Args:
        num_joints: J.
        memory_s: How far back it is asked.
    """

    def __init__(self, num_joints: int, memory_s: float) -> None:
        self._memory_ns = round(memory_s * 1e9)
        self._num_joints = num_joints
        self.reset()

    def reset(self) -> None:
        """Forget everything: the joints were told to stand since ever."""
        self._starts = np.empty(0, dtype=np.int64)
        self._places = self._velocities = np.empty((0, self._num_joints))

    def told(self, start_ns: int, velocity: np.ndarray) -> None:
        """Note a velocity, shape (J,), rad/s, in force from `start_ns` on; times never go back."""
        place = np.zeros((1, self._num_joints))
        if len(self._starts):
            place = self._places[-1:] + max(start_ns - self._starts[-1], 0) * 1e-9 * self._velocities[-1]
        first = max(int(np.searchsorted(self._starts, start_ns - self._memory_ns)) - 1, 0)
        self._starts = np.append(self._starts[first:], start_ns)
        self._places = np.concatenate([self._places[first:], place])
        self._velocities = np.concatenate([self._velocities[first:], velocity[None]])

    def displacements(self, stamps_ns: np.ndarray) -> np.ndarray:
        """Commanded positions at times (K,), ns, relative to where the oldest command began, shape (K, J), rad."""
        if not len(self._starts):
            return np.zeros((len(stamps_ns), self._num_joints))
        index = np.maximum(np.searchsorted(self._starts, stamps_ns, side='right') - 1, 0)
        elapsed = np.maximum(stamps_ns - self._starts[index], 0)[:, None] * 1e-9
        return self._places[index] + elapsed * self._velocities[index]
