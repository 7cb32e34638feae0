"""Newest inputs of the controller, handed from the executor's thread to the control thread."""

import dataclasses
import threading
import time

from mbrl_ros.control.tick import Received
from mbrl_ros.types import Phase, RobotState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Newest(Received):
    """The newest value of each input; immutable, so the control thread keeps it while newer ones arrive.

    Attributes:
        state_received_s: When the state was received, steady seconds.
    """

    state_received_s: float = 0.0


class ControlInbox:
    """One slot for each input; a callback puts, the control thread takes all at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest = Newest()
        self._last_tick: tuple[int, Phase, int] | None = None

    def put(self, **values: object) -> None:
        """Replace the named fields of `Newest`."""
        with self._changed:
            self._newest = dataclasses.replace(self._newest, **values)
            self._changed.notify_all()

    def put_state(self, state: RobotState, clock_ns: int | None = None) -> None:
        """Replace the state, unless it is late.

        Args:
            state: The state.
            clock_ns: As for `RobotState.precedes_clock_reset`.
        """
        with self._changed:
            current = self._newest.state
            if current is None or state.stamp_ns > current.stamp_ns or state.precedes_clock_reset(current, clock_ns):
                self._newest = dataclasses.replace(self._newest, state=state, state_received_s=time.monotonic())
                self._changed.notify_all()

    def newest(self) -> Newest:
        """All inputs at one moment."""
        with self._changed:
            return self._newest

    def wait_for_tick(self, timeout_s: float) -> Newest | None:
        """Lockstep: wait for a report on the newest state, not acted on yet, and for what it needs; None when the time is up."""
        with self._changed:
            if not self._changed.wait_for(self._tick_is_due, timeout_s):
                return None
            self._last_tick = self._tick_key()
            return self._newest

    def _tick_key(self) -> tuple[int, Phase, int] | None:
        report = self._newest.report
        return None if report is None else (report.stamp_ns, report.phase, report.start_ns)

    def _tick_is_due(self) -> bool:
        newest = self._newest
        if newest.state is None or newest.report is None or newest.state.stamp_ns != newest.report.stamp_ns:
            return False
        if newest.report.phase is Phase.DEMONSTRATED and not self._is_shown():
            return False
        if newest.report.phase is Phase.RUNNING and not newest.bundle_refused:
            return self._version() >= newest.report.model_version and self._tick_key() != self._last_tick
        return self._tick_key() != self._last_tick

    def _version(self) -> int:
        agent = self._newest.agent
        return agent.version if agent else 0

    def _is_shown(self) -> bool:
        """Whether somebody has shown what to do in the newest state."""
        shown = self._newest.demonstrated
        return shown is not None and shown.stamp_ns == self._newest.report.stamp_ns
