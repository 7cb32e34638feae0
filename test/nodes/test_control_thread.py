"""The control thread: however it ends, the arm stands."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from rclpy.clock import Clock
from support.bench import wait_until

from mbrl_ros.control.controller import Controller
from mbrl_ros.control.tick import ControllerConfig
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros.control_inbox import ControlInbox
from mbrl_ros.ros.control_thread import ControlThread, ControlTiming
from mbrl_ros.tasks.reach import ReachTask
from mbrl_ros.types import EpisodeReport, Phase, RobotState

PERIOD_S = 0.05
PANDA = load_robot('panda')
HOME = np.array(PANDA.home_rad)


class RecordingPort:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[np.ndarray] = []
        self.num_repeats = 0
        self.order: list[str] = []

    def other_commanders(self) -> str:
        return ''

    def send(self, velocity: np.ndarray, q: np.ndarray, effect_ns: int) -> None:
        self.sent.append(velocity)
        self.order.append('arm')

    def send_gripper(self, opening_m: float) -> None:
        self.order.append('gripper')

    def rest(self) -> None:
        pass

    def repeat_to_newcomers(self) -> None:
        self.num_repeats += 1


@pytest.fixture
def controller() -> Controller:
    chain = KinematicChain.of_robot(PANDA)
    task = ReachTask.of_robot(PANDA)
    return Controller(PANDA, chain, task, ControllerConfig(), period_s=PERIOD_S)


def put(inbox: ControlInbox, stamp_ns: int) -> None:
    inbox.put_state(RobotState(stamp_ns, PANDA.joints, HOME, np.zeros(7)))
    inbox.put(report=EpisodeReport(stamp_ns, Phase.EXPLORING, 0, 0, 0, 0, 0.0, 0.0, 0.0, False, (0.5, 0.1, 0.4), 0, 0))


def test_in_lockstep_a_command_that_time_waits_for_is_repeated_to_newcomers_until_a_state_answers(controller):
    inbox, port = ControlInbox(), RecordingPort()
    thread = ControlThread(controller, inbox, port, PANDA, Clock(), ControlTiming(PERIOD_S, True, 0.0), lambda _: None, print)
    thread.start()
    time.sleep(0.3)
    assert port.num_repeats == 0
    put(inbox, 0)
    wait_until(lambda: port.num_repeats > 2)
    assert len(port.sent) == 1
    inbox.put_state(RobotState(10_000_000, PANDA.joints, HOME, np.zeros(7)))
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


def test_the_gripper_is_told_before_the_arm(controller, monkeypatch):
    inbox, port, tick = ControlInbox(), RecordingPort(), controller.tick
    monkeypatch.setattr(controller, 'tick', lambda inputs: dataclasses.replace(tick(inputs), opening_m=0.04))
    thread = ControlThread(controller, inbox, port, PANDA, Clock(), ControlTiming(PERIOD_S, True, 0.0), lambda _: None, print)
    thread.start()
    for count in (1, 2, 3):
        put(inbox, count * 50_000_000)
        wait_until(lambda: len(port.order) >= 2 * count)  # noqa: B023
    thread.stop()
    assert port.order[:6] == 3 * ['gripper', 'arm']


def test_a_fault_in_telling_leaves_the_arm_stopped_and_is_passed_on(controller):
    clock, inbox, port, ended, faults = Clock(), ControlInbox(), RecordingPort(), threading.Event(), []

    def tell(tick):
        now_ns = clock.now().nanoseconds
        put(inbox, now_ns)
        if len(port.sent) >= 5:
            raise RuntimeError('nobody listens')

    def fault(error):
        faults.append(error)
        ended.set()

    put(inbox, clock.now().nanoseconds)
    thread = ControlThread(controller, inbox, port, PANDA, clock, ControlTiming(PERIOD_S, False, 0.0), tell, fault)
    thread.start()
    assert ended.wait(10.0)
    assert np.abs(port.sent[4]).max() > 0.0
    assert not np.array(port.sent[-5:]).any()
    change = np.array(PANDA.max_acceleration_rad_s2) * PERIOD_S
    assert (np.abs(np.diff(port.sent, axis=0)) <= change + 1e-9).all()
    assert [str(error) for error in faults] == ['nobody listens']
