"""The experience logger over real DDS: what it records, and what a crash, a full disk or a wrong setting do to it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import JointState
from std_msgs.msg import String, UInt8MultiArray
from support.bench import TIMEOUT_S, NodeBench

from mbrl_ros.errors import BagError, ConfigError
from mbrl_ros.experience.assembler import TransitionAssembler
from mbrl_ros.experience.bags.reader import BagReader, read_messages
from mbrl_ros.experience.replay import load_transitions
from mbrl_ros.nodes.experience_logger_node import ExperienceLoggerNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState

ROBOT = load_robot('panda')
MS = 1_000_000


class Stack(NodeBench):
    """Publishers of everything that the logger hears, and everything that it says."""

    def __init__(self) -> None:
        super().__init__('state_estimator')
        self.peer.declare_parameter('rate_hz', 100.0)
        self.publishers = {name: self.peer.create_publisher(kind, name, profile) for name, kind, profile in (
            ('state', JointState, qos.RECORD), ('applied_command', JointState, qos.RECORD),
            ('episode', DiagnosticArray, qos.LATCHED), ('joint_states', JointState, qos.SENSOR),
            ('model', UInt8MultiArray, qos.LATCHED), ('robot_description', String, qos.LATCHED),
            ('command', JointState, qos.COMMAND), ('guard_status', DiagnosticArray, qos.LATCHED))}
        self.diagnostics: list[tuple[bytes, str]] = []
        self.peer.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.DRIVER)
        self.sent: list[tuple[str, object]] = []

    def start_logger(self, output_dir: Path, **parameters: object) -> ExperienceLoggerNode:
        logger = self.start(ExperienceLoggerNode, output_dir=str(output_dir), **parameters)
        self.await_match()
        return logger

    def await_match(self) -> None:
        assert self.spin_until(lambda: all(p.get_subscription_count() for name, p in self.publishers.items() if name != 'model'))

    def send(self, name: str, message: object) -> None:
        self.sent.append((f'/{name}', message))
        self.publishers[name].publish(message)

    def send_value(self, value: object) -> None:
        if isinstance(value, RobotState):
            self.send('state', convert.state_to_msg(value, 'panda_link0'))
        elif isinstance(value, AppliedCommand):
            self.send('applied_command', convert.applied_to_msg(value, 'panda_link0'))
        else:
            self.send('episode', convert.report_to_msg(value))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics += [(s.level, s.message) for s in message.status if s.name == 'experience_logger: recording']


@pytest.fixture
def stack() -> Iterator[Stack]:
    stack = Stack()
    yield stack
    stack.close()


def lockstep_run(num_steps: int, first_step: int = 0) -> list:
    rng = np.random.default_rng(first_step)
    values = []
    for step in range(first_step, first_step + num_steps):
        tick = 50 * MS * step
        values += [RobotState(stamp, ROBOT.joints, np.array(ROBOT.home_rad) + 1e-9 * stamp * 0.1, rng.normal(size=7))
                   for stamp in range(tick - 40 * MS if step else 0, tick + 1, 10 * MS)]
        values.append(EpisodeReport(tick, Phase.RUNNING, 0, 1, step, step, -0.1, -0.1, 0.2, False, (0.5, 0.1, 0.4), 0, 0))
        values.append(AppliedCommand(tick, ROBOT.joints, rng.normal(0.0, 0.3, 7)))
    return values


def recorded(path: Path, *names: str) -> list[tuple[str, bytes]]:
    try:
        return [(m.topic.name, m.data) for m in read_messages(path, names or None)]
    except BagError:
        return []


def decoded(messages: list[tuple[str, bytes]]) -> list[tuple[str, object]]:
    # Bytes cannot be compared: the padding between fields is whatever was there.
    kinds = {'/episode': DiagnosticArray}
    return [(name, deserialize_message(data, kinds.get(name, JointState))) for name, data in messages]


def by_topic(messages: list[tuple[str, object]]) -> dict[str, list[object]]:
    topics: dict[str, list[object]] = {}
    for name, data in messages:
        topics.setdefault(name, []).append(data)
    return topics


def test_every_message_is_recorded_as_published_and_replays_to_the_live_transitions(stack, tmp_path):
    logger = stack.start_logger(tmp_path)
    live, expected = TransitionAssembler(ROBOT, JointSpace(ROBOT), 0.05), []
    for value in lockstep_run(30):
        stack.send_value(value)
        stack.executor.spin_once(timeout_sec=0.01)
        on = {RobotState: live.on_state, AppliedCommand: live.on_applied}.get(type(value), live.on_report)
        expected += on(value)
    expected += live.flush()
    names = ('/state', '/applied_command', '/episode')
    assert stack.spin_until(lambda: len(recorded(tmp_path / 'bag', *names)) == len(stack.sent))
    logger.close()
    assert by_topic(decoded(recorded(tmp_path / 'bag', *names))) == by_topic(stack.sent)
    replayed = load_transitions(tmp_path / 'bag', ROBOT, JointSpace(ROBOT), 0.05)
    assert len(replayed) == len(expected) == 29
    for ours, theirs in zip(replayed, expected):
        assert (ours.obs == theirs.obs).all()
        assert (ours.action == theirs.action).all()
        assert (ours.next_obs == theirs.next_obs).all()
    with AnyReader([tmp_path / 'bag']) as reader:
        states = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages() if c.topic == '/state']
        assert len(states) == 146
        assert list(states[0].name) == list(ROBOT.joints)


def test_latched_messages_best_effort_sensors_and_models_are_recorded(stack, tmp_path):
    stack.send('robot_description', String(data='<robot/>'))
    stack.send('model', convert.bytes_to_msg(b'weights' * 1000))
    stack.start_logger(tmp_path)
    stack.send('joint_states', JointState(name=['a'], position=[1.0]))
    assert stack.spin_until(lambda: {'/robot_description', '/model', '/joint_states'} <=
                            set(by_topic(recorded(tmp_path / 'bag'))))
    (model,) = read_messages(tmp_path / 'bag', ['/model'])
    assert bytes(model.decoded().data) == b'weights' * 1000


def test_what_was_asked_of_the_guard_and_what_it_says_are_recorded(stack, tmp_path):
    logger = stack.start_logger(tmp_path)
    stack.send('command', convert.applied_to_msg(AppliedCommand(MS, ROBOT.joints, np.zeros(7)), 'panda_link0'))
    stack.send('guard_status', convert.status_to_msg(MS, 'command_guard: Tick', {'hold': 'emergency_stop'}))
    stack.spin_for(0.5)
    logger.close()
    found = [name for name, _ in recorded(tmp_path / 'bag', '/command', '/guard_status')]
    assert sorted(found) == ['/command', '/guard_status']


def test_the_model_can_be_left_out(stack, tmp_path):
    stack.send('model', convert.bytes_to_msg(b'weights'))
    stack.start_logger(tmp_path, record_model=False)
    stack.send('robot_description', String(data='<robot/>'))
    assert stack.spin_until(lambda: '/robot_description' in by_topic(recorded(tmp_path / 'bag')))
    reader = BagReader(tmp_path / 'bag')
    list(reader.messages())
    assert '/model' not in reader.topics


def test_the_parameters_of_the_other_nodes_are_recorded(stack, tmp_path):
    stack.start_logger(tmp_path, recorder__max_split_mb=8.0)
    assert stack.spin_until(lambda: len(recorded(tmp_path / 'bag', '/configuration')) == 2)
    texts = [message.decoded().data for message in read_messages(tmp_path / 'bag', ['/configuration'])]
    configuration = json.loads(texts[-1])
    assert configuration['state_estimator']['rate_hz'] == 100.0
    assert configuration['experience_logger']['recorder']['max_split_mb'] == 8.0
    assert yaml.safe_load((tmp_path / 'bag' / 'config.yaml').read_text())['experience_logger']['driver'] == 'simulated'


def test_an_extra_topic_is_recorded(stack, tmp_path):
    publisher = stack.peer.create_publisher(String, 'notes', qos.LATCHED)
    stack.start_logger(tmp_path, extra_topics=['notes std_msgs/msg/String'])
    assert stack.spin_until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(String(data='look'))
    assert stack.spin_until(lambda: '/notes' in by_topic(recorded(tmp_path / 'bag')))


@pytest.mark.parametrize('text', ['notes std_msgs/msg/Strin', 'notes', 'notes .', 'a-b std_msgs/msg/String',
                                  ' std_msgs/msg/String'])
def test_an_extra_topic_that_is_none_is_refused(stack, tmp_path, text):
    with pytest.raises(ConfigError, match=f'extra_topics needs .* got {text!r}'):
        stack.start_logger(tmp_path, extra_topics=[text])


def test_an_extra_topic_that_is_recorded_already_is_refused(stack, tmp_path):
    with pytest.raises(ConfigError, match='would record /state twice'):
        stack.start_logger(tmp_path, extra_topics=['/state sensor_msgs/msg/JointState'])


def test_a_malformed_report_is_recorded_and_told_but_stops_nothing(stack, tmp_path):
    stack.start_logger(tmp_path)
    stack.send('episode', DiagnosticArray())
    stack.send_value(lockstep_run(1)[0])
    assert stack.spin_until(lambda: {'/episode', '/state'} <= set(by_topic(recorded(tmp_path / 'bag'))))
    assert stack.spin_until(lambda: stack.said('expected one status'))


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / 'disk'
    path.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f'needs the right to mount a small file system: {mounted.stderr.decode().strip()}')
    yield path
    subprocess.run(['umount', '-l', str(path)], check=True)


def test_a_full_disk_is_one_error_and_a_diagnostic_and_recording_resumes_with_space(small_disk, stack):
    logger = stack.start_logger(small_disk, recorder__retry_s=0.2)
    ballast = small_disk / 'ballast'
    ballast.write_bytes(bytes(800_000))
    bulky = String(data='x' * 5_000)
    sender = logger.create_timer(0.02, lambda: stack.send('robot_description', bulky))
    assert stack.spin_until(lambda: any(level == b'\x02' for level, _ in stack.diagnostics))
    before = recorded(small_disk / 'bag')
    ballast.unlink()
    assert stack.spin_until(lambda: stack.said('recording again into'))
    logger.destroy_timer(sender)
    [error] = stack.said('errno')
    assert 'bag_' in error and 'cannot be written (No space left on device, errno 28)' in error
    assert recorded(small_disk / 'bag')[:len(before)] == before


@pytest.fixture
def start_process(tmp_path) -> Iterator[Callable[[], subprocess.Popen]]:
    processes = []

    def start() -> subprocess.Popen:
        command = [sys.executable, '-m', 'mbrl_ros.cli.node', 'experience_logger', '--ros-args', '-p', f'output_dir:={tmp_path}']
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_logger_killed_mid_episode_loses_nothing_it_had_recorded_and_the_next_goes_on(stack, tmp_path, start_process):
    first = start_process()
    stack.await_match()
    run = lockstep_run(40)
    for value in run[:140]:
        stack.send_value(value)
        time.sleep(0.001)
    names = ('/state', '/applied_command', '/episode')
    assert stack.spin_until(lambda: len(recorded(tmp_path / 'bag', *names)) >= 100)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = recorded(tmp_path / 'bag')
    assert len(before) >= 100

    second = start_process()
    assert stack.spin_until(lambda: len(list((tmp_path / 'bag').glob('*.mcap'))) == 2)

    def goes_on() -> bool:
        # Sent again until heard: discovery takes its time, and the dead logger still counts as a subscriber.
        stack.send_value(run[-1])
        return recorded(tmp_path / 'bag' / 'bag_1.mcap', '/applied_command') != []

    assert stack.spin_until(goes_on)
    second.send_signal(signal.SIGTERM)
    output, _ = second.communicate(timeout=TIMEOUT_S)
    assert second.returncode == 0, output
    assert f'bag_0.mcap was not closed; recovered {len(before)} messages' in output
    assert recorded(tmp_path / 'bag')[:len(before)] == before
    with AnyReader([tmp_path / 'bag']) as reader:
        assert len(list(reader.messages())) == reader.message_count


def test_a_second_logger_of_the_same_bag_says_so_and_writes_nothing(stack, tmp_path):
    stack.start_logger(tmp_path)
    stack.start_logger(tmp_path)
    assert stack.spin_until(lambda: any('bag: is being written by process' in text for _, text in stack.diagnostics))
    assert len(list((tmp_path / 'bag').glob('*.mcap'))) == 1
