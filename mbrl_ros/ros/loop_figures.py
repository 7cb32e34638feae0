"""Statistics of the control loop over its last ticks."""

import collections
import threading

import numpy as np


class LoopFigures:
    """Named series over the last `window` ticks; the control thread writes them, the diagnostics timer reads them."""

    def __init__(self, window: int = 200) -> None:
        self._lock = threading.Lock()
        self._series: dict[str, collections.deque] = collections.defaultdict(lambda: collections.deque(maxlen=window))

    def add(self, **values: float) -> None:
        """Add a value to each named series, unless the value is not finite."""
        with self._lock:
            for name, value in values.items():
                if np.isfinite(value):
                    self._series[name].append(value)

    def percentile(self, name: str, percent: float) -> float:
        """Percentile of a series; NaN while it is empty."""
        return float(np.percentile(self._values(name), percent))

    def deviation(self, name: str) -> float:
        """Standard deviation of a series; NaN while it is empty."""
        return float(np.std(self._values(name)))

    def _values(self, name: str) -> list[float]:
        with self._lock:
            return list(self._series[name]) or [float('nan')]
