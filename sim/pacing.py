"""Steps at absolute times of a steady clock, so that delays do not add up."""


class Pacer:
    """Says which steps are due.

    Args:
        rate_hz: Steps a second.
        now_s: Steady time of the start; step k = 1, 2, … is due at `now_s + k / rate_hz`.
        max_behind_s: Longest backlog; older steps are skipped and counted.
    """

    def __init__(self, rate_hz: float, now_s: float, max_behind_s: float = 0.1) -> None:
        self._rate_hz = rate_hz
        self._origin_s = now_s
        self._max_behind = max(1, round(max_behind_s * rate_hz))
        self._count = 0
        self.num_skipped = 0

    def due(self, now_s: float) -> list[float]:
        """Lateness, s, of each step that is due by now, oldest first; the steps count as done."""
        reached = int((now_s - self._origin_s) * self._rate_hz)
        skipped = max(0, reached - self._count - self._max_behind)
        self.num_skipped += skipped
        first = self._count + skipped + 1
        self._count = max(self._count, reached)
        return [now_s - self._deadline(step) for step in range(first, reached + 1)]

    def wait_s(self, now_s: float) -> float:
        """Time until the next step is due, s; at least zero."""
        return max(0.0, self._deadline(self._count + 1) - now_s)

    def _deadline(self, step: int) -> float:
        return self._origin_s + step / self._rate_hz
