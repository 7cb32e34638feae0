"""The control thread: however it ends, the last thing it asks for is to stand."""

import threading
import time

import numpy as np
import pytest
from rclpy.clock import Clock
from support.bench import wait_until

from mbrl_ros.control.controller import Controller
from mbrl_ros.control.tick import ControllerConfig
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros.control_inbox import ControlInbox
from mbrl_ros.ros.control_thread import ControlThread, ControlTiming
from mbrl_ros.tasks.reach import ReachTask
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState

PERIOD_S = 0.05
PERIOD_NS = 50_000_000
PANDA = load_robot('panda')
HOME = np.array(PANDA.home_rad)


class RecordingPort:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[np.ndarray] = []
        self.num_repeats = 0

    def send(self, command: AppliedCommand) -> None:
        self.sent.append(command.velocity)

    def repeat_to_newcomers(self) -> None:
        self.num_repeats += 1


@pytest.fixture
def controller() -> Controller:
    return Controller(PANDA, ReachTask.of_robot(PANDA), ControllerConfig(), period_s=PERIOD_S)


def put_state(inbox: ControlInbox, stamp_ns: int) -> None:
    inbox.put_state(RobotState(stamp_ns, PANDA.joints, HOME, np.zeros(7)))


def put(inbox: ControlInbox, stamp_ns: int) -> None:
    put_state(inbox, stamp_ns)
    inbox.put(guard_received_s=time.monotonic(), report=EpisodeReport(
        stamp_ns, Phase.EXPLORING, 0, 0, 0, 0, 0.0, 0.0, 0.0, False, (0.5, 0.1, 0.4), 0, 0))


def test_in_lockstep_a_command_is_repeated_to_newcomers_until_its_control_period_is_over(controller):
    inbox, port = ControlInbox(), RecordingPort()
    thread = ControlThread(controller, inbox, port, Clock(), ControlTiming(PERIOD_S, True, 0.0), lambda _: None, print)
    thread.start()
    time.sleep(0.3)
    assert port.num_repeats == 0
    put(inbox, 0)
    wait_until(lambda: port.num_repeats > 2)
    assert len(port.sent) == 1
    put_state(inbox, PERIOD_NS - 10_000_000)
    repeated = port.num_repeats
    wait_until(lambda: port.num_repeats > repeated + 2)
    put_state(inbox, PERIOD_NS)
    time.sleep(0.3)
    answered = port.num_repeats
    time.sleep(0.5)
    assert port.num_repeats == answered
    thread.stop()


def test_in_simulated_time_a_state_of_a_clock_set_back_by_little_is_told_from_a_late_one():
    inbox = ControlInbox()
    for stamp_ns, clock_ns, newest_ns in ((700, None, 700), (250, None, 700), (250, 700, 700), (250, 250, 250), (250, 250, 250)):
        inbox.put_state(RobotState(stamp_ns, PANDA.joints, HOME, np.zeros(7)), clock_ns)
        assert inbox.newest().state.stamp_ns == newest_ns


def test_a_fault_in_telling_leaves_the_arm_stopped_and_is_passed_on(controller):
    clock, inbox, port, ended, faults = Clock(), ControlInbox(), RecordingPort(), threading.Event(), []

    def tell(tick):
        put(inbox, clock.now().nanoseconds)
        if len(port.sent) >= 5:
            raise RuntimeError('nobody listens')

    def fault(error):
        faults.append(error)
        ended.set()

    put(inbox, clock.now().nanoseconds)
    thread = ControlThread(controller, inbox, port, clock, ControlTiming(PERIOD_S, False, 0.0), tell, fault)
    thread.start()
    assert ended.wait(10.0)
    assert np.abs(port.sent[4]).max() > 0.0
    assert not np.array(port.sent[-5:]).any()
    change = np.array(PANDA.max_acceleration_rad_s2) * PERIOD_S
    assert (np.abs(np.diff(port.sent, axis=0)) <= change + 1e-9).all()
    assert [str(error) for error in faults] == ['nobody listens']
