"""Newest inputs of the command guard; the executor's thread puts them in, the guard's thread takes them out.

In lockstep the newest joint state tells the time as well as `/clock`, which may come seldom.
"""

import threading
import time

from mbrl_ros.types import AppliedCommand, RobotState

#: In lockstep, waits in vain for a joint state of the time on the clock, after which the sensor counts as slow and older states
#: will do. A message may be late on a busy machine; if that ended the wait, commands would depend on the machine.
_PATIENCE = 5
#: In lockstep, longest time by which the clock is behind the joint states.
_CLOCK_LAG_NS = 100_000_000
#: Share of a period that is a whole one, as stamps are rounded.
_WHOLE = 0.99


class GuardInbox:
    """One slot for each input.

    Args:
        period_ns: Period of the guard.
        control_period_ns: Control period; in lockstep a command is followed for so long.
        latency_ns: From a command's sending to the arm obeying it, which the stamps of commands contain.
    """

    def __init__(self, period_ns: int, control_period_ns: int, latency_ns: int) -> None:
        self._changed = threading.Condition()
        self._period_ns, self._control_period_ns, self._latency_ns = period_ns, control_period_ns, latency_ns
        self._state: RobotState | None = None
        self._command: tuple[AppliedCommand, float] | None = None
        #: When the command in force begins and ends, in simulated time.
        self._lasts_ns = 0, 0
        self._clock_ns = self._done_ns = -1
        self._lag_ns = self._vain_waits = 0

    def put_state(self, state: RobotState) -> None:
        """Replace the joint state; one of the past is taken where the clock was set back."""
        with self._changed:
            newest = self._state
            is_next = newest is None or state.stamp_ns > newest.stamp_ns
            if is_next or state.precedes_clock_reset(newest) or self._is_of_before(newest):
                if state.stamp_ns > self._now_ns():
                    self._vain_waits = 0
                self._state = state
                self._changed.notify_all()

    def put_command(self, command: AppliedCommand) -> None:
        """Replace the command."""
        with self._changed:
            self._command = command, time.monotonic()
            begin_ns = command.stamp_ns - self._latency_ns
            self._lasts_ns = begin_ns, begin_ns + self._control_period_ns
            self._changed.notify_all()

    def put_clock(self, clock_ns: int) -> None:
        """Take the simulator's time; with a clock that was set back, another world begins."""
        with self._changed:
            if clock_ns < self._clock_ns:
                self._done_ns, self._state = -1, None
            before_ns, self._clock_ns = self._now_ns(), clock_ns
            if self._now_ns() != before_ns:
                self._vain_waits = 0
                self._changed.notify_all()

    def newest(self) -> tuple[RobotState | None, tuple[AppliedCommand, float] | None]:
        """Newest joint state, and a command that has come since the last call, with the steady time of its arrival."""
        with self._changed:
            command, self._command = self._command, None
            return self._state, command

    def wait_for_state(self, since_ns: int, timeout_s: float) -> None:
        """Wait until the arm has been measured at `since_ns` or later, but not longer than `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._state is not None and self._state.stamp_ns >= since_ns, timeout_s)

    def wait_for_step(self, timeout_s: float) -> int | None:
        """In lockstep, wait until a command lasts and the arm was measured; simulated time, or None after `timeout_s`."""
        with self._changed:
            if self._changed.wait_for(self._step_is_due, timeout_s):
                self._done_ns = self._now_ns()
                return self._done_ns
            if self._state is not None and self._is_owed():
                self._vain_waits += 1
                if self._vain_waits == _PATIENCE:
                    self._lag_ns = self._now_ns() - self._state.stamp_ns
            return None

    def step_again(self) -> None:
        """Make the last step due again, as it did not move time."""
        with self._changed:
            self._done_ns = -1

    def is_unanswered(self) -> bool:
        """In lockstep, whether time still stands where the last step was decided."""
        with self._changed:
            return self._now_ns() == self._done_ns

    def short_step(self) -> tuple[int, int] | None:
        """In lockstep, where the last command was sent and where time stands now, ns, if that is less than a period later."""
        with self._changed:
            is_short = 0 <= self._done_ns < self._now_ns() < self._done_ns + _WHOLE * self._period_ns
            return (self._done_ns, self._now_ns()) if is_short else None

    def _now_ns(self) -> int:
        return self._clock_ns if self._state is None else max(self._clock_ns, self._state.stamp_ns)

    def _is_of_before(self, state: RobotState) -> bool:
        """Whether a state is of a world that was put back, and came after the new world's clock."""
        return 0 <= self._clock_ns < state.stamp_ns - _CLOCK_LAG_NS

    def _is_owed(self) -> bool:
        """Whether the command in force lasts for another period, which was not decided yet.

        A command of a world that was put back begins later than the clock. A simulator may measure several times in a period.
        """
        (begin_ns, end_ns), now_ns = self._lasts_ns, self._now_ns()
        is_next = self._done_ns < 0 or now_ns - self._done_ns >= _WHOLE * self._period_ns
        return is_next and begin_ns <= now_ns < end_ns - self._period_ns // 2

    def _step_is_due(self) -> bool:
        return self._state is not None and self._is_owed() and self._now_ns() - self._state.stamp_ns <= self._lag_ns
