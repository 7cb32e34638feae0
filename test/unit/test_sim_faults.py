"""Faults of the measurements: each visible, none by default, all repeatable."""

import numpy as np
import pytest
from support.asserts import some

from mbrl_ros.errors import ConfigError
from mbrl_sim.faults import FaultConfig, JointSample, MeasurementFaults, PoseSample

JOINTS = JointSample(7, ('a', 'b', 'c', 'finger'), np.array([1.0, 2.0, 3.0, 0.04]), np.array([0.1, 0.2, 0.3, 0.0]))
POSE = PoseSample(7, np.array([0.5, 0.1, 0.02]), np.array([0.0, 0.0, 0.0, 1.0]))


def stream(seed=0, count=400, **settings):
    faults = MeasurementFaults(FaultConfig(**settings), ('finger',), seed)
    return [message for _ in range(count) for message in faults.joints(JOINTS)]


def by_name(message, values):
    return dict(zip(message.names, values.tolist()))


def test_without_faults_measurements_pass_unchanged():
    faults = MeasurementFaults(FaultConfig(), ('finger',))
    message, = faults.joints(JOINTS)
    assert message.names == JOINTS.names and message.stamp_ns == 7
    assert np.array_equal(message.position, JOINTS.position) and np.array_equal(message.velocity, JOINTS.velocity)
    pose, = faults.pose(POSE)
    assert np.array_equal(pose.position, POSE.position) and np.array_equal(pose.quaternion, POSE.quaternion)


def test_noise_has_the_given_spread_and_no_bias():
    messages = stream(position_noise_std=0.01, velocity_noise_std=0.1)
    positions = np.array([message.position for message in messages]) - JOINTS.position
    velocities = np.array([message.velocity for message in messages]) - JOINTS.velocity
    assert positions.std() == pytest.approx(0.01, rel=0.1) and abs(positions.mean()) < 0.002
    assert velocities.std() == pytest.approx(0.1, rel=0.1)


def test_pose_noise_moves_the_position_and_turns_a_unit_quaternion():
    faults = MeasurementFaults(FaultConfig(pose_noise_std_m=0.01, pose_noise_std_rad=0.05))
    poses = [pose for _ in range(400) for pose in faults.pose(POSE)]
    assert np.std([pose.position - POSE.position for pose in poses]) == pytest.approx(0.01, rel=0.1)
    np.testing.assert_allclose([np.linalg.norm(pose.quaternion) for pose in poses], 1.0)
    assert np.std([2 * pose.quaternion[:3] for pose in poses]) == pytest.approx(0.05, rel=0.1)


def test_drops_lose_the_given_share_of_messages():
    assert len(stream(drop_probability=0.3)) == pytest.approx(280, abs=30)
    assert stream(drop_probability=1.0) == []


def test_shuffling_changes_the_order_but_not_what_belongs_to_a_name():
    messages = stream(shuffle_joints=True)
    assert len({message.names for message in messages}) == 24
    assert all(by_name(message, message.position) == by_name(JOINTS, JOINTS.position) for message in some(messages))
    assert all(by_name(message, message.velocity) == by_name(JOINTS, JOINTS.velocity) for message in some(messages))


def test_arm_and_gripper_come_in_separate_messages():
    assert [message.names for message in stream(count=1, separate_gripper=True)] == [('a', 'b', 'c'), ('finger',)]


def test_an_arm_without_a_gripper_is_not_separated():
    message, = MeasurementFaults(FaultConfig(separate_gripper=True)).joints(JOINTS)
    assert message.names == JOINTS.names


def test_velocities_can_be_missing_or_nan():
    assert all(message.velocity.shape == (0,) for message in some(stream(velocities='missing')))
    assert all(np.isnan(message.velocity).all() for message in some(stream(velocities='nan')))


def test_frozen_positions_stay_the_last_that_were_read_with_fresh_stamps_and_noise_does_not_move_them():
    faults = MeasurementFaults(FaultConfig(position_noise_std=0.01), ('finger',))
    last, = faults.joints(JOINTS)
    faults.config = FaultConfig(position_noise_std=0.01, frozen_positions=True, velocities='missing')
    for stamp_ns in (8, 9):
        message, = faults.joints(JointSample(stamp_ns, JOINTS.names, JOINTS.position + 1.0, JOINTS.velocity + 1.0))
        assert message.stamp_ns == stamp_ns and np.array_equal(message.position, last.position)
    assert np.array_equal(faults.stalled, [last.position, last.velocity])
    faults.config = FaultConfig()
    message, = faults.joints(JOINTS)
    assert np.array_equal(message.position, JOINTS.position) and faults.stalled is None


def test_equal_seeds_give_equal_faults():
    settings = {'position_noise_std': 0.01, 'drop_probability': 0.2, 'shuffle_joints': True}
    first, second, other = stream(1, **settings), stream(1, **settings), stream(2, **settings)
    assert [(message.names, message.position.tolist()) for message in first] \
        == [(message.names, message.position.tolist()) for message in second]
    assert [message.names for message in first] != [message.names for message in other]


def test_a_fault_out_of_range_is_named():
    with pytest.raises(ConfigError, match='drop_probability needs a value in'):
        FaultConfig(drop_probability=1.5)
