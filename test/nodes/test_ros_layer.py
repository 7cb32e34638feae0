"""Messages to core types and back, and parameters from settings, on a real context."""

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import psutil
import pytest
import rclpy
from rclpy.parameter import Parameter
from support.bench import NodeBench

from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import ConfigError, GoalError, MeasurementError
from mbrl_ros.ros import convert, params
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState, TrainingReport

REPORT = EpisodeReport(1_500_000_001, Phase.RUNNING, 1, 2, 3, 4, 0.1, -0.2, 0.3, True, (0.1, 0.2, 0.3), 7, 8,
                       weights={'distance': 5.0, 'effort': 0.1})
TRAINING = TrainingReport(5, 3, 2, False, 'worse: 0.2 against 0.1', 300, 0.1, -2.5, 1.25, follow_s=0.0)


@dataclasses.dataclass(frozen=True)
class WeightsConfig(Config):
    distance: float = setting(1.0, 'Weight of the distance.', low=0.0, high=10.0, live=True)


@dataclasses.dataclass(frozen=True)
class ExampleConfig(Config):
    rate_hz: float = setting(20.0, 'Rate.', unit='Hz', low=1.0, high=100.0)
    names: tuple[str, ...] = setting((), 'Names.')
    mode: str = setting('a', 'Mode.', choices=('a', 'b'), live=True)
    count: int = setting(3, 'Count.', low=1, high=5)
    weights: WeightsConfig = section(WeightsConfig)


@pytest.fixture
def make_node():
    bench = NodeBench()
    yield functools.partial(bench.start, functools.partial(rclpy.create_node, 'example'))
    bench.close()


def test_a_node_talks_over_sockets_of_this_machine_alone(make_node):
    make_node()
    assert '/dev/shm/fastdds' not in Path('/proc/self/maps').read_text()
    sockets = {connection.laddr.ip for connection in psutil.Process().net_connections('udp')}
    assert sockets == {'127.0.0.1'}


def test_defaults_and_overrides_become_the_config(make_node):
    config = params.declare_config(make_node(rate_hz=50, names=['x', 'y'], weights__distance=2.5), ExampleConfig)
    assert config == ExampleConfig(rate_hz=50.0, names=('x', 'y'), weights=WeightsConfig(distance=2.5))


@pytest.mark.parametrize(('overrides', 'text'), [
    ({'rate_hx': 5.0}, "example: unknown parameter 'rate_hx'; did you mean 'rate_hz'"),
    ({'rate_hz': 500.0}, 'rate_hz.*got 500.0|rate_hz out of range'),
    ({'count': 9}, 'count.*out of range'),
    ({'count': 'many'}, "'count'.*expecting type 'INTEGER'"),
    ({'mode': 'z'}, "mode needs one of a, b, got 'z'"),
    ({'weights__distance': -1.0}, 'distance.*-1.0'),
])
def test_parameter_that_does_not_fit_is_one_error(make_node, overrides, text):
    with pytest.raises(ConfigError, match=text):
        params.declare_config(make_node(**overrides), ExampleConfig)


def test_live_settings_change_and_others_do_not(make_node):
    node, seen = make_node(), []
    params.watch_live(node, params.declare_config(node, ExampleConfig), seen.append)
    assert node.set_parameters([Parameter('weights.distance', value=3.0)])[0].successful
    assert seen[-1].weights.distance == 3.0
    assert not node.set_parameters([Parameter('count', value=4)])[0].successful
    refused = node.set_parameters([Parameter('mode', value='z')])[0]
    assert not refused.successful and 'one of a, b' in refused.reason
    assert len(seen) == 1


def test_state_survives_the_message():
    state = RobotState(12_345_678_901, ('a', 'b'), np.array([0.1, math.pi]), np.array([-1e-9, 2.0]))
    back = convert.state_from_msg(convert.state_to_msg(state, 'base'))
    assert (back.stamp_ns, back.names) == (state.stamp_ns, state.names)
    np.testing.assert_array_equal(back.position, state.position)
    np.testing.assert_array_equal(back.velocity, state.velocity)


def test_state_that_is_not_finite_is_refused_by_joint():
    message = convert.state_to_msg(RobotState(1, ('a', 'b'), np.zeros(2), np.array([0.0, math.nan])), 'base')
    with pytest.raises(MeasurementError, match='velocity that is not finite: b'):
        convert.state_from_msg(message)


def test_applied_command_survives_the_message_and_wrong_lengths_do_not():
    message = convert.applied_to_msg(AppliedCommand(5, ('a', 'b'), np.array([1.0, -2.0])), 'base')
    np.testing.assert_array_equal(convert.applied_from_msg(message).velocity, [1.0, -2.0])
    message.velocity = [1.0]
    with pytest.raises(MeasurementError, match='needs 2 finite velocities'):
        convert.applied_from_msg(message)


def test_an_opening_follows_the_joints_as_a_position_where_they_have_none():
    applied = AppliedCommand(5, ('a', 'b'), np.array([1.0, -2.0]), 0.03)
    message = convert.applied_to_msg(applied, 'base', 'gripper')
    assert message.name == ['a', 'b', 'gripper']
    np.testing.assert_array_equal(message.position, [math.nan, math.nan, 0.03])
    np.testing.assert_array_equal(message.velocity, [1.0, -2.0, math.nan])
    back = convert.applied_from_msg(message)
    assert (back.names, back.opening_m) == (applied.names, 0.03)
    np.testing.assert_array_equal(back.velocity, applied.velocity)


@pytest.mark.parametrize('report', [REPORT, TRAINING, dataclasses.replace(
    TRAINING, warnings=('a is lost', 'so is b'), retraining=True, follow_s=2.5, following='retraining: reward changed')])
def test_report_survives_the_message(report):
    assert convert.report_from_msg(convert.report_to_msg(report), type(report)) == report


@pytest.mark.parametrize(('key', 'value', 'text'), [
    ('phase', 'dancing', "phase cannot be 'dancing'"),
    ('goal_m', '1.0 2.0', 'goal_m cannot be'),
    ('goal_m', '1.0 2.0 inf', 'goal_m cannot be'),
    ('success', 'maybe', "success cannot be 'maybe'"),
    ('step', '', "step cannot be ''"),
])
def test_report_with_a_damaged_field_is_refused(key, value, text):
    message = convert.report_to_msg(REPORT)
    next(entry for entry in message.status[0].values if entry.key == key).value = value
    with pytest.raises(MeasurementError, match=text):
        convert.report_from_msg(message, EpisodeReport)


def test_report_of_another_kind_or_without_a_field_is_refused():
    message = convert.report_to_msg(TRAINING)
    with pytest.raises(MeasurementError, match="expected one status 'EpisodeReport', got TrainingReport"):
        convert.report_from_msg(message, EpisodeReport)
    message.status[0].values = [entry for entry in message.status[0].values if entry.key != 'reason']
    with pytest.raises(MeasurementError, match="lacks the field 'reason'"):
        convert.report_from_msg(message, TrainingReport)


def test_goal_needs_the_base_frame_and_finite_numbers():
    message = convert.goal_to_msg((0.1, 0.2, 0.3), 9, 'panda_link0')
    point, stamp_ns = convert.goal_from_msg(message, 'panda_link0')
    assert (point.tolist(), stamp_ns) == ([0.1, 0.2, 0.3], 9)
    with pytest.raises(GoalError, match="needs the frame 'other', got 'panda_link0'"):
        convert.goal_from_msg(message, 'other')
    message.pose.position.y = math.inf
    with pytest.raises(GoalError, match='three finite coordinates'):
        convert.goal_from_msg(message, 'panda_link0')


def test_bytes_survive_the_message():
    data = bytes(range(256)) * 100
    assert convert.bytes_from_msg(convert.bytes_to_msg(data)) == data
