"""The state estimator node over real DDS: what it publishes, when, and what it says when it must not."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Pose, PoseStamped, Quaternion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rclpy.clock import ClockType
from sensor_msgs.msg import JointState
from support.bench import NodeBench, made

from mbrl_ros.errors import ConfigError
from mbrl_ros.nodes.state_estimator_node import StateEstimatorNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos

ROBOT = load_robot('panda')
NAMES = [*ROBOT.joints, *ROBOT.gripper.joints]
MS = 1_000_000


class Bench(NodeBench):
    """The node under test, a driver that talks to it, and everything it said."""

    def __init__(self, **parameters: object) -> None:
        super().__init__('driver')
        self.states = self.hear(JointState, 'state')
        self.diagnostics: dict[str, str] = {}
        self.peer.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.DRIVER)
        self._joint_pub = self.peer.create_publisher(JointState, 'joint_states', qos.RECORD)
        self._pose_pub = self.peer.create_publisher(PoseStamped, 'object_pose', qos.RECORD)
        self.node = self.start(StateEstimatorNode, **parameters)

    def now_ns(self) -> int:
        return self.peer.get_clock().now().nanoseconds

    def send_joints(self, stamp_ns: int, names: list[str] = NAMES, position: list[float] | None = None,
                    velocity: list[float] | None = None) -> None:
        position = [*ROBOT.home_rad, 0.02, 0.02] if position is None else position
        self._joint_pub.publish(JointState(header=convert.header(stamp_ns), name=names, position=position,
                                           velocity=velocity or []))

    def send_pose(self, stamp_ns: int, w: float = 1.0, frame: str = 'panda_link0') -> None:
        pose = Pose(orientation=Quaternion(x=0.0, y=0.0, z=0.0, w=w))
        pose.position.x = 0.5
        self._pose_pub.publish(PoseStamped(header=convert.header(stamp_ns, frame), pose=pose))

    def speak(self) -> None:
        """Send what a sound driver sends now."""
        stamp_ns = self.now_ns()
        self.send_joints(stamp_ns)
        self.send_pose(stamp_ns)

    def connect(self) -> None:
        pairs = (self._joint_pub, self._pose_pub)
        assert self.spin_until(lambda: all(publisher.get_subscription_count() for publisher in pairs)
                               and self.peer.count_publishers('state'))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics = convert.status_values(message) | {'message': message.status[0].message if message.status else ''}


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    yield from made(Bench)


def test_state_is_the_named_vector_of_everything_tracked(make_bench):
    bench = make_bench()
    assert bench.spin_until(lambda: len(bench.states) > 20, bench.speak)
    state = convert.state_from_msg(bench.states[-1])
    assert state.names[:9] == (*ROBOT.joints, 'gripper', 'object_x')
    np.testing.assert_allclose(state.positions(ROBOT.joints), ROBOT.home_rad, atol=1e-6)
    assert state.positions(['gripper', 'object_x']) == pytest.approx([0.04, 0.5], abs=1e-6)
    assert bench.states[-1].header.frame_id == 'panda_link0'
    stamps = [convert.stamp_from_msg(message.header.stamp) for message in bench.states]
    assert stamps == sorted(stamps)


def test_without_any_message_it_names_the_topics_that_it_waits_for(make_bench):
    bench = make_bench()
    assert bench.spin_until(lambda: bench.said('no message on /joint_states, /object_pose; waiting'))
    assert not bench.states


def test_missing_object_is_named_and_need_not_be_tracked(make_bench):
    bench = make_bench()
    assert bench.spin_until(lambda: bench.said('no message on /object_pose; waiting'),
                            lambda: bench.send_joints(bench.now_ns()))
    assert not bench.states
    alone = make_bench(track_object=False)
    assert alone.spin_until(lambda: len(alone.states) > 5, lambda: alone.send_joints(alone.now_ns()))
    assert list(alone.states[-1].name) == [*ROBOT.joints, 'gripper']


def test_silent_driver_ends_the_state_and_its_return_brings_it_back(make_bench):
    bench = make_bench()
    assert bench.spin_until(lambda: len(bench.states) > 20, bench.speak)
    assert bench.spin_until(lambda: bench.said('state is no longer published: no usable measurement of the arm for'))
    before = len(bench.states)
    assert bench.spin_until(lambda: len(bench.states) > before + 10, bench.speak)
    assert len(bench.said('no longer published')) == 1


@pytest.mark.parametrize(('send', 'text'), [
    (lambda bench: bench.send_joints(bench.now_ns(), position=[math.nan] * 9), "/joint_states: position of 'panda_joint1'"),
    (lambda bench: bench.send_joints(bench.now_ns(), position=[0.0]), '/joint_states: joint state has 9 names but 1 entries'),
    (lambda bench: bench.send_joints(bench.now_ns(), ['a', 'a'], [0.0, 0.0]), "/joint_states: joint state repeats the name 'a'"),
    (lambda bench: bench.send_joints(bench.now_ns() + 2000 * MS), 's in the future; at most 0.1 s is allowed'),
    (lambda bench: bench.send_joints(bench.now_ns() - 2000 * MS), 's in the past; at most 0.5 s is allowed'),
    (lambda bench: bench.send_joints(bench.now_ns(), ['wheel'], [0.0]), "joint states carry wheel, which 'panda' does not have"),
    (lambda bench: bench.send_pose(bench.now_ns(), w=2.0), '/object_pose: quaternion (x, y, z, w) = (0, 0, 0, 2)'),
    (lambda bench: bench.send_pose(bench.now_ns(), frame='camera'), "/object_pose: pose of 'object' is in the frame 'camera'"),
])
def test_bad_message_is_said_once_and_the_state_goes_on(make_bench, send, text):
    bench = make_bench()
    assert bench.spin_until(lambda: len(bench.states) > 5, bench.speak)

    def drive_badly() -> None:
        bench.speak()
        send(bench)

    assert bench.spin_until(lambda: bench.said(text), drive_badly)
    before = len(bench.states)
    assert bench.spin_until(lambda: len(bench.states) > before + 20, drive_badly)
    assert len(bench.said(text)) == 1


def test_diagnostics_tell_status_rate_and_refusals(make_bench):
    bench = make_bench()

    def drive_badly() -> None:
        bench.speak()
        bench.send_pose(bench.now_ns(), w=3.0)

    assert bench.spin_until(lambda: int(bench.diagnostics.get('quaternion', 0)) > 10, drive_badly)
    assert bench.diagnostics['status'] == 'tracking'
    assert float(bench.diagnostics['rate_hz']) > 0.0


def run_lockstep(bench: Bench) -> list[tuple[int, tuple[float, ...]]]:
    """Two control periods of noisy measurements; what was published for them."""
    bench.connect()
    rng = np.random.default_rng(0)
    for stamp_ns in (0, 25 * MS, 50 * MS, 75 * MS, 100 * MS):
        bench.send_joints(stamp_ns, position=list(np.array([*ROBOT.home_rad, 0.02, 0.02]) + rng.normal(0.0, 1e-4, 9)))
        bench.send_pose(stamp_ns)
    assert bench.spin_until(lambda: len(bench.states) and bench.states[-1].header.stamp.nanosec == 100 * MS)
    return [(convert.stamp_from_msg(state.header.stamp), tuple(state.position)) for state in bench.states]


def test_in_lockstep_every_grid_time_is_published_once_and_alike(make_bench):
    first, second = (run_lockstep(make_bench(lockstep=True, use_sim_time=True)) for _ in range(2))
    assert [stamp_ns for stamp_ns, _ in first] == [step * 10 * MS for step in range(11)]
    assert first == second


def test_in_lockstep_a_lost_pose_delays_the_state_but_does_not_end_it(make_bench):
    bench = make_bench(lockstep=True, use_sim_time=True)
    run_lockstep(bench)
    bench.send_joints(120 * MS)
    assert bench.spin_until(lambda: bench.states[-1].header.stamp.nanosec == 120 * MS)


def test_in_lockstep_the_newest_state_is_sent_again_while_time_stands(make_bench):
    bench = make_bench(lockstep=True, use_sim_time=True)
    run_lockstep(bench)
    newest = bench.states[-1]
    bench.states.clear()
    assert bench.spin_until(lambda: bool(bench.states))
    assert bench.states == [newest]


def test_lockstep_without_simulated_time_is_refused(make_bench):
    with pytest.raises(ConfigError, match='lockstep needs use_sim_time: true'):
        make_bench(lockstep=True)


def test_unknown_parameter_is_refused(make_bench):
    with pytest.raises(ConfigError, match="unknown parameter 'rate'; did you mean 'rate_hz'"):
        make_bench(rate=50.0)


def test_limits_that_contradict_each_other_are_refused(make_bench):
    with pytest.raises(ConfigError, match='coast_after_s 0.5 needs to be at most coast_limit_s 0.15'):
        make_bench(estimator__coast_after_s=0.5)


NUMBERS = st.lists(st.floats(), max_size=12)


@pytest.fixture(scope='module')
def fuzzed() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from([*NAMES, 'wheel', '']), max_size=12), position=NUMBERS, velocity=NUMBERS,
       sec=st.integers(-2**31, 2**31 - 1), nanosec=st.integers(0, 2**32 - 1), numbers=st.tuples(*[st.floats()] * 7))
def test_random_messages_do_not_end_the_node(fuzzed: Bench, names, position, velocity, sec, nanosec, numbers):
    joints = JointState(name=names, position=position, velocity=velocity)
    pose = PoseStamped()
    for header in (joints.header, pose.header):
        header.stamp.sec, header.stamp.nanosec = sec, nanosec
    place, turn = pose.pose.position, pose.pose.orientation
    place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w = numbers
    fuzzed.node.on_joints('/joint_states', joints)
    fuzzed.node.on_pose('/object_pose', pose)
    fuzzed.executor.spin_once(timeout_sec=0.0)


def test_node_still_works_after_random_messages(fuzzed: Bench):
    fuzzed.states.clear()
    assert fuzzed.spin_until(lambda: len(fuzzed.states) > 5, fuzzed.speak)


@pytest.mark.parametrize(('simulated', 'clock'), [(False, ClockType.STEADY_TIME), (True, ClockType.ROS_TIME)])
def test_states_come_by_a_clock_that_nobody_sets_back(make_bench, simulated, clock):
    bench = make_bench(use_sim_time=simulated)
    [timer] = [timer for timer in bench.node.timers if timer.callback == bench.node.on_tick]
    assert timer.clock.clock_type == clock
