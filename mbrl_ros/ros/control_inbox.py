"""Newest inputs of the controller; the executor's thread puts them in, the control thread takes them out."""

import dataclasses
import threading
import time

from mbrl_ros.control.tick import Received
from mbrl_ros.types import Phase, RobotState


class ControlInbox:
    """One slot for each input; a callback fills one, the control thread reads all at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest = Received()
        self._last_tick: tuple[int, Phase, int] | None = None

    def put(self, **values: object) -> None:
        """Replace the named fields of `Received`."""
        with self._changed:
            self._newest = dataclasses.replace(self._newest, **values)
            self._changed.notify_all()

    def put_state(self, state: RobotState, clock_ns: int | None = None) -> None:
        """Replace the state, unless `state` is older; `clock_ns` is as for `RobotState.precedes_clock_reset`."""
        with self._changed:
            current = self._newest.state
            if current is None or state.stamp_ns > current.stamp_ns or state.precedes_clock_reset(current, clock_ns):
                self._newest = dataclasses.replace(self._newest, state=state, state_received_s=time.monotonic())
                self._changed.notify_all()

    def newest(self) -> Received:
        """All inputs at one moment; immutable, so newer values do not change it."""
        with self._changed:
            return self._newest

    def wait_for_tick(self, timeout_s: float) -> Received | None:
        """In lockstep, wait until the newest state has a report, its model and its demonstration; None after `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(self._tick_is_due, timeout_s):
                return None
            self._last_tick = self._tick_key()
            return self._newest

    def _tick_key(self) -> tuple[int, Phase, int] | None:
        report = self._newest.report
        return None if report is None else (report.stamp_ns, report.phase, report.start_ns)

    def _tick_is_due(self) -> bool:
        newest, report = self._newest, self._newest.report
        if newest.state is None or report is None or newest.state.stamp_ns != report.stamp_ns:
            return False
        shown = newest.demonstrated
        if report.phase is Phase.DEMONSTRATED and (shown is None or shown.stamp_ns != report.stamp_ns):
            return False
        version = newest.agent.version if newest.agent else 0
        if report.phase is Phase.RUNNING and not newest.bundle_refused and version < report.model_version:
            return False
        return self._tick_key() != self._last_tick
