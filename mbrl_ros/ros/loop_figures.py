"""Figures of the control loop over its last seconds."""

import collections
import threading

import numpy as np


class LoopFigures:
    """Remembers the last ticks; written by the control thread, read by the diagnostics timer.

    Args:
        window: Number of ticks remembered.
    """

    def __init__(self, window: int = 200) -> None:
        self._lock = threading.Lock()
        self._series: dict[str, collections.deque] = collections.defaultdict(lambda: collections.deque(maxlen=window))

    def add(self, **values: float) -> None:
        """Add a value to each named series; NaN stands for none."""
        with self._lock:
            for name, value in values.items():
                if np.isfinite(value):
                    self._series[name].append(value)

    def percentile(self, name: str, percent: float) -> float:
        """Percentile of a series; NaN while it is empty."""
        with self._lock:
            values = list(self._series[name])
        return float(np.percentile(values, percent)) if values else float('nan')

    def deviation(self, name: str) -> float:
        """Standard deviation of a series; NaN while it is empty."""
        with self._lock:
            values = list(self._series[name])
        return float(np.std(values)) if values else float('nan')
