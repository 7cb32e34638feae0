"""The whole stack as processes of a real launch, and a node beside it that hears what the stack says."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_ros.errors import MeasurementError
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.profile import load_driver, load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import EpisodeReport
from support.bench import TIMEOUT_S, NodeBench

ROBOT = load_robot('panda')
#: Faster than any drift of a held arm, slower than any motion on purpose, rad/s.
STANDING_RAD_S = 0.02
#: How long a frozen node of a `Stack` stands still.
FROZEN_S = 2.0


class Motion(NamedTuple):
    """A joint state.

    Attributes:
        arrival_s: When it arrived, steady time.
        stamp_ns: Its stamp.
        speed: Largest speed of the arm's joints, rad/s.
    """

    arrival_s: float
    stamp_ns: int
    speed: float


class Launch:
    """A launch in a process of its own, whose screen goes to a file.

    Args:
        screen: That file.
        words: File and arguments, as on the command line.
        before: Words before the command.
    """

    def __init__(self, screen: Path, *words: str, before: Sequence[str] = ()) -> None:
        self.screen = screen
        with screen.open('w') as output:
            self._process = subprocess.Popen([*before, sys.executable, '-m', 'mbrl_ros.cli.main', 'launch', *words],
                                             stdout=output, stderr=output, start_new_session=True)

    def pids(self, node: str = '') -> list[int]:
        """Processes that a node had so far, in the order of their starts; all nodes' without a name."""
        lines = (line for line in self.text().splitlines() if 'process started with pid' in line and f'[{node}' in line)
        return [int(line.rpartition('[')[2].rstrip(']')) for line in lines]

    def text(self) -> str:
        """All that the screen shows."""
        return self.screen.read_text()

    @property
    def ended(self) -> bool:
        """Whether the launch is over."""
        return self._process.poll() is not None

    def wait(self, timeout_s: float) -> int:
        """Exit code, once the launch is over."""
        return self._process.wait(timeout_s)

    def signal(self, node: str, number: signal.Signals) -> float:
        """Send a signal to a node's newest process; when that was, steady s."""
        os.kill(self.pids(node)[-1], number)
        return time.monotonic()

    def freeze(self, node: str, duration_s: float) -> None:
        """Let a node's newest process stand still for a while."""
        self.signal(node, signal.SIGSTOP)
        try:
            time.sleep(duration_s)
        finally:
            self.signal(node, signal.SIGCONT)

    def interrupt(self) -> tuple[int, float]:
        """Press Ctrl-C; the exit code, and how long the end took, s."""
        start_s = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        return self.wait(TIMEOUT_S), time.monotonic() - start_s

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End whatever still runs; every node ends with its supervisor."""
        if not self.ended:
            self._process.send_signal(signal.SIGINT)
            try:
                self.wait(10.0)
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in self.pids():
            assert not Path(f'/proc/{pid}').exists(), f'process {pid} outlived its launch'


class Listener(NodeBench):
    """A node beside the stack that keeps what the stack says.

    Attributes:
        motion: Each joint state.
        states: Arrival of each state, steady s.
        applied: Arrival of each applied command.
        reports: Arrival and content of each episode report.
        statuses: Arrival and values of each controller status.
        driven: Arrival of each command to the driver, and its largest speed, rad/s.
    """

    def __init__(self) -> None:
        super().__init__('listener')
        self.motion: list[Motion] = []
        self.states: list[float] = []
        self.applied: list[float] = []
        self.reports: list[tuple[float, EpisodeReport]] = []
        self.statuses: list[tuple[float, dict[str, str]]] = []
        self.driven: list[tuple[float, float]] = []
        for kind, topic, callback in (
                (JointState, 'joint_states', self._on_joints), (JointState, 'state', self._on_state),
                (JointState, 'applied_command', self._on_applied), (DiagnosticArray, 'controller_status', self._on_status),
                (DiagnosticArray, 'episode', self._on_report),
                (Float64MultiArray, load_driver('simulated').command_topic, self._on_driven)):
            qos.subscribe(self.peer, kind, topic, callback, qos.RECORD)

    @property
    def report(self) -> EpisodeReport:
        """Newest word of the episode manager."""
        return self.reports[-1][1]

    @property
    def moves_in_an_episode(self) -> bool:
        """Whether the arm explores or pursues a goal at this moment."""
        return bool(self.reports and self.report.phase.is_episode and self.report.step > 3 and self.motion[-1].speed > 0.1)

    def _on_joints(self, message: JointState) -> None:
        speeds = dict(zip(message.name, message.velocity))
        speed = max(abs(speeds.get(joint, 0.0)) for joint in ROBOT.joints)
        self.motion.append(Motion(time.monotonic(), convert.stamp_from_msg(message.header.stamp), speed))

    def _on_driven(self, message: Float64MultiArray) -> None:
        self.driven.append((time.monotonic(), float(np.abs(message.data).max(initial=0.0))))

    def _on_state(self, _: JointState) -> None:
        self.states.append(time.monotonic())

    def _on_applied(self, _: JointState) -> None:
        self.applied.append(time.monotonic())

    def _on_status(self, message: DiagnosticArray) -> None:
        self.statuses.append((time.monotonic(), convert.status_values(message)))

    def _on_report(self, message: DiagnosticArray) -> None:
        # A test may publish here too, and anything.
        with contextlib.suppress(MeasurementError):
            self.reports.append((time.monotonic(), convert.report_from_msg(message, EpisodeReport)))


def endless_stack(folder: Path, *, lockstep: bool, explorations: int = 2) -> Launch:
    """Simulator and stack without an end, so that every node comes back after a crash."""
    share = share_directory() / 'launch'
    mode = str(lockstep).lower()
    file = folder / 'endless.launch.yaml'
    file.write_text(f"""launch:
- include:
    file: {share}/sim.launch.yaml
    arg:
    - {{name: lockstep, value: "{mode}"}}
- include:
    file: {share}/stack.launch.yaml
    arg:
    - {{name: driver, value: simulated}}
    - {{name: lockstep, value: "{mode}"}}
    - {{name: explorations, value: "{explorations}"}}
    - {{name: output_dir, value: {folder}/run}}
""")
    return Launch(folder / 'screen', str(file))


class Stack:
    """A launch without an end, its folder, and what it says."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        self.folder = folder
        self.listener = Listener()
        self.launch = endless_stack(folder, **arguments)
        self._last = 'the start'

    def kill_in_motion(self, *nodes: str) -> float:
        """Kill nodes while the arm moves in an episode, and wait until they were started again; when they were killed."""
        self._wait(lambda: self.listener.moves_in_an_episode, 'motion')
        before = {node: len(self.launch.pids(node)) for node in nodes}
        killed_s = [self.launch.signal(node, signal.SIGKILL) for node in nodes][-1]
        self._last = f'{" and ".join(nodes)} had been killed'
        self._wait(lambda: all(len(self.launch.pids(node)) > before[node] for node in nodes), 'a restart')
        return killed_s

    def freeze_in_motion(self, node: str) -> tuple[float, float]:
        """Let a node stand still while the arm moves in an episode, and wait for motion after it; from when until when."""
        self._wait(lambda: self.listener.moves_in_an_episode, 'motion')
        pids = self.launch.pids()
        frozen_s = self.launch.signal(node, signal.SIGSTOP)
        self._last = f'{node} had stood still'
        try:
            self.listener.spin_for(FROZEN_S)
        finally:
            thawed_s = self.launch.signal(node, signal.SIGCONT)
        self._wait(lambda: self.listener.moves_in_an_episode, 'motion')
        assert self.launch.pids() == pids
        return frozen_s, thawed_s

    def go_on(self) -> None:
        """Wait for the end of an episode that began after this call, and for motion in the one after."""
        heard = len(self.listener.reports)

        def finished() -> bool:
            said = [(report.step, report.phase.is_episode) for _, report in self.listener.reports[heard:]]
            return (0, True) in said and not said[-1][1]

        self._wait(finished, 'an episode')
        self._wait(lambda: self.listener.moves_in_an_episode, 'motion')

    def end_cleanly(self) -> None:
        """Check that Ctrl-C in mid-episode stops everything in time, the arm first, and leaves a closed bag."""
        self._wait(lambda: self.listener.moves_in_an_episode, 'motion')
        code, took_s = self.launch.interrupt()
        assert code == 130
        assert took_s < 3.5
        ends = [line for line in self.launch.text().splitlines() if 'has finished cleanly' in line]
        assert 'mpc_controller' in ends[0]
        with AnyReader([self.folder / 'run' / 'bag']) as reader:
            assert len(list(reader.messages())) == reader.message_count > 1000

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        try:
            self.listener.spin_until(done, what=what)
        except AssertionError as error:
            report = self.listener.report if self.listener.reports else 'nothing'
            raise AssertionError(f'{error} after {self._last}; the manager last said: {report}') from None

    def close(self) -> None:
        self.listener.close()
        self.launch.close()
