"""Models that must not be planned with, sent to the running controller: each is refused and the last good one stays."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray
from support.bench import NodeBench

from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.agents.codec import decode, encode
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig
from mbrl_ros.models.toys import VelocityArm
from mbrl_ros.nodes.mpc_controller_node import MpcControllerNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import EpisodeReport, Phase, RobotState

ROBOT = load_robot('panda')
HOME = np.array(ROBOT.home_rad)


class Bench(NodeBench):
    """The controller, an arm at rest in a running episode, and what the controller says."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: list[str] = []
        self.errors: list[str] = []
        self.peer.create_subscription(DiagnosticArray, 'controller_status', self._on_status, qos.RECORD)
        self.peer.create_subscription(Log, '/rosout', self._on_log, qos.LATCHED_RECORD)
        self._state_pub = self.peer.create_publisher(JointState, 'state', qos.STATE)
        self._report_pub = self.peer.create_publisher(DiagnosticArray, 'episode', qos.LATCHED)
        self._model_pub = self.peer.create_publisher(UInt8MultiArray, 'model', qos.LATCHED)
        self.start(MpcControllerNode)

    def send_model(self, data: bytes) -> None:
        self._model_pub.publish(convert.bytes_to_msg(data))

    def drive(self) -> None:
        """Stand in a running episode."""
        now_ns = self.peer.get_clock().now().nanoseconds
        self._state_pub.publish(convert.state_to_msg(RobotState(now_ns, ROBOT.joints, HOME, np.zeros(7)), ROBOT.base_link))
        report = EpisodeReport(now_ns, Phase.RUNNING, 0, 0, 0, 0, 0.0, 0.0, 0.0, False, (0.5, 0.1, 0.4), 0, 0)
        self._report_pub.publish(convert.report_to_msg(report))

    def _on_status(self, message: DiagnosticArray) -> None:
        self.versions.append(convert.status_values(message)['model_version'])

    def _on_log(self, message: Log) -> None:
        if message.level >= 40:
            self.errors.append(message.msg)


@pytest.fixture(scope='module')
def learned() -> AgentBundle:
    """Version 3, of an arm that takes up any velocity at once."""
    rng, arm = np.random.default_rng(0), VelocityArm.of_robot(ROBOT, 0.05)
    obs = np.concatenate([HOME + rng.uniform(-1.0, 1.0, (200, 7)), rng.uniform(-1.5, 1.5, (200, 7))], axis=1)
    action = rng.uniform(-1.0, 1.0, (200, 7))
    next_obs = np.array([arm.step(*step) for step in zip(obs, action)])
    parameters = EnsembleTrainer(TrainerConfig(max_steps=20)).fit(obs, action, next_obs, seed=0).parameters
    contract = Contract('pets', 'panda', 'reach', 'joint', 1, ROBOT.joints, ROBOT.joints, 0.05)
    return AgentBundle(Card(3, contract, 200, 0, {'holdout_rmse': 0.1}, 0, 200), {'model': parameters.tensors()})


@pytest.fixture(scope='module')
def bench(learned) -> Iterator[Bench]:
    bench = Bench()
    try:
        bench.send_model(learned.to_bytes())
        assert bench.spin_until(lambda: '3' in bench.versions)
        yield bench
    finally:
        bench.close()


def flipped(data: bytes) -> bytes:
    """The same with one bit of the last tensor changed, so that the hash is wrong."""
    return data[:-1] + bytes([data[-1] ^ 1])


def misshapen(data: bytes) -> bytes:
    """A valid hash over a tensor of another shape."""
    tensors, metadata = decode(data)
    tensors['model.network.weights.1'] = torch.zeros(3, 8, 9)
    return encode(tensors, metadata)


@pytest.mark.parametrize(('spoil', 'text'), [
    (lambda data: data[:len(data) // 2], 'damaged'),
    (lambda data: b'', 'truncated'),
    (flipped, 'damaged'),
    (misshapen, "'network.weights.1' needs shape"),
    (lambda data: data.replace(b'"format_version":"1"', b'"format_version":"9"'), "unknown format version '9'"),
])
def test_a_bad_model_is_refused_with_one_message_and_the_last_good_one_stays(bench, learned, spoil, text):
    bench.errors.clear()
    bench.versions.clear()
    bench.send_model(spoil(learned.to_bytes()))
    assert bench.spin_until(lambda: any('model: refused' in line for line in bench.errors))
    assert bench.spin_until(lambda: len(bench.versions) > 5)
    refusals = [line for line in bench.errors if 'model: refused' in line]
    assert len(refusals) == 1
    assert text in refusals[0]
    assert 'version 3 stays' in refusals[0]
    assert '\n' not in refusals[0]
    assert set(bench.versions) == {'3'}
