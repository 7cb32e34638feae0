"""A guarded arm, an estimator and an episode manager in one around the controller node, over real DDS."""

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray

from mbrl_ros.nodes.mpc_controller_node import MpcControllerNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import EpisodeReport, Phase, RobotState
from support.asserts import some
from support.bench import NodeBench

ROBOT = load_robot('panda')
HOME = np.array(ROBOT.home_rad)
CHANGE = np.array(ROBOT.max_acceleration_rad_s2) * 0.05
GOAL = (0.5, 0.1, 0.4)


def guard_status(hold: str = '', detail: str = '') -> DiagnosticArray:
    """What a command guard says of a tick."""
    return convert.status_to_msg(0, 'command_guard: Tick', {'hold': hold, 'detail': detail})


class Arm(NodeBench):
    """An arm behind a guard that lets everything through, an estimator and an episode manager in one.

    Attributes:
        commands: Velocities that the controller asked for.
        statuses: What it said on `controller_status`.
        phase: Phase of the episode manager; None for its silence.
        weights: Weights of the reward in its reports; empty for none.
        guard_hold: What the guard says on `guard_status`, hold and detail; None for its silence.
    """

    def __init__(self) -> None:
        super().__init__('arm')
        self.node = self.peer
        self.commands: list[np.ndarray] = []
        self.statuses: list[dict[str, str]] = []
        self.diagnostics: dict[str, str] = {}
        self.q, self.qd = HOME.copy(), np.zeros(7)
        self.phase: Phase | None = Phase.EXPLORING
        self.weights: dict[str, float] = {}
        self.guard_hold: tuple[str, str] | None = ('', '')
        self.episode, self.sends_states, self.offset = 0, True, np.zeros(7)
        self._moved_s = time.monotonic()
        self.node.create_subscription(JointState, 'command', self._on_command, qos.RECORD)
        self.node.create_subscription(DiagnosticArray, 'controller_status', self._on_status, qos.RECORD)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.DRIVER)
        self.state_pub = self.node.create_publisher(JointState, 'state', qos.STATE)
        self.report_pub = self.node.create_publisher(DiagnosticArray, 'episode', qos.LATCHED)
        self.guard_pub = self.node.create_publisher(DiagnosticArray, 'guard_status', qos.LATCHED)
        self.goal_pub = self.node.create_publisher(PoseStamped, 'goal', qos.LATCHED)
        self.model_pub = self.node.create_publisher(UInt8MultiArray, 'model', qos.LATCHED)

    @property
    def hold(self) -> str | None:
        return self.statuses[-1]['hold'] if self.statuses else None

    @property
    def moves(self) -> bool:
        return bool(self.commands) and self.hold == '' and bool(np.abs(self.commands[-1]).max() > 0.05)

    @property
    def rests(self) -> bool:
        return not self.qd.any()

    def drive(self) -> None:
        """Move for the time that went by, and say what is due."""
        now_s, now_ns = time.monotonic(), self.node.get_clock().now().nanoseconds
        self.q = self.q + self.qd * (now_s - self._moved_s)
        self._moved_s = now_s
        if self.sends_states:
            state = RobotState(now_ns, ROBOT.joints, self.q + self.offset, self.qd)
            self.state_pub.publish(convert.state_to_msg(state, 'panda_link0'))
        if self.phase is not None:
            report = EpisodeReport(now_ns, self.phase, 0, self.episode, 0, 0, 0.0, 0.0, 0.0, False, GOAL, 0, 0,
                                   weights=self.weights)
            self.report_pub.publish(convert.report_to_msg(report))
        if self.guard_hold is not None:
            self.guard_pub.publish(guard_status(*self.guard_hold))

    def assert_bounded(self) -> None:
        sent = np.array(some(self.commands))
        assert np.isfinite(sent).all()
        assert (np.abs(np.diff(sent, axis=0)) <= CHANGE + 1e-9).all()

    def _on_command(self, message: JointState) -> None:
        self.qd = convert.applied_from_msg(message).velocity
        self.commands.append(self.qd)

    def _on_status(self, message: DiagnosticArray) -> None:
        self.statuses.append(convert.status_values(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics.update({entry.key: entry.value for entry in status.values})


class Bench(Arm):
    """An arm, and the node under test in the same process."""

    def __init__(self, **parameters: object) -> None:
        super().__init__()
        self.controller = self.start(MpcControllerNode, **parameters)
