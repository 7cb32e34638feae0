"""Random messages, damaged messages and random bytes on every topic that the nodes of the stack hear, for a minute."""

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from hypothesis import strategies as st
from rcl_interfaces.srv import GetParameters
from rclpy._rclpy_pybind11 import RCLError
from sensor_msgs.msg import JointState
from support.live_stack import ROBOT, Launch, Listener
from support.random_messages import damaged, message_class, messages, random_bytes

from mbrl_ros.robots.profile import load_driver
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState, TrainingReport

DURATION_S = 60.0
SIMULATOR_DURATION_S = 5.0
#: Messages of one draw of hypothesis, and the pause after them: what a busy stack carries too.
ROUND, PAUSE_S = 40, 0.05
NODES = ('state_estimator', 'experience_logger', 'model_trainer', 'episode_manager', 'mpc_controller')
FINGERS = ROBOT.gripper.joints
WORDS = [*ROBOT.joints, *FINGERS, ROBOT.base_link, 'object', 'gripper', 'EpisodeReport', 'TrainingReport', 'phase', 'episode',
         'running', 'exploring', 'plan_ms', 'True', '1', '-1', 'nan', '']


class Victims:
    """Some nodes, and a publisher on every topic that one of them hears.

    Args:
        folder: For what they write.
        nodes: Their names.
        topics: Some that they hear.
        words: The launch that starts them.
    """

    def __init__(self, folder: Path, nodes: Sequence[str], topics: set[str], *words: str) -> None:
        self.nodes, self._topics = nodes, topics
        self.listener = Listener()
        self.launch = Launch(folder / 'screen', *words)
        self.publishers: dict[str, Any] = {}

    def connect(self) -> None:
        """Wait for the nodes and find out what they hear."""
        node = self.listener.peer
        self.listener.spin_until(lambda: set(self.nodes) <= set(node.get_node_names()), what='the nodes')
        self.listener.spin_until(lambda: self._topics <= set(self._heard()), what='their subscriptions')
        heard = self._heard()
        self.publishers = {topic: qos.advertise(node, message_class(kind), topic, qos.LATCHED) for topic, kind in heard.items()}
        self.listener.spin_until(lambda: all(publisher.get_subscription_count() for publisher in self.publishers.values()))

    def send_sound(self) -> None:
        """Let the arm stand at home for a moment, if these are not the ones that say where it stands."""
        for topic in self.publishers.keys() & {'joint_states', 'object_pose'}:
            self.publishers[topic].publish(sound(topic))
        self.listener.spin_for(0.01)

    def survive(self, duration_s: float, fewest: int) -> None:
        """Random input for a while; afterwards every process is the same one and answers.

        Args:
            duration_s: How long.
            fewest: Messages that it has to be at least.
        """
        kinds = {topic: publisher.msg_type for topic, publisher in self.publishers.items()}
        pids, sent = self.launch.pids(), 0

        @hypothesis.settings(max_examples=ROUND, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                             suppress_health_check=list(hypothesis.HealthCheck))
        @hypothesis.given(st.one_of([anything(topic, kind) for topic, kind in kinds.items()]))
        def publish(drawn: tuple[str, Any]) -> None:
            nonlocal sent
            topic, content = drawn
            with contextlib.suppress(RCLError):  # The sender's own middleware refuses some of it.
                self.publishers[topic].publish(content)
                sent += 1

        end_s = time.monotonic() + duration_s
        for number in itertools.count():
            if time.monotonic() > end_s and sent > fewest:
                break
            hypothesis.seed(number)(publish)()
            self.send_sound()
            self.listener.spin_for(PAUSE_S)
        assert self.launch.pids() == pids, self.launch.text()[-3000:]
        for node in self.nodes:
            request = GetParameters.Request(names=['use_sim_time'])
            assert len(self.listener.call(GetParameters, f'{node}/get_parameters', request).values) == 1

    def close(self) -> None:
        self.listener.close()
        self.launch.close()

    def _heard(self) -> dict[str, str]:
        node = self.listener.peer
        found = itertools.chain.from_iterable(node.get_subscriber_names_and_types_by_node(name, '/') for name in self.nodes)
        return {topic.lstrip('/'): kinds[0] for topic, kinds in found}


@pytest.fixture(scope='module')
def stack(tmp_path_factory) -> Iterator[Victims]:
    folder = tmp_path_factory.mktemp('fuzz')
    topics = {'joint_states', 'model', 'training', 'controller_status', 'robot_description'}
    yield from connected(Victims(folder, NODES, topics, 'stack.launch.yaml', 'driver:=simulated', f'output_dir:={folder}/run'))


@pytest.fixture(params=['simulated', 'joint_trajectory'])
def simulator(request, tmp_path) -> Iterator[Victims]:
    driver = load_driver(request.param)
    topics = {driver.command_topic, driver.gripper_topic} - {''}
    yield from connected(Victims(tmp_path, ['arm_simulator'], topics, 'sim.launch.yaml', f'driver:={request.param}'))


def connected(victims: Victims) -> Iterator[Victims]:
    try:
        victims.connect()
        yield victims
    finally:
        victims.close()


def sound(topic: str) -> Any:
    """A message that the receivers of a topic accept; an empty one where anything is accepted."""
    now_ns, zeros = time.time_ns(), np.zeros(len(ROBOT.state_names))
    state = RobotState(now_ns, ROBOT.state_names, np.array([*ROBOT.home_rad, 0.04]), zeros)
    joints = convert.state_to_msg(RobotState(now_ns, (*ROBOT.joints, *FINGERS), np.array([*ROBOT.home_rad, 0.02, 0.02]),
                                             np.zeros(9)), ROBOT.base_link)
    pose = convert.goal_to_msg((0.5, 0.1, 0.4), now_ns, ROBOT.base_link)
    pose.pose.orientation.w = 1.0
    report = EpisodeReport(now_ns, Phase.RUNNING, now_ns, 1, 3, 60, -0.1, -0.3, 0.2, False, (0.5, 0.1, 0.4), now_ns, 0)
    training = TrainingReport(now_ns, 1, 0, True, '', 100, 0.1, -1.0, 0.5)
    status = convert.status_to_msg(now_ns, 'mpc_controller: Tick', {'plan_ms': 12.0, 'deadline_missed': False})
    return {
        'joint_states': joints, 'object_pose': pose, 'goal': pose, 'state': convert.state_to_msg(state, ROBOT.base_link),
        'applied_command': convert.applied_to_msg(AppliedCommand(now_ns, ROBOT.joints, zeros[:7]), ROBOT.base_link),
        'episode': convert.report_to_msg(report), 'training': convert.report_to_msg(training), 'controller_status': status,
        'model': convert.bytes_to_msg(b'\x10\x00\x00\x00\x00\x00\x00\x00{"__metadata__"}'),
    }.get(topic)


def anything(topic: str, kind: type) -> st.SearchStrategy[tuple[str, Any]]:
    """Something to publish on a topic."""
    example = sound(topic)
    damage = damaged(example if example is not None else kind())
    return st.tuples(st.just(topic), messages(kind, WORDS) | random_bytes() | damage)


@pytest.mark.timeout(240)
def test_a_minute_of_random_input_ends_no_node(stack):
    assert {JointState, PoseStamped, DiagnosticArray} <= {publisher.msg_type for publisher in stack.publishers.values()}
    stack.survive(DURATION_S, fewest=1000)


def test_after_it_a_sound_input_is_worked_with_as_ever(stack):
    listener = stack.listener
    before = len(listener.states), len(listener.reports), len(listener.statuses)

    def all_speak() -> bool:
        stack.send_sound()
        return len(listener.states) > before[0] + 20 and len(listener.reports) > before[1] + 20 \
            and len(listener.statuses) > before[2] + 20

    listener.spin_until(all_speak, what='estimator, manager and controller')
    assert Path(f'/proc/{stack.launch.pids("experience_logger")[-1]}').exists()


def test_random_commands_end_no_simulator_and_it_says_where_the_arm_is(simulator):
    simulator.survive(SIMULATOR_DURATION_S, fewest=100)
    before = len(simulator.listener.motion)
    simulator.listener.spin_until(lambda: len(simulator.listener.motion) > before + 20, what='joint states')
