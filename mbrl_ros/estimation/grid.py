"""Which states are due when stamps drive the estimator instead of a clock."""

import numpy as np


class StampGrid:
    """Grid times, the multiples of a period, each returned once and in order.

    Args:
        period_ns: Distance of the grid times.
        max_due: Most grid times that one call returns; after a leap in time older ones are skipped.
    """

    def __init__(self, period_ns: int, max_due: int = 100) -> None:
        self._period_ns, self._max_due = period_ns, max_due
        self._next: int | None = None

    @property
    def next_ns(self) -> int | None:
        """The next grid time; None before the first call of `due`."""
        return None if self._next is None else self._next * self._period_ns

    def due(self, until_ns: int) -> list[int]:
        """Grid times not returned yet, up to and including `until_ns`; the first call returns only the newest."""
        newest = until_ns // self._period_ns
        first = newest if self._next is None else max(self._next, newest - self._max_due + 1)
        if first > newest:
            return []
        self._next = newest + 1
        return [index * self._period_ns for index in range(first, newest + 1)]

    def restart(self) -> None:
        """Forget which grid times were returned, as when simulated time starts again."""
        self._next = None


class LockstepSchedule:
    """Says which grid times are due while simulated time waits for the state.

    A state is due once every entry has a measurement that is not older. So the measurements behind a state never depend on the
    order of arrival. After `patience_s` the schedule ignores a silent entry until it has a new measurement.

    Args:
        period_ns: Distance of the grid times.
        patience_s: Longest wait for an entry, wall time.
    """

    def __init__(self, period_ns: int, patience_s: float) -> None:
        self._grid = StampGrid(period_ns)
        self._patience_s = patience_s
        self._received_ns: np.ndarray | None = None
        self._silent_ns: np.ndarray | None = None
        self._waiting_since_s: float | None = None

    def due(self, received_ns: np.ndarray, clock_ns: int, wall_s: float) -> list[int]:
        """Grid times to publish now, oldest first.

        Args:
            received_ns: Newest stamp received for each entry, shape (S,), or -1; an older stamp than at the last call means that
                simulated time has started again.
            clock_ns: Newest known simulated time.
            wall_s: Steady wall time.
        """
        before, self._received_ns = self._received_ns, received_ns
        if before is not None and (received_ns < before).any():
            self._grid.restart()
            self._silent_ns = self._waiting_since_s = None
        if (received_ns < 0).any():
            return []
        newest = max(int(received_ns.max()), clock_ns)
        waited_for = np.ones(len(received_ns), dtype=bool) if self._silent_ns is None else received_ns != self._silent_ns
        if self._silent_ns is not None:
            self._silent_ns = np.where(waited_for, -1, self._silent_ns)
        due = self._grid.due(int(received_ns[waited_for].min()) if waited_for.any() else newest)
        if due or newest < self._grid.next_ns:
            self._waiting_since_s = None
        elif self._waiting_since_s is None:
            self._waiting_since_s = wall_s
        elif wall_s - self._waiting_since_s >= self._patience_s:
            self._waiting_since_s = None
            self._silent_ns = np.where(received_ns < self._grid.next_ns, received_ns, -1)
            due = self._grid.due(newest)
        return due
