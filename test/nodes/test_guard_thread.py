"""The guard's thread: the gripper is told before the arm, and however the thread ends, the driver is told to stand."""

import threading
from collections.abc import Callable

import numpy as np
from rclpy.clock import Clock
from support.bench import wait_until

from mbrl_ros.control.safety.guard import CommandGuard, GuardConfig, GuardOutcome
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros.guard_inbox import GuardInbox
from mbrl_ros.ros.guard_thread import GuardReport, GuardThread
from mbrl_ros.types import AppliedCommand, RobotState

PERIOD_S, CONTROL_S = 1.0 / 120.0, 0.05
PANDA = load_robot('panda')


class RecordingPort:
    """Keeps what the driver is told."""

    def __init__(self) -> None:
        self.sent: list[np.ndarray] = []
        self.order: list[str] = []

    def other_commanders(self) -> str:
        return ''

    def inactive_controller(self) -> str:
        return ''

    def send(self, outcome: GuardOutcome, stamp_ns: int) -> None:
        if outcome.velocity is not None:
            self.sent.append(outcome.velocity)
            self.order.append('arm')

    def send_gripper(self, opening_m: float) -> None:
        self.order.append('gripper')


class Bench:
    """A thread with its inbox and port.

    Attributes:
        faults: Exceptions that ended it.
    """

    def __init__(self, *, lockstep: bool, on_tick: Callable[[GuardReport], None] = lambda _: None) -> None:
        self.port, self.clock = RecordingPort(), Clock()
        self.inbox = GuardInbox(round(1e9 * PERIOD_S), round(1e9 * CONTROL_S), 0)
        self.faults: list[Exception] = []
        self._ended = threading.Event()
        guard = CommandGuard(PANDA, GuardConfig(), period_s=PERIOD_S, control_period_s=CONTROL_S, lockstep=lockstep)
        self.thread = GuardThread(guard, self.inbox, self.port, self.clock, period_s=PERIOD_S, lockstep=lockstep,
                                  on_tick=on_tick, on_fault=self._on_fault)

    def put(self, now_ns: int, opening_m: float | None = None) -> None:
        """A joint state of an arm that obeys at once, and a command."""
        velocity = self.port.sent[-1] if self.port.sent else np.zeros(7)
        self.inbox.put_state(RobotState(now_ns, PANDA.joints, np.array(PANDA.home_rad), velocity))
        self.inbox.put_command(AppliedCommand(now_ns, PANDA.joints, np.full(7, 0.3), opening_m))

    def wait_for_fault(self) -> None:
        assert self._ended.wait(10.0)

    def _on_fault(self, error: Exception) -> None:
        self.faults.append(error)
        self._ended.set()


def test_the_gripper_is_told_before_the_arm():
    bench = Bench(lockstep=True)
    bench.thread.start()
    for count in (1, 2, 3):
        now_ns = count * round(1e9 * CONTROL_S)
        bench.inbox.put_clock(now_ns)
        bench.put(now_ns, opening_m=0.04)
        wait_until(lambda: len(bench.port.order) >= 2 * count)  # noqa: B023
    bench.thread.stop()
    assert bench.port.order == 3 * ['gripper', 'arm']


def test_a_fault_in_telling_leaves_the_arm_stopped_and_is_passed_on():
    def tell(_tick: GuardReport) -> None:
        bench.put(bench.clock.now().nanoseconds)
        if bench.port.sent[-1].min() > 0.2:
            raise RuntimeError('nobody listens')

    bench = Bench(lockstep=False, on_tick=tell)
    bench.put(bench.clock.now().nanoseconds)
    bench.thread.start()
    bench.wait_for_fault()
    sent = np.array(bench.port.sent)
    assert sent.max() > 0.2 and not sent[-20:].any()
    assert (np.abs(np.diff(sent, axis=0)) <= np.array(PANDA.max_acceleration_rad_s2) * PERIOD_S + 1e-9).all()
    assert [str(error) for error in bench.faults] == ['nobody listens']
