"""Facts about what is taken from a message, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transforms3d.euler import euler2mat, euler2quat

from mbrl_ros.errors import MeasurementError
from mbrl_ros.estimation.measurements import BodyMeasurement, JointMeasurement, JointReader, nearest_angles, read_body
from mbrl_ros.robots.profile import GripperProfile

JOINTS = ('a', 'b')
GRIPPER = GripperProfile(joints=('left', 'right'))
ANGLE = st.floats(-3.1, 3.1)


def read(names, position, velocity=None):
    return JointReader(JOINTS, GRIPPER).read(JointMeasurement(7, names, position, velocity))


def test_joints_are_matched_by_name():
    reading = read(['b', 'x', 'a'], [2.0, 9.0, 1.0], [0.2, 0.9, 0.1])
    assert dict(zip(reading.channels.tolist(), zip(reading.position, reading.velocity))) == {1: (2.0, 0.2), 0: (1.0, 0.1)}


def test_fingers_sum_to_the_opening():
    reading = read(['right', 'left'], [0.01, 0.02], [0.1, 0.2])
    assert reading.channels.tolist() == [2]
    assert (reading.position[0], reading.velocity[0]) == (pytest.approx(0.03), pytest.approx(0.3))


def test_fingers_from_two_messages_sum_once_both_are_there():
    reader = JointReader(JOINTS, GRIPPER)
    assert not len(reader.read(JointMeasurement(1, ['left'], [0.02])).channels)
    assert reader.read(JointMeasurement(2, ['right'], [0.01])).position == pytest.approx([0.03])
    assert not len(reader.read(JointMeasurement(3, ['right'], [0.01])).channels)


@pytest.mark.parametrize('velocity', [None, [], [math.nan, math.nan]])
def test_missing_velocity_is_nan(velocity):
    assert np.isnan(read(['a', 'b'], [1.0, 2.0], velocity).velocity).all()


def test_untracked_joint_may_be_nan():
    assert read(['a', 'wheel'], [1.0, math.nan]).channels.tolist() == [0]


def test_unknown_joint_is_told_once():
    reader = JointReader(JOINTS, GRIPPER)
    assert reader.new_unknown(['a', 'wheel', 'left']) == ['wheel']
    assert reader.new_unknown(['wheel', 'horn']) == ['horn']


def test_of_endless_new_names_only_the_first_hundred_are_told_and_remembered():
    reader = JointReader(JOINTS, GRIPPER)
    told = [reader.new_unknown([f'{round_}-{index}' for index in range(70)]) for round_ in range(3)]
    assert [len(names) for names in told] == [70, 30, 0]
    assert reader.new_unknown(['wheel']) == []
    assert len(JointReader(JOINTS, GRIPPER).new_unknown(['x' * 10_000])[0]) == 256


@pytest.mark.parametrize(('names', 'position', 'velocity', 'reason', 'text'), [
    (['a', 'b'], [1.0], None, 'length', '2 names but 1 entries in position'),
    (['a', 'b'], [1.0, 2.0], [1.0], 'length', '2 names but 1 entries in velocity'),
    (['a', 'a'], [1.0, 2.0], None, 'duplicate', "repeats the name 'a'"),
    (['a', 'b'], [1.0, math.nan], None, 'position', "position of 'b' needs to be finite and within ±1000, got nan"),
    (['a', 'b'], [1.0, 1e9], None, 'position', "position of 'b' needs to be finite"),
    (['left', 'b'], [math.inf, 1.0], None, 'position', "position of 'left' needs to be finite"),
    (['a', 'b'], [1.0, 1.0], [0.0, 1e9], 'velocity', "velocity of 'b' needs to be within ±1000"),
])
def test_bad_joint_state_is_refused_by_name(names, position, velocity, reason, text):
    with pytest.raises(MeasurementError, match=text) as error:
        read(names, position, velocity)
    assert error.value.reason == reason
    assert '\n' not in str(error.value)


@given(roll=ANGLE, pitch=st.floats(-1.5, 1.5), yaw=ANGLE)
def test_pose_gives_the_fixed_axis_angles_it_was_made_of(roll, pitch, yaw):
    w, x, y, z = euler2quat(roll, pitch, yaw, 'sxyz')
    reading = read_body(BodyMeasurement(7, 'cube', (1.0, 2.0, 3.0), (x, y, z, w)), 9)
    assert reading.channels.tolist() == [9, 10, 11, 12, 13, 14]
    np.testing.assert_allclose(reading.position, [1.0, 2.0, 3.0, roll, pitch, yaw], atol=1e-6)


@pytest.mark.parametrize('quaternion', [
    (0, 0, 0, 0), (0, 0, 0, 1.02), (math.nan, 0, 0, 1), (math.inf, 0, 0, 1), (1e200, 0, 0, 1)])
def test_quaternion_without_unit_length_is_refused(quaternion):
    with pytest.raises(MeasurementError, match=r"quaternion \(x, y, z, w\) = .* of 'cube' has length .*; it needs 1 within 0.01"):
        read_body(BodyMeasurement(7, 'cube', (0, 0, 0), quaternion), 0)


def test_slightly_long_quaternion_is_normalised():
    reading = read_body(BodyMeasurement(7, 'cube', (0, 0, 0), (0, 0, 0.005, 1.005)), 0)
    assert reading.position[5] == pytest.approx(2 * math.atan2(0.005, 1.005))


def test_pose_with_a_nan_coordinate_is_refused():
    with pytest.raises(MeasurementError, match="position of 'cube_y'"):
        read_body(BodyMeasurement(7, 'cube', (0, math.nan, 0), (0, 0, 0, 1)), 0)


@given(angles=st.tuples(ANGLE, ANGLE, ANGLE), reference=st.tuples(*[st.floats(-50, 50)] * 3))
def test_nearest_angles_are_the_same_orientation(angles, reference):
    nearest = nearest_angles(np.array(angles), np.array(reference))
    np.testing.assert_allclose(euler2mat(*nearest, 'sxyz'), euler2mat(*angles, 'sxyz'), atol=1e-9)


def test_angles_stay_continuous_through_turns_and_a_pitch_of_90_degrees():
    followed = np.array([0.1, 0.0, 3.0])
    for step in range(1, 2000):
        wanted = np.array([0.1, 0.003 * step, 3.0 + 0.002 * step])
        w, x, y, z = euler2quat(*wanted, 'sxyz')
        raw = read_body(BodyMeasurement(step, 'cube', (0, 0, 0), (x, y, z, w)), 0).position[3:]
        followed = nearest_angles(raw, followed)
    np.testing.assert_allclose(followed, wanted, atol=1e-6)
