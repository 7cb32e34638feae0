"""Transitions as growing arrays, oldest first, with a bound on memory."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.types import Transition

_FIRST_ALLOCATION = 1024


class TransitionArrays(NamedTuple):
    """N transitions, oldest first; read-only.

    Attributes:
        obs: Shape (N, O).
        action: Shape (N, A).
        next_obs: Shape (N, O).
        stamp_ns: Shape (N,), int64.
        episode: Shape (N,), int64.
    """

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    stamp_ns: np.ndarray
    episode: np.ndarray


class TransitionDataset:
    """First in, first out store of the newest `capacity` transitions; appending costs amortised constant time.

    Rows once written are never overwritten: a full buffer is replaced, not reused. So arrays handed to another thread
    stay what they were.

    Args:
        obs_size: O.
        action_size: A.
        capacity: Most transitions kept.
        dtype: Of observations and actions.

    Raises:
        ConfigError: The capacity is below 1.
    """

    def __init__(self, obs_size: int, action_size: int, capacity: int = 100_000, dtype: type = np.float64) -> None:
        if capacity < 1:
            raise ConfigError(f'a dataset needs a capacity of at least 1, got {capacity}')
        self._shapes = ((obs_size,), (action_size,), (obs_size,), (), ())
        self._dtypes = (dtype, dtype, dtype, np.int64, np.int64)
        self._capacity = capacity
        self._buffers = self._allocate(min(_FIRST_ALLOCATION, 2 * capacity))
        self._start = self._end = 0
        self.num_dropped = 0

    def __len__(self) -> int:
        return self._end - self._start

    def append(self, transition: Transition) -> None:
        """Add one transition; the oldest goes when the dataset is full.

        Raises:
            ShapeError: Observation or action of another size.
        """
        row = tuple(np.asarray(value) for value in (
            transition.obs, transition.action, transition.next_obs, transition.stamp_ns, transition.episode))
        shapes = tuple(value.shape for value in row)
        if shapes != self._shapes:
            raise ShapeError(f'transition has obs, action, next_obs of shapes {shapes[:3]}, the dataset holds {self._shapes[:3]}')
        if self._end == len(self._buffers[0]):
            self._move()
        for buffer, value in zip(self._buffers, row):
            buffer[self._end] = value
        self._end += 1
        if len(self) > self._capacity:
            self._start += 1
            self.num_dropped += 1

    def extend(self, transitions: Iterable[Transition]) -> None:
        """Append each in order; raises like `append`."""
        for transition in transitions:
            self.append(transition)

    def arrays(self) -> TransitionArrays:
        """All transitions as read-only views; later appends do not change them."""
        views = [buffer[self._start:self._end] for buffer in self._buffers]
        for view in views:
            view.flags.writeable = False
        return TransitionArrays(*views)

    def _allocate(self, rows: int) -> tuple[np.ndarray, ...]:
        return tuple(np.empty((rows, *shape), dtype) for shape, dtype in zip(self._shapes, self._dtypes))

    def _move(self) -> None:
        # Twice the rows in use: the next move is at least as many appends away.
        kept = self.arrays()
        self._buffers = self._allocate(2 * max(len(self), 1))
        self._start, self._end = 0, len(kept.obs)
        for buffer, values in zip(self._buffers, kept):
            buffer[:self._end] = values
