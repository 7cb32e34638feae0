"""An ideal arm around the model trainer node, over real DDS."""

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.nodes.model_trainer_node import ModelTrainerNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState, TrainingReport
from support.bench import NodeBench

ROBOT = load_robot('panda')
LIMITS = np.array(ROBOT.max_velocity_rad_s)
PERIOD_NS, STATE_NS = 50_000_000, 10_000_000
FAST = {'learner.trainer.max_steps': 100, 'learner.min_transitions': 40}


class TrainerBench(NodeBench):
    """The node under test, an ideal arm that talks to it, and everything it said.

    Attributes:
        weights: Weights of the reward that the reports have; empty for none.
    """

    def __init__(self, **parameters: object) -> None:
        super().__init__('driver')
        self.models: list[AgentBundle] = []
        self.ready: list[TrainingReport] = []
        self.reports: list[TrainingReport] = []
        self.peer.create_subscription(UInt8MultiArray, 'model', self._on_model, qos.LATCHED)
        self.peer.create_subscription(DiagnosticArray, 'training', self._on_training, qos.LATCHED)
        self._state_pub = self.peer.create_publisher(JointState, 'state', qos.RECORD)
        self._applied_pub = self.peer.create_publisher(JointState, 'applied_command', qos.LATCHED_RECORD)
        self._report_pub = self.peer.create_publisher(DiagnosticArray, 'episode', qos.LATCHED)
        self.node = self.start(ModelTrainerNode, **{**({} if 'agent' in parameters else FAST), **parameters})
        self._rng = np.random.default_rng(0)
        self._q, self._qd = np.array(ROBOT.home_rad), np.zeros(7)
        self.stamp_ns, self.steps = 1_000_000_000, 0
        self.weights: dict[str, float] = {}

    def _on_model(self, message: UInt8MultiArray) -> None:
        self.models.append(AgentBundle.from_bytes(convert.bytes_from_msg(message)))

    def _on_training(self, message: DiagnosticArray) -> None:
        report = convert.report_from_msg(message, TrainingReport)
        (self.ready if report.reason == 'ready' else self.reports).append(report)

    def connect(self) -> None:
        """Wait until all three streams have a listener, so that nothing is said to nobody."""
        publishers = (self._state_pub, self._applied_pub, self._report_pub)
        assert self.spin_until(lambda: all(publisher.get_subscription_count() for publisher in publishers))

    def say(self, phase: Phase, episode: int = 0) -> None:
        report = EpisodeReport(self.stamp_ns, phase, 0, episode, 0, self.steps, 0.0, 0.0, 0.0, False, (0.5, 0.0, 0.5), 0, 0,
                               weights=self.weights)
        self._report_pub.publish(convert.report_to_msg(report))
        self.spin_for(0.002)

    def send_state(self) -> None:
        state = RobotState(self.stamp_ns, ROBOT.joints, self._q, self._qd)
        self._state_pub.publish(convert.state_to_msg(state, ROBOT.base_link))

    def episode(self, steps: int, episode: int = 0, phase: Phase = Phase.EXPLORING, is_held: bool = False) -> None:
        """Move for some control steps: the arm takes on each commanded velocity at once."""
        self.stamp_ns += 2 * PERIOD_NS
        self.send_state()
        for _ in range(steps):
            self.say(phase, episode)
            velocity = 0.3 * self._rng.uniform(-1, 1, 7) * LIMITS
            applied = AppliedCommand(self.stamp_ns, ROBOT.joints, velocity, is_held=is_held)
            self._applied_pub.publish(convert.applied_to_msg(applied, ''))
            self._qd = velocity
            for _ in range(PERIOD_NS // STATE_NS):
                self.stamp_ns += STATE_NS
                self._q = self._q + velocity * STATE_NS * 1e-9
                self.send_state()
            self.steps += 1
            self.spin_for(0.001)
