"""Ticks at absolute moments of the steady clock; a tick that was missed is skipped, never caught up."""

import math
import threading
import time
from collections.abc import Iterator


def steady_ticks(period_s: float, stop: threading.Event) -> Iterator[int]:
    """Wait for each tick in turn until `stop` is set; yields the number of ticks skipped so far."""
    start_s, index, skipped = time.monotonic(), 0, 0
    while not stop.is_set():
        yield skipped
        due = math.ceil((time.monotonic() - start_s) / period_s)
        skipped += max(due - index - 1, 0)
        index = max(index + 1, due)
        stop.wait(max(start_s + index * period_s - time.monotonic(), 0.0))
