"""Messages that are too long, or full of words: refused before they are decoded, in one short line, and the node goes on."""

import math
from array import array
from collections.abc import Callable, Iterator

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String, UInt8MultiArray
from support.bench import NodeBench

from mbrl_ros.errors import LONGEST_TEXT, MeasurementError
from mbrl_ros.nodes.command_guard_node import CommandGuardNode
from mbrl_ros.nodes.mpc_controller_node import MpcControllerNode
from mbrl_ros.nodes.state_estimator_node import StateEstimatorNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.ros.refusals import Refusals

PANDA = load_robot('panda')
LONG = 70_000


class Bench(NodeBench):
    """Nodes, a sender of anything, and what the screen shows."""

    def __init__(self, screen: Callable[[], str]) -> None:
        super().__init__()
        self._screen = screen

    def shown(self, text: str) -> list[str]:
        """Lines of the screen with a text in them."""
        return [line for line in self._screen().splitlines() if text in line]

    def send(self, topic: str, message: object, profile: qos.QoSProfile = qos.RECORD) -> None:
        """Publish a message once somebody listens."""
        publisher = self.peer.create_publisher(type(message), topic, profile)
        self.spin_until(publisher.get_subscription_count, what=f'a listener on {topic}')
        publisher.publish(message)

    def line(self, text: str) -> str:
        """The one line with a text."""
        self.spin_until(lambda: self.shown(text), what=text)
        (line,) = self.shown(text)
        return line


@pytest.fixture
def bench(screen: Callable[[], str]) -> Iterator[Bench]:
    bench = Bench(screen)
    yield bench
    bench.close()


def joints(names: list[str], *, value: float = 0.0, **header: object) -> JointState:
    values = [value] * len(names)
    return JointState(header=Header(**header), name=names, position=values, velocity=values)


def test_a_subscription_refuses_what_is_longer_than_its_type_and_takes_what_is_not(bench):
    taken = []
    for kind in (String, Header):
        qos.subscribe(bench.peer, kind, kind.__name__, taken.append, qos.RECORD)
    bench.send('Header', Header(frame_id='x' * LONG))
    assert 'bytes; at most 65536 are read' in bench.line('Header: a message of 700')
    bench.send('Header', Header(frame_id='base'))
    bench.send('String', String(data='x' * LONG))
    bench.spin_until(lambda: len(taken) == 2)
    assert {type(message) for message in taken} == {String, Header}


def test_a_raw_subscription_is_bounded_in_the_same_way(bench):
    taken = []
    qos.subscribe(bench.peer, Header, 'short', lambda data, info: taken.append(data), qos.RECORD, raw=True, max_bytes=100)
    qos.subscribe(bench.peer, Header, 'any', lambda data, info: taken.append(data), qos.RECORD, raw=True,
                  max_bytes=qos.ANY_LENGTH)
    bench.send('short', Header(frame_id='x' * 200))
    bench.send('any', Header(frame_id='x' * LONG))
    bench.spin_until(lambda: taken and bench.shown('short: a message of'))
    assert [len(data) > LONG for data in taken] == [True]


@pytest.mark.parametrize(('kind', 'topic'), [(CommandGuardNode, 'joint_states'), (CommandGuardNode, 'command'),
                                             (StateEstimatorNode, 'joint_states'), (MpcControllerNode, 'state')])
def test_a_long_joint_state_is_refused_and_the_next_one_is_read(bench, kind, topic):
    bench.start(kind)
    bench.send(topic, joints(list(PANDA.joints), frame_id='x' * LONG), qos.STATE)
    assert f'{topic}: a message of' in bench.line('bytes; at most 65536 are read')
    bench.send(topic, joints(list(PANDA.joints), value=math.nan, stamp=bench.peer.get_clock().now().to_msg()), qos.STATE)
    bench.spin_until(lambda: bench.shown('finite'), what='the reading of the next message')


def test_a_goal_in_a_frame_of_many_words_is_refused_in_a_short_line(bench):
    bench.start(MpcControllerNode)
    bench.send('goal', PoseStamped(header=Header(frame_id='x' * 60_000)), qos.LATCHED)
    assert len(bench.line("a goal needs the frame 'panda_link0'")) < LONGEST_TEXT + 100


def test_the_words_of_a_false_guard_are_cut(bench):
    bench.start(MpcControllerNode)
    statuses = bench.hear(DiagnosticArray, 'controller_status')
    words = [KeyValue(key='hold', value='not_following'), KeyValue(key='detail', value='x' * 60_000)]
    bench.send('guard_status', DiagnosticArray(status=[DiagnosticStatus(values=words)]), qos.LATCHED)
    assert len(bench.line('holding (not_following)')) < LONGEST_TEXT + 400
    bench.spin_until(lambda: any(convert.status_values(status)['detail'] for status in statuses))
    assert all(len(convert.status_values(status)['detail']) < LONGEST_TEXT + 100 for status in statuses)


def test_a_model_with_a_long_header_is_refused_before_the_header_is_read(bench):
    bench.start(MpcControllerNode)
    header = b'[' * 5_000_000
    model = len(header).to_bytes(8, 'little') + header
    bench.send('model', UInt8MultiArray(data=array('B', model)), qos.LATCHED)
    assert 'a header of 5000000 bytes; at most 65536' in bench.line('model: refused')


def test_names_longer_than_any_joints_are_refused(bench):
    message = joints(['j' * 257])
    for read in (convert.state_from_msg, convert.applied_from_msg, convert.demonstrated_from_msg):
        with pytest.raises(MeasurementError, match='a name of 257 characters; at most 256 are read'):
            read(message)
    assert convert.state_from_msg(joints(['j' * 256])).names == ('j' * 256,)


def test_unknown_joints_are_named_once_and_briefly(bench):
    bench.start(StateEstimatorNode)
    for round_ in range(3):
        names = [*PANDA.joints, *(f'other_{round_}_{index}' for index in range(1000))]
        bench.send('joint_states', joints(names, stamp=bench.peer.get_clock().now().to_msg()), qos.STATE)
    line = bench.line('joint states carry')
    assert 'joint states carry other_0_0, other_0_1' in line and len(line) < LONGEST_TEXT + 200


def test_refusals_of_one_topic_end_after_a_few_and_do_not_hide_those_of_another(bench):
    refusals = Refusals(bench.peer)
    for number in range(100):
        refusals.tell('noisy', f'number {number}')
        refusals.tell('same', 'again')
    refusals.tell('quiet', 'x' * LONG)
    assert len(bench.line('quiet: ')) < LONGEST_TEXT + 100
    assert 2 <= len(bench.shown('noisy: ')) <= 10
    assert len(bench.shown('same: ')) <= 3
