"""The thread that owns the driver's period: takes the newest inputs, lets the guard decide, sends, and reports.

Against the wall clock it wakes at absolute moments. In lockstep each of its commands moves the simulator by one period of the
guard, until the control period of the controller's command is over. However it ends, the arm is stopped.
"""

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable

from rclpy.clock import Clock

from mbrl_ros.control.safety.guard import CommandGuard, GuardOutcome
from mbrl_ros.ros.driver_port import DriverPort
from mbrl_ros.ros.guard_inbox import GuardInbox
from mbrl_ros.ros.ticking import steady_ticks

_POLL_S = 0.1
#: In lockstep, time that has stood still this long after a command may be waiting for it.
_UNANSWERED_S = 1.0
_JOIN_S = 10.0
#: After a pause of the process, age of a joint state that tells how the arm moves now, and longest wait for one.
_FRESH_NS, _CATCH_UP_S = 50_000_000, 0.1
#: A pause from which on this matters; a decision that was kept from leaving for so long is not sent any more.
_PAUSE_S = 0.1


@dataclasses.dataclass(frozen=True)
class GuardReport:
    """One tick, for those who publish it.

    Attributes:
        outcome: Outcome of the guard's tick.
        stamp_ns: When the tick began.
        is_answer: Whether it is the first after a command of the controller.
        latency_s: Time from the arrival of that command to sending the driver's; NaN where it is none.
        state_age_s: Age of the joint state; NaN without one.
        skipped: Periods without a tick so far.
    """

    outcome: GuardOutcome
    stamp_ns: int
    is_answer: bool
    latency_s: float
    state_age_s: float
    skipped: int


class GuardThread:
    """Runs a command guard.

    Args:
        guard: The guard; used by this thread only.
        inbox: Source of the inputs.
        port: Sends the driver's commands.
        clock: Clock of the stamps.
        period_s: Period of the guard.
        lockstep: Whether ticks follow the simulator's clock.
        on_tick: Called in this thread after each tick, once the command is sent.
        on_fault: Called in this thread when an exception ended it, after the arm was stopped.
    """

    def __init__(self, guard: CommandGuard, inbox: GuardInbox, port: DriverPort, clock: Clock, *, period_s: float, lockstep: bool,
                 on_tick: Callable[[GuardReport], None], on_fault: Callable[[Exception], None]) -> None:
        self._guard, self._inbox, self._port, self._clock = guard, inbox, port, clock
        self._period_s, self._lockstep, self._on_tick, self._on_fault = period_s, lockstep, on_tick, on_fault
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='guard', daemon=True)
        self._last_tick_s = math.inf
        self._skipped = 0

    def start(self) -> None:
        """Begin to guard."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the arm within its limits and end the thread; returns when the last command is sent."""
        self._stop.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            self._run_lockstep() if self._lockstep else self._run_realtime()
            self._come_to_rest()
        except Exception as error:  # Any error must leave the arm standing.
            self._on_tick = lambda _: None  # It may have raised the error; it must not break the stop as well.
            with contextlib.suppress(Exception):
                self._come_to_rest()
            self._on_fault(error)

    def _run_realtime(self) -> None:
        for skipped in steady_ticks(self._period_s, self._stop):
            self._skipped = skipped
            if time.monotonic() - self._last_tick_s > _PAUSE_S:
                # What is newest may be from before the pause, while joint states have queued up.
                self._inbox.wait_for_state(self._clock.now().nanoseconds - _FRESH_NS, _CATCH_UP_S)
            self._tick(self._clock.now().nanoseconds)

    def _run_lockstep(self) -> None:
        while not self._stop.is_set():
            now_ns = self._inbox.wait_for_step(_POLL_S)
            if now_ns is not None:
                self._tick_or_wait(now_ns)
            elif self._inbox.is_unanswered() and time.monotonic() - self._last_tick_s >= _UNANSWERED_S:
                self._port.repeat_to_newcomers()

    def _tick_or_wait(self, now_ns: int) -> None:
        """Tick; where another commander has to be given way, time stands until it is gone."""
        if self._tick(now_ns).velocity is None:
            self._inbox.step_again()
            self._stop.wait(_POLL_S)

    def _come_to_rest(self) -> None:
        self._guard.dismiss()
        while not self._lockstep and self._tick(self._clock.now().nanoseconds).velocity is not None:
            time.sleep(self._period_s)

    def _tick(self, now_ns: int) -> GuardOutcome:
        began_s = time.monotonic()
        state, command = self._inbox.newest()
        if command is not None and not self._stop.is_set():
            self._guard.accept(command[0], now_ns)
        outcome = self._guard.tick(now_ns, state, self._port.other_commanders(), self._port.inactive_controller())
        # The gripper goes first: in lockstep the simulator steps as soon as the arm's command arrives.
        if command is not None and command[0].opening_m is not None and outcome.hold is None:
            self._port.send_gripper(command[0].opening_m)
        if self._lockstep or time.monotonic() - began_s <= _PAUSE_S:
            self._port.send(outcome, now_ns)
        self._last_tick_s = time.monotonic()
        latency_s = math.nan if command is None else self._last_tick_s - command[1]
        age_s = math.nan if state is None else (now_ns - state.stamp_ns) * 1e-9
        self._on_tick(GuardReport(outcome, now_ns, command is not None, latency_s, age_s, self._skipped))
        return outcome
