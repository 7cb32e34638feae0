"""Demonstrations over real DDS: who shows, what the controller makes of it, and a person's terminal."""

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from support.bench import TIMEOUT_S, NodeBench
from support.controller_bench import guard_status

from mbrl_ros.nodes.mpc_controller_node import MpcControllerNode
from mbrl_ros.nodes.scripted_demonstrator_node import ScriptedDemonstratorNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import DemonstratedAction, EpisodeReport, Phase, RobotState, body_joint_names

ROBOT = load_robot('panda')
NAMES = (*ROBOT.state_names, *body_joint_names('object'))
AT_HOME = np.array([*ROBOT.home_rad, 0.08, 0.5, 0.1, 0.025, 0.0, 0.0, 0.3])
LIFT_ACTION = ('twist_x', 'twist_y', 'twist_z', 'twist_yaw', 'gripper')
WANTED = np.full(7, 0.1)
KEYBOARD = (sys.executable, '-m', 'mbrl_ros.cli.node', 'keyboard_teleop')


class Bench(NodeBench):
    """A node under test, a guarded arm at home, an episode manager, and everything that is said about a demonstration.

    Attributes:
        shown: Demonstrated actions that were heard.
        commands: Velocities that the controller asked for.
        holds: Hold of each tick.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[DemonstratedAction] = []
        self.commands: list[np.ndarray] = []
        self.holds: list[str] = []
        self.state_pub = self.peer.create_publisher(JointState, 'state', qos.STATE)
        self.report_pub = self.peer.create_publisher(DiagnosticArray, 'episode', qos.LATCHED)
        self.guard_pub = self.peer.create_publisher(DiagnosticArray, 'guard_status', qos.LATCHED)
        for kind, topic, callback, profile in (
                (JointState, 'demonstrated_action', self._on_shown, qos.LATCHED_RECORD),
                (JointState, 'command', self._on_command, qos.RECORD),
                (DiagnosticArray, 'controller_status', self._on_status, qos.RECORD)):
            self.peer.create_subscription(kind, topic, callback, profile)

    def say(self, stamp_ns: int, phase: Phase = Phase.DEMONSTRATED, speed: np.ndarray | None = None) -> None:
        """Publish a state at home and a word on it."""
        velocity = np.zeros(len(NAMES))
        velocity[:7] = 0.0 if speed is None else speed
        self.state_pub.publish(convert.state_to_msg(RobotState(stamp_ns, NAMES, AT_HOME, velocity), ROBOT.base_link))
        report = EpisodeReport(stamp_ns, phase, 0, 0, 3, 3, 0.0, 0.0, 0.1, False, (0.5, 0.1, 0.145), 0, 0)
        self.report_pub.publish(convert.report_to_msg(report))
        self.guard_pub.publish(guard_status())

    def _on_shown(self, message: JointState) -> None:
        self.shown.append(convert.demonstrated_from_msg(message))

    def _on_command(self, message: JointState) -> None:
        self.commands.append(convert.applied_from_msg(message).velocity)

    def _on_status(self, message: DiagnosticArray) -> None:
        self.holds.append(convert.status_values(message)['hold'])


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


class Teacher:
    """Shows what to do in real time, and can be spoiled."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.names, self.is_silent = bench, ROBOT.joints, False
        self._pub = bench.peer.create_publisher(JointState, 'demonstrated_action', qos.LATCHED)

    def show(self, stamp_ns: int) -> None:
        self._pub.publish(convert.demonstrated_to_msg(DemonstratedAction(stamp_ns, self.names, WANTED)))

    def drive(self) -> None:
        now_ns = self.bench.peer.get_clock().now().nanoseconds
        self.bench.say(now_ns, speed=self.bench.commands[-1] if self.bench.commands else None)
        if not self.is_silent:
            self.show(now_ns)

    def waits_for(self, hold: str) -> bool:
        """Drive until a hold has stopped the arm, or with none until the arm does as it is shown."""
        wanted = np.zeros(7) if hold else WANTED * ROBOT.max_velocity_rad_s
        return self.bench.spin_until(lambda: self.bench.holds and self.bench.holds[-1] == hold and self.bench.commands
                                     and np.allclose(self.bench.commands[-1], wanted), self.drive)


def test_the_controller_does_as_it_is_shown_and_holds_under_a_name_where_it_cannot(bench):
    bench.start(MpcControllerNode)
    teacher = Teacher(bench)
    assert teacher.waits_for('')
    teacher.is_silent = True
    assert teacher.waits_for('no_demonstration')
    teacher.is_silent, teacher.names = False, LIFT_ACTION + ROBOT.joints[:2]
    assert teacher.waits_for('demonstration_refused')
    teacher.names = ROBOT.joints
    assert teacher.waits_for('')
    largest = np.abs(np.diff(bench.commands, axis=0)).max(axis=0)
    assert (largest <= np.array(ROBOT.max_acceleration_rad_s2) * 0.05 + 1e-9).all()


def test_in_lockstep_time_stands_until_the_newest_state_is_answered(bench):
    bench.start(MpcControllerNode, lockstep=True)
    teacher = Teacher(bench)
    assert bench.spin_until(lambda: bench.peer.count_subscribers('demonstrated_action') == 2
                            and bench.peer.count_publishers('command'))
    for tick in range(3):
        bench.say(tick * 50_000_000)
        bench.spin_for(0.3)
        assert len(bench.commands) == tick
        teacher.show(tick * 50_000_000)
        assert bench.spin_until(lambda tick=tick: len(bench.commands) == tick + 1)
    assert set(bench.holds) == {''}


def test_the_scripted_demonstrator_answers_each_word_on_a_demonstrated_episode(bench):
    bench.start(ScriptedDemonstratorNode, task='lift', seed=1)
    assert bench.spin_until(lambda: bench.peer.count_subscribers('state') and bench.peer.count_subscribers('episode')
                            and bench.peer.count_publishers('demonstrated_action'))
    for tick in range(4):
        bench.say(tick * 50_000_000)
        assert bench.spin_until(lambda tick=tick: len(bench.shown) == tick + 1)
    bench.say(200_000_000, Phase.RUNNING)
    bench.spin_for(0.3)
    assert [shown.stamp_ns for shown in bench.shown] == [0, 50_000_000, 100_000_000, 150_000_000]
    assert {shown.names for shown in bench.shown} == {LIFT_ACTION}
    assert (np.abs([shown.action for shown in bench.shown]) <= 1.0).all()


@pytest.fixture
def person(deaf) -> Iterator[tuple[int, subprocess.Popen]]:
    """The person's end of a terminal in which the keyboard node runs, and its process."""
    end, terminal = pty.openpty()
    process = subprocess.Popen([*deaf, *KEYBOARD, '--ros-args', '-p', 'keys.speed:=0.5'], stdin=terminal,
                               stdout=subprocess.DEVNULL)
    yield end, process
    process.kill()
    process.wait()
    os.close(terminal)
    os.close(end)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_keys_become_actions_and_the_terminal_is_left_as_it_was(bench, person, number):
    end, process = person
    before = termios.tcgetattr(end)

    def press(key: bytes) -> Callable[[], None]:
        def drive() -> None:
            bench.say(bench.peer.get_clock().now().nanoseconds)
            os.write(end, key)
        return drive

    for key, wanted in ((b'w', [0.5, 0, 0, 0, 1]), (b'c', [0, 0, 0, 0, -1]), (b'f', [0, 0, -0.5, 0, -1])):
        assert bench.spin_until(lambda wanted=wanted: bench.shown and np.allclose(bench.shown[-1].action, wanted), press(key))
    assert {shown.names for shown in bench.shown} == {LIFT_ACTION}
    assert termios.tcgetattr(end) != before
    process.send_signal(number)
    assert process.wait(10.0) == 0
    assert termios.tcgetattr(end) == before


def test_without_a_terminal_the_keyboard_node_says_so_in_one_line():
    done = subprocess.run(KEYBOARD, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith('error: keyboard_teleop needs a terminal to read keys from')
