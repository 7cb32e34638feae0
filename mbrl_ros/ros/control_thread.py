"""The control thread: each control period it takes the newest inputs, ticks the controller, sends and reports.

Against the wall clock it wakes at absolute times of the steady clock, and skips ticks that it missed. In lockstep it ticks
when a state and the episode manager's report with the same stamp are there. When it ends, even by an error, it stops the arm.
"""

import collections
import contextlib
import dataclasses
import math
import statistics
import threading
import time
from collections.abc import Callable

from rclpy.clock import Clock

from mbrl_ros.control.controller import Controller
from mbrl_ros.control.tick import Received, TickInputs, TickOutcome
from mbrl_ros.ros.command_port import CommandPort
from mbrl_ros.ros.control_inbox import ControlInbox
from mbrl_ros.ros.ticking import steady_ticks

_POLL_S = 0.1
#: If a control period in lockstep lasts longer than this, the guard may have missed its command.
_UNANSWERED_S = 1.0
_JOIN_S = 10.0


@dataclasses.dataclass(frozen=True)
class ControlTiming:
    """Timing of the control thread.

    Attributes:
        period_s: Control period.
        lockstep: Whether ticks follow the stamps of states instead of the clock.
        command_latency_s: Time from sending a command until it takes effect.
    """

    period_s: float
    lockstep: bool
    command_latency_s: float


@dataclasses.dataclass(frozen=True)
class TickReport:
    """One tick, to be published.

    Attributes:
        outcome: Outcome of the controller's tick.
        stamp_ns: When the tick began.
        period_s: Time since the tick before; NaN for the first.
        state_to_command_s: Time from the state's stamp (in lockstep: arrival) to sending the command; NaN for silence.
        skipped: Periods without a tick so far.
    """

    outcome: TickOutcome
    stamp_ns: int
    period_s: float
    state_to_command_s: float
    skipped: int


class ControlThread:
    """Runs a controller.

    Args:
        controller: The controller; used by this thread only.
        inbox: Source of the inputs.
        port: Sends the commands to the guard.
        clock: Clock of the stamps.
        timing: Period, latency and lockstep.
        on_tick: Called in this thread after each tick, once the command is sent.
        on_fault: Called in this thread when an exception ended it, after the arm was stopped.
    """

    def __init__(self, controller: Controller, inbox: ControlInbox, port: CommandPort, clock: Clock,
                 timing: ControlTiming, on_tick: Callable[[TickReport], None], on_fault: Callable[[Exception], None]) -> None:
        self._controller, self._inbox, self._port = controller, inbox, port
        self._clock, self._timing, self._on_tick, self._on_fault = clock, timing, on_tick, on_fault
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='control', daemon=True)
        self._durations: collections.deque[float] = collections.deque([0.0], maxlen=20)
        self._last_tick_s = math.nan
        self._commanded_ns: int | None = None
        self._skipped = 0

    def start(self) -> None:
        """Begin to control."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the arm within its limits and end the thread; returns when the last command is sent."""
        self._stop.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            self._run_lockstep() if self._timing.lockstep else self._run_realtime()
            self._come_to_rest()
        except Exception as error:  # Any error must leave the arm standing.
            self._on_tick = lambda _: None  # It may have raised the error; it must not break the stop as well.
            with contextlib.suppress(Exception):
                self._come_to_rest()
            self._on_fault(error)

    def _run_realtime(self) -> None:
        for skipped in steady_ticks(self._timing.period_s, self._stop):
            self._skipped = skipped
            self._tick(self._inbox.newest(), active=True)

    def _run_lockstep(self) -> None:
        while not self._stop.is_set():
            newest = self._inbox.wait_for_tick(_POLL_S)
            if newest is not None:
                self._tick(newest, active=True)
            elif self._is_unanswered():
                self._port.repeat_to_newcomers()

    def _is_unanswered(self) -> bool:
        """Whether the control period of the last command still lasts, some time after it was sent."""
        state = self._inbox.newest().state
        if state is None or self._commanded_ns is None or time.monotonic() - self._last_tick_s < _UNANSWERED_S:
            return False
        return 0 <= state.stamp_ns - self._commanded_ns < round(self._timing.period_s * 1e9)

    def _come_to_rest(self) -> None:
        while self._tick(self._inbox.newest(), active=False).velocity is not None:
            time.sleep(self._timing.period_s)

    def _tick(self, newest: Received, active: bool) -> TickOutcome:
        began_s = time.monotonic()
        stamp_ns, delay_s = self._now(newest)
        # In lockstep the guard speaks only while time moves.
        silence_s = 0.0 if self._timing.lockstep else began_s - newest.guard_received_s
        inputs = TickInputs(**vars(newest), now_ns=stamp_ns, effect_ns=stamp_ns + round(delay_s * 1e9), guard_silence_s=silence_s,
                            active=active, anytime=not self._timing.lockstep, lockstep=self._timing.lockstep)
        outcome = self._send(self._controller.tick(inputs), inputs)
        sent_s = time.monotonic()
        if outcome.decision is not None:
            self._durations.append(sent_s - began_s)
        latency_s = math.nan
        if newest.state is not None and outcome.velocity is not None:
            age_s = began_s - newest.state_received_s if self._timing.lockstep else outcome.state_age_s
            latency_s = age_s + sent_s - began_s
        report = TickReport(outcome, stamp_ns, began_s - self._last_tick_s, latency_s, self._skipped)
        self._last_tick_s = began_s
        self._on_tick(report)
        return outcome

    def _now(self, newest: Received) -> tuple[int, float]:
        """Stamp of this tick, and the time from it until its command takes effect, s."""
        if self._timing.lockstep and newest.state is not None:
            return newest.state.stamp_ns, self._timing.command_latency_s
        return self._clock.now().nanoseconds, statistics.median(self._durations) + self._timing.command_latency_s

    def _send(self, outcome: TickOutcome, inputs: TickInputs) -> TickOutcome:
        """Send the command; against the wall clock, stamp it by the time of sending."""
        if outcome.applied is None:
            self._commanded_ns = None
            return outcome
        self._commanded_ns = inputs.state.stamp_ns if inputs.state is not None else None
        if not self._timing.lockstep:
            sent_ns = self._clock.now().nanoseconds + round(self._timing.command_latency_s * 1e9)
            outcome = dataclasses.replace(outcome, applied=dataclasses.replace(outcome.applied, stamp_ns=sent_ns))
        self._port.send(outcome.applied)
        return outcome
