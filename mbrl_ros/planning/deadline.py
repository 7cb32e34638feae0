"""Time for a plan: whether another of its parts ends before the deadline."""

import math
from collections.abc import Callable

import torch

from mbrl_ros.errors import PlanningError


class Deadline:
    """Decides after each part of a plan whether there is time for more; its first part always has time.

    Args:
        deadline_s: Time allowed from now on; None for no limit.
        finish_s: What is left for the end of the plan, after its last part.
        clock: Seconds, monotonic.
        device: Device that computes; its work counts when it has finished.

    Raises:
        PlanningError: The deadline is NaN.

    Attributes:
        begin: When the plan began.
        ended: When its last part ended; `begin` before the first.
    """

    def __init__(self, deadline_s: float | None, finish_s: float, clock: Callable[[], float],
                 device: torch.device | str = 'cpu') -> None:
        if deadline_s is not None and math.isnan(deadline_s):
            raise PlanningError('deadline_s needs a number of seconds, or None for no deadline, got nan')
        self._clock, self._slowest_s = clock, 0.0
        self._stream = torch.cuda.current_stream(device) if torch.device(device).type == 'cuda' else None
        self.begin = self.ended = clock()
        self._end = math.inf if deadline_s is None else self.begin + deadline_s - finish_s

    def leaves(self, parts: int) -> bool:
        """Whether so many more parts end in time, each as slow as the slowest so far."""
        return self._end - self.ended >= parts * self._slowest_s

    def end_part(self) -> None:
        """Note that a part has ended."""
        if self._stream is not None and self._end < math.inf:
            self._stream.synchronize()
        now = self._clock()
        self._slowest_s, self.ended = max(self._slowest_s, now - self.ended), now
