"""Newest inputs of the command guard; the executor's thread puts them in, the guard's thread takes them out."""

import threading
import time

from mbrl_ros.types import AppliedCommand, RobotState

#: In lockstep, longest wait for a joint state of the time on the clock; joint states of a slow sensor are older.
_PATIENCE_S = 0.02


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
        self._until_ns = 0
        self._clock_ns = self._done_ns = -1
        self._clocked_s = 0.0
        self._lag_ns = 0

    def put_state(self, state: RobotState) -> None:
        """Replace the joint state; one of the past is taken where the clock was set back."""
        with self._changed:
            if self._state is None or state.stamp_ns > self._state.stamp_ns or state.precedes_clock_reset(self._state):
                self._state = state
                self._changed.notify_all()

    def put_command(self, command: AppliedCommand) -> None:
        """Replace the command."""
        with self._changed:
            self._command = command, time.monotonic()
            self._until_ns = command.stamp_ns - self._latency_ns + self._control_period_ns
            self._changed.notify_all()

    def put_clock(self, clock_ns: int) -> None:
        """Take the simulator's time; one that was set back begins another world."""
        with self._changed:
            if clock_ns < self._clock_ns:
                self._done_ns, self._state = -1, None
            self._clock_ns, self._clocked_s = clock_ns, time.monotonic()
            self._changed.notify_all()

    def newest(self) -> tuple[RobotState | None, tuple[AppliedCommand, float] | None]:
        """Newest joint state, and a command that has come since the last call, with the steady time of its arrival."""
        with self._changed:
            command, self._command = self._command, None
            return self._state, command

    def wait_for_step(self, timeout_s: float) -> int | None:
        """In lockstep, wait until a command lasts and the arm was measured; the time on the clock, or None after `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._step_is_due():
                left_s = end_s - time.monotonic()
                if left_s <= 0.0:
                    return None
                self._changed.wait(min(left_s, _PATIENCE_S) if self._is_owed() else left_s)
            self._done_ns = self._clock_ns
            return self._clock_ns

    def is_unanswered(self) -> bool:
        """In lockstep, whether time still stands where the last step was decided."""
        with self._changed:
            return self._clock_ns == self._done_ns

    def _is_owed(self) -> bool:
        """Whether the command in force lasts for another period, which was not decided yet.

        A command of a world that was put back begins later than the clock.
        """
        begin_ns = self._until_ns - self._control_period_ns
        return self._done_ns < self._clock_ns and begin_ns <= self._clock_ns < self._until_ns - self._period_ns // 2

    def _step_is_due(self) -> bool:
        if self._state is None or not self._is_owed():
            return False
        lag_ns = self._clock_ns - self._state.stamp_ns
        if lag_ns > self._lag_ns and time.monotonic() - self._clocked_s >= _PATIENCE_S:
            self._lag_ns = lag_ns
        return lag_ns <= self._lag_ns
