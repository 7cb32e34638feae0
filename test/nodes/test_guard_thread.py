"""The guard's thread: however it ends, the last thing the driver is told is to stand."""

import threading

import numpy as np
from rclpy.clock import Clock

from mbrl_ros.control.safety.guard import CommandGuard, GuardConfig, GuardOutcome
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros.guard_inbox import GuardInbox
from mbrl_ros.ros.guard_thread import GuardThread
from mbrl_ros.types import AppliedCommand, RobotState

PERIOD_S, CONTROL_S = 1.0 / 120.0, 0.05
PANDA = load_robot('panda')


class RecordingPort:
    """Keeps what the driver is told."""

    def __init__(self) -> None:
        self.sent: list[np.ndarray] = []

    def other_commanders(self) -> str:
        return ''

    def inactive_controller(self) -> str:
        return ''

    def send(self, outcome: GuardOutcome, stamp_ns: int) -> None:
        if outcome.velocity is not None:
            self.sent.append(outcome.velocity)


def test_a_fault_in_telling_leaves_the_arm_stopped_and_is_passed_on():
    clock, port, ended, faults = Clock(), RecordingPort(), threading.Event(), []
    inbox = GuardInbox(round(1e9 * PERIOD_S), round(1e9 * CONTROL_S), 0)
    guard = CommandGuard(PANDA, GuardConfig(), period_s=PERIOD_S, control_period_s=CONTROL_S)

    def put() -> None:
        now_ns, velocity = clock.now().nanoseconds, port.sent[-1] if port.sent else np.zeros(7)
        inbox.put_state(RobotState(now_ns, PANDA.joints, np.array(PANDA.home_rad), velocity))
        inbox.put_command(AppliedCommand(now_ns, PANDA.joints, np.full(7, 0.3)))

    def tell(_tick: object) -> None:
        put()
        if port.sent[-1].min() > 0.2:
            raise RuntimeError('nobody listens')

    def fault(error: Exception) -> None:
        faults.append(error)
        ended.set()

    put()
    thread = GuardThread(guard, inbox, port, clock, period_s=PERIOD_S, lockstep=False, on_tick=tell, on_fault=fault)
    thread.start()
    assert ended.wait(10.0)
    assert np.max(port.sent) > 0.2
    assert not np.array(port.sent[-20:]).any()
    change = np.array(PANDA.max_acceleration_rad_s2) * PERIOD_S
    assert (np.abs(np.diff(port.sent, axis=0)) <= change + 1e-9).all()
    assert [str(error) for error in faults] == ['nobody listens']
