"""The whole stack as processes of a real launch, and a node beside it that hears what the stack says."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState

from mbrl_ros.errors import MeasurementError
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import EpisodeReport
from support.bench import TIMEOUT_S, NodeBench

ROBOT = load_robot('panda')
#: Faster than any drift of a held arm, slower than any motion on purpose, rad/s.
STANDING_RAD_S = 0.02


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
    """

    def __init__(self) -> None:
        super().__init__('listener')
        self.motion: list[Motion] = []
        self.states: list[float] = []
        self.applied: list[float] = []
        self.reports: list[tuple[float, EpisodeReport]] = []
        self.statuses: list[tuple[float, dict[str, str]]] = []
        for kind, topic, callback in (
                (JointState, 'joint_states', self._on_joints), (JointState, 'state', self._on_state),
                (JointState, 'applied_command', self._on_applied), (DiagnosticArray, 'controller_status', self._on_status),
                (DiagnosticArray, 'episode', self._on_report)):
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
