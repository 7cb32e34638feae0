"""Random messages, damaged messages and random bytes on every topic that the five nodes of the stack hear, for a minute."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from hypothesis import strategies as st
from live_stack import ROBOT, Launch, Listener
from random_messages import damaged, message_class, messages, random_bytes
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import JointState

from mbrl_ros.ros import convert, qos
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState, TrainingReport

DURATION_S = 60.0
#: Messages of one draw of hypothesis, and the pause after them: what a busy stack carries too.
ROUND, PAUSE_S = 40, 0.05
NODES = ('state_estimator', 'experience_logger', 'model_trainer', 'episode_manager', 'mpc_controller')
FINGERS = ROBOT.gripper.joints
WORDS = [*ROBOT.joints, *FINGERS, ROBOT.base_link, 'object', 'gripper', 'EpisodeReport', 'TrainingReport', 'phase', 'episode',
         'running', 'exploring', 'plan_ms', 'True', '1', '-1', 'nan', '']


class Stack:
    """The five nodes without an arm, and a publisher on every topic that one of them hears."""

    def __init__(self, folder: Path) -> None:
        self.listener = Listener()
        self.launch = Launch(folder / 'screen', 'stack.launch.yaml', 'driver:=simulated', f'output_dir:={folder}/run')
        self.publishers: dict[str, Any] = {}

    def connect(self) -> None:
        """Wait for the nodes and find out what they hear."""
        node = self.listener.node
        self.listener.spin_until(lambda: set(NODES) <= set(node.get_node_names()), what='five nodes')
        self.listener.spin_until(lambda: {'joint_states', 'model', 'training', 'controller_status', 'robot_description'} <=
                                 set(self._heard()), what='their subscriptions')
        heard = self._heard()
        self.publishers = {topic: qos.advertise(node, message_class(kind), topic, qos.LATCHED) for topic, kind in heard.items()}
        self.listener.spin_until(lambda: all(publisher.get_subscription_count() for publisher in self.publishers.values()))

    def send_sound(self, rounds: int = 1) -> None:
        """Let the arm stand at home for a while."""
        for _ in range(rounds):
            for topic in ('joint_states', 'object_pose'):
                self.publishers[topic].publish(sound(topic))
            self.listener.spin_for(0.01)

    def close(self) -> None:
        self.listener.close()
        self.launch.close()

    def _heard(self) -> dict[str, str]:
        node = self.listener.node
        found = itertools.chain.from_iterable(node.get_subscriber_names_and_types_by_node(name, '/') for name in NODES)
        return {topic.lstrip('/'): kinds[0] for topic, kinds in found}


@pytest.fixture(scope='module')
def stack(tmp_path_factory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp('fuzz'))
    try:
        stack.connect()
        yield stack
    finally:
        stack.close()


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
    kinds = {topic: publisher.msg_type for topic, publisher in stack.publishers.items()}
    assert {JointState, PoseStamped, DiagnosticArray} <= set(kinds.values())
    pids = stack.launch.pids()
    sent = 0

    @hypothesis.settings(max_examples=ROUND, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(st.one_of([anything(topic, kind) for topic, kind in kinds.items()]))
    def publish(drawn: tuple[str, Any]) -> None:
        nonlocal sent
        topic, content = drawn
        stack.publishers[topic].publish(content)
        sent += 1

    end_s = time.monotonic() + DURATION_S
    for number in itertools.count():
        if time.monotonic() > end_s:
            break
        hypothesis.seed(number)(publish)()
        stack.send_sound(1)
        stack.listener.spin_for(PAUSE_S)
    assert sent > 1000
    assert stack.launch.pids() == pids, stack.launch.text()[-3000:]
    for node in NODES:
        request = GetParameters.Request(names=['use_sim_time'])
        assert len(stack.listener.call(GetParameters, f'{node}/get_parameters', request).values) == 1


def test_after_it_a_sound_input_is_worked_with_as_ever(stack):
    listener = stack.listener
    before = len(listener.states), len(listener.reports), len(listener.statuses)

    def all_speak() -> bool:
        stack.send_sound()
        return len(listener.states) > before[0] + 20 and len(listener.reports) > before[1] + 20 \
            and len(listener.statuses) > before[2] + 20

    listener.spin_until(all_speak, what='estimator, manager and controller')
    assert Path(f'/proc/{stack.launch.pids("experience_logger")[-1]}').exists()
