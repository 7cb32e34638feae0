"""Where the joints would be had they obeyed at once: the integral of the velocities that were sent."""

from collections import deque

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
        self._starts: deque[int] = deque()
        self._velocities: deque[np.ndarray] = deque()
        self._places: deque[np.ndarray] = deque()

    def told(self, start_ns: int, velocity: np.ndarray) -> None:
        """Note a velocity, shape (J,), rad/s, in force from `start_ns` on; times never go back."""
        place = self.displacements(np.array([start_ns]))[0]
        self._starts.append(start_ns)
        self._velocities.append(np.array(velocity))
        self._places.append(place)
        while len(self._starts) > 2 and self._starts[1] < start_ns - self._memory_ns:
            for entries in (self._starts, self._velocities, self._places):
                entries.popleft()

    def displacements(self, stamps_ns: np.ndarray) -> np.ndarray:
        """Commanded positions at times (K,), ns, relative to where the oldest command began, shape (K, J), rad."""
        if not self._starts:
            return np.zeros((len(stamps_ns), self._num_joints))
        starts = np.array(self._starts)
        index = np.maximum(np.searchsorted(starts, stamps_ns, side='right') - 1, 0)
        elapsed = np.maximum(stamps_ns - starts[index], 0)[:, None] * 1e-9
        return np.array(self._places)[index] + elapsed * np.array(self._velocities)[index]
