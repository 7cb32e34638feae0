"""Which control steps of an episode the arm was held in, from what the controller says of its ticks."""

from collections import deque
from typing import NamedTuple

#: If the controller has said nothing for so long, it is not there, and the command guard holds the arm.
_SILENCE_NS = 500_000_000


class CountedSteps(NamedTuple):
    """Control steps between two states.

    Attributes:
        begin_ns: When the first began.
        end_ns: When the last ended.
        count: How many they are.
        reward: Reward of each.
    """

    begin_ns: int
    end_ns: int
    count: int
    reward: float


class HoldRecord:
    """Keeps counted steps and the controller's words until it is certain which of them belong together.

    It answers by stamps alone. A controller that was never heard holds nothing.
    """

    def __init__(self) -> None:
        self._steps: deque[CountedSteps] = deque()
        self._words: dict[int, bool] = {}

    def count(self, steps: CountedSteps) -> None:
        """Take steps that are counted as if the arm was not held."""
        self._steps.append(steps)

    def note(self, stamp_ns: int, is_held: bool) -> None:
        """Take what the controller said of its tick at a stamp; of two words on one tick the later counts."""
        self._words[stamp_ns] = is_held

    def take_held(self, now_ns: int) -> list[CountedSteps]:
        """Steps that ended before now and in which the arm was held throughout; each once.

        Steps that end now are left to the next call: what the controller said of them may not have arrived yet.
        """
        held = []
        while self._steps and self._steps[0].end_ns < now_ns:
            steps = self._steps.popleft()
            held += [steps] if self._is_held(steps.begin_ns, steps.end_ns) else []
        return held

    def clear(self) -> None:
        """Forget everything, as when the clock was set back."""
        self._steps.clear()
        self._words.clear()

    def _is_held(self, begin_ns: int, end_ns: int) -> bool:
        before_ns = max((stamp_ns for stamp_ns in self._words if stamp_ns <= begin_ns), default=None)
        if before_ns is not None:
            self._words = {stamp_ns: is_held for stamp_ns, is_held in self._words.items() if stamp_ns >= before_ns}
        within = [is_held for stamp_ns, is_held in self._words.items() if begin_ns <= stamp_ns < end_ns]
        if within or before_ns is None:
            return bool(within) and all(within)
        return self._words[before_ns] or begin_ns - before_ns > _SILENCE_NS
