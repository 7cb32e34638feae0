"""Facts about the state estimator: what it needs, when it may be trusted, and what it makes of trouble."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.asserts import some
from transforms3d.euler import euler2quat

from mbrl_ros.errors import ConfigError, MeasurementError
from mbrl_ros.estimation.config import EstimatorConfig
from mbrl_ros.estimation.estimator import StateEstimator, Status
from mbrl_ros.estimation.measurements import BodyMeasurement, JointMeasurement
from mbrl_ros.robots.profile import load_robot

ROBOT = load_robot('panda')
MS = 1_000_000
LEVEL = (0.0, 0.0, 0.0, 1.0)
NAMES = ROBOT.joints + ROBOT.gripper.joints


def arm_at(stamp_ns: int, shift: float = 0.0, speed: float = 0.0) -> JointMeasurement:
    return JointMeasurement(stamp_ns, NAMES, [value + shift for value in ROBOT.home_rad] + [0.02, 0.02], [speed] * 7 + [0.0] * 2)


def cube_at(stamp_ns: int, x: float = 0.5, quaternion: tuple[float, ...] = LEVEL) -> BodyMeasurement:
    return BodyMeasurement(stamp_ns, 'object', (x, 0.1, 0.02), quaternion)


def run_arm(estimator: StateEstimator, stamps_ns: range, **place: float) -> None:
    for stamp_ns in stamps_ns:
        estimator.on_joints(arm_at(stamp_ns, **place), stamp_ns)


@pytest.fixture
def arm() -> StateEstimator:
    """Estimator of the arm alone that has tracked it from 1000 to 1200 ms."""
    estimator = StateEstimator(ROBOT)
    run_arm(estimator, range(1000 * MS, 1201 * MS, 10 * MS))
    assert estimator.estimate(1200 * MS).status is Status.TRACKING
    return estimator


def test_state_names_are_arm_gripper_and_bodies():
    names = StateEstimator(ROBOT, ['object']).names
    assert names[:8] == (*ROBOT.joints, 'gripper')
    assert names[8:] == ('object_x', 'object_y', 'object_z', 'object_roll', 'object_pitch', 'object_yaw')


def test_body_tracked_twice_is_refused():
    with pytest.raises(ConfigError, match='need different names'):
        StateEstimator(ROBOT, ['object', 'object'])


def test_no_state_until_everything_tracked_was_seen():
    estimator = StateEstimator(ROBOT, ['object'])
    estimator.on_joints(JointMeasurement(0, ROBOT.joints, ROBOT.home_rad), 0)
    estimate = estimator.estimate(0)
    assert (estimate.status, estimate.state) == (Status.WAITING, None)
    assert estimate.reason == 'waiting for the first measurement of gripper, object'
    estimator.on_joints(JointMeasurement(MS, ROBOT.gripper.joints, [0.01, 0.02]), MS)
    estimator.on_body(cube_at(MS), MS)
    state = estimator.estimate(MS).state
    assert state.positions(['gripper', 'object_x']) == pytest.approx([0.03, 0.5])


def test_a_finger_that_is_never_measured_is_named():
    estimator = StateEstimator(ROBOT)
    estimator.on_joints(JointMeasurement(0, NAMES[:-1], [*ROBOT.home_rad, 0.02]), 0)
    assert estimator.missing == ['gripper (panda_finger_joint2)']
    assert estimator.estimate(0).reason == 'waiting for the first measurement of gripper (panda_finger_joint2)'


def test_shuffled_and_split_messages_give_the_state_of_a_whole_one():
    whole, split = StateEstimator(ROBOT), StateEstimator(ROBOT)
    rng = np.random.default_rng(0)
    for stamp_ns in range(0, 200 * MS, 10 * MS):
        message = arm_at(stamp_ns, shift=float(rng.normal(0, 1e-3)))
        whole.on_joints(message, stamp_ns)
        order = rng.permutation(9)
        for part in (order[:4], order[4:]):
            split.on_joints(JointMeasurement(stamp_ns, [NAMES[i] for i in part], [message.position[i] for i in part],
                                             [message.velocity[i] for i in part]), stamp_ns)
    states = [estimator.estimate(200 * MS).state for estimator in (whole, split)]
    np.testing.assert_allclose(states[0].position, states[1].position, atol=1e-12)
    np.testing.assert_allclose(states[0].velocity, states[1].velocity, atol=1e-12)


def test_later_measurements_do_not_change_an_estimate(arm: StateEstimator):
    twin = StateEstimator(ROBOT)
    run_arm(twin, range(1000 * MS, 1201 * MS, 10 * MS))
    arm.on_joints(arm_at(1206 * MS, shift=0.004), 1206 * MS)
    np.testing.assert_array_equal(arm.estimate(1205 * MS).state.position, twin.estimate(1205 * MS).state.position)


def test_order_of_arrival_does_not_matter():
    results = []
    for order in permutations([(10, 0.0), (18, 1e-3), (26, 2e-3)]):
        estimator = StateEstimator(ROBOT)
        run_arm(estimator, range(0, 3 * MS, MS))
        for stamp, shift in order:
            estimator.on_joints(arm_at(stamp * MS, shift=shift, speed=0.1), 30 * MS)
        results.append(estimator.estimate(30 * MS).state.position)
    for result in some(results[1:]):
        np.testing.assert_array_equal(result, results[0])


def test_measurement_older_than_what_was_used_is_counted_late(arm: StateEstimator):
    before = arm.estimate(1200 * MS).state
    arm.on_joints(arm_at(1195 * MS, shift=0.001), 1200 * MS)
    np.testing.assert_array_equal(arm.estimate(1200 * MS).state.position, before.position)
    assert arm.counts['late'] == 1


def test_arm_coasts_at_its_velocity_then_is_lost_then_found_again():
    estimator = StateEstimator(ROBOT)
    for step in range(100):
        estimator.on_joints(arm_at(step * 10 * MS, shift=0.5 * step * 0.01, speed=0.5), step * 10 * MS)
    estimate = estimator.estimate(1100 * MS)
    assert estimate.status is Status.COASTING
    assert estimate.reason == 'no usable measurement of the arm for 0.110 s'
    assert estimate.state.position[0] == pytest.approx(0.55, abs=1e-3)
    lost = estimator.estimate(1145 * MS)
    assert (lost.status, lost.state) == (Status.LOST, None)
    assert lost.reason == 'no usable measurement of the arm for 0.155 s; the limit is 0.15 s'
    estimator.on_joints(arm_at(1150 * MS, shift=0.575, speed=0.5), 1150 * MS)
    found = estimator.estimate(1150 * MS)
    assert found.status is Status.TRACKING
    assert found.state.position[0] == pytest.approx(0.575, abs=1e-3)


def test_one_silent_joint_is_enough_to_coast_and_is_named(arm: StateEstimator):
    arm.on_joints(JointMeasurement(1290 * MS, NAMES[1:], arm_at(0).position[1:]), 1290 * MS)
    estimate = arm.estimate(1290 * MS)
    assert estimate.status is Status.COASTING
    assert 'of panda_joint1 for 0.090 s' in estimate.reason


def test_body_out_of_sight_is_held_at_rest_and_named_while_the_arm_goes_on():
    estimator = StateEstimator(ROBOT, ['object'])
    for step in range(50):
        estimator.on_body(cube_at(step * 10 * MS, x=0.3 + 0.1 * step * 0.01), step * 10 * MS)
    run_arm(estimator, range(0, 2001 * MS, 10 * MS))
    estimate = estimator.estimate(2000 * MS)
    assert (estimate.status, estimate.held) == (Status.TRACKING, ('object',))
    assert estimate.reason == 'object out of sight, held at rest'
    assert estimate.state.positions(['object_x'])[0] == pytest.approx(0.349 + 0.1 * 0.3, abs=2e-3)
    assert not estimate.state.velocity[8:].any()


def test_yaw_is_continuous_through_half_turns():
    estimator = StateEstimator(ROBOT, ['object'])
    for step in range(400):
        w, x, y, z = euler2quat(0.0, 0.0, 0.02 * step, 'sxyz')
        estimator.on_body(cube_at(step * 10 * MS, quaternion=(x, y, z, w)), step * 10 * MS)
    run_arm(estimator, range(3900 * MS, 3991 * MS, 10 * MS))
    state = estimator.estimate(3990 * MS).state
    assert state.positions(['object_yaw'])[0] == pytest.approx(0.02 * 399, abs=0.01)
    assert state.velocities(['object_yaw'])[0] == pytest.approx(2.0, abs=0.05)


def test_single_outlier_is_dropped(arm: StateEstimator):
    arm.on_joints(arm_at(1210 * MS, shift=0.3), 1210 * MS)
    arm.on_joints(arm_at(1220 * MS), 1220 * MS)
    state = arm.estimate(1220 * MS).state
    np.testing.assert_allclose(state.positions(ROBOT.joints), ROBOT.home_rad, atol=1e-6)
    assert (arm.counts['outlier'], arm.counts['jump']) == (1, 0)


def test_world_put_back_is_followed_after_three_measurements_and_told(arm: StateEstimator):
    for step in range(1, 4):
        arm.on_joints(arm_at((1200 + 10 * step) * MS, shift=0.4), (1200 + 10 * step) * MS)
        arm.estimate((1200 + 10 * step) * MS)
    state = arm.estimate(1230 * MS).state
    np.testing.assert_allclose(state.positions(ROBOT.joints), np.array(ROBOT.home_rad) + 0.4, atol=1e-9)
    assert arm.counts['jump'] == 1
    assert arm.take_notices() == [f'jump of {", ".join(ROBOT.joints)} at 1.230 s; estimation goes on from there']
    assert arm.take_notices() == []


def test_joints_that_flicker_are_lost_rather_than_believed(arm: StateEstimator):
    rng = np.random.default_rng(0)
    for stamp in range(1210, 1400, 10):
        arm.on_joints(arm_at(stamp * MS, shift=float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.5))), stamp * MS)
    assert arm.estimate(1390 * MS).status is Status.LOST
    assert arm.counts['jump'] == 0


@pytest.mark.parametrize(('stamp', 'text'), [
    (1310, r'stamp lies 0\.110 s in the future; at most 0\.1 s is allowed'),
    (690, r'stamp lies 0\.510 s in the past; at most 0\.5 s is allowed'),
    (-1, 'in the past'),
])
def test_stamp_far_from_the_clock_is_refused_and_counted(arm: StateEstimator, stamp, text):
    with pytest.raises(MeasurementError, match=text):
        arm.on_joints(arm_at(stamp * MS), 1200 * MS)
    assert arm.counts['stamp'] == 1
    assert arm.estimate(1200 * MS).status is Status.TRACKING


def test_refused_message_is_counted_by_reason_and_changes_nothing(arm: StateEstimator):
    before = arm.estimate(1200 * MS).state
    with pytest.raises(MeasurementError, match='panda_joint3'):
        arm.on_joints(JointMeasurement(1210 * MS, ['panda_joint1', 'panda_joint3'], [0.0, math.nan]), 1210 * MS)
    assert arm.counts == {'position': 1, 'outlier': 0}
    np.testing.assert_array_equal(arm.estimate(1200 * MS).state.position, before.position)


def test_unknown_joints_are_told_once(arm: StateEstimator):
    for stamp in (1210, 1220):
        arm.on_joints(JointMeasurement(stamp * MS, ['wheel'], [1.0]), stamp * MS)
    assert arm.take_notices() == ["joint states carry wheel, which 'panda' does not have; ignored"]


def test_body_that_is_not_tracked_is_refused(arm: StateEstimator):
    with pytest.raises(MeasurementError, match="pose of 'object', but tracked is nothing"):
        arm.on_body(cube_at(1200 * MS), 1200 * MS)


def test_clock_that_starts_again_starts_estimation_again(arm: StateEstimator):
    arm.on_joints(arm_at(20 * MS, shift=1.0), 20 * MS)
    estimate = arm.estimate(20 * MS)
    assert estimate.status is Status.TRACKING
    np.testing.assert_allclose(estimate.state.positions(ROBOT.joints), np.array(ROBOT.home_rad) + 1.0)
    assert 'the clock went back from 1.200 s to 0.020 s' in arm.take_notices()[0]


def test_clock_set_back_by_little_is_told_from_late_messages_where_they_come_in_order():
    arm, other = StateEstimator(ROBOT, in_order=True), StateEstimator(ROBOT)
    for estimator in (arm, other):
        run_arm(estimator, range(0, 301 * MS, 10 * MS))
        estimator.on_joints(arm_at(250 * MS, shift=1.0), 300 * MS)
        assert estimator.counts['restart'] == 0, 'the clock has not gone back'
        estimator.on_joints(arm_at(250 * MS, shift=1.0), 250 * MS)
    assert (arm.counts['restart'], other.counts['restart']) == (1, 0)
    assert arm.received_ns.max() == 250 * MS
    np.testing.assert_allclose(arm.estimate(250 * MS).state.positions(ROBOT.joints), np.array(ROBOT.home_rad) + 1.0)


def test_clock_that_lags_behind_measurements_in_order_is_not_set_back():
    arm = StateEstimator(ROBOT, in_order=True)
    run_arm(arm, range(0, 301 * MS, 10 * MS))
    arm.on_joints(arm_at(310 * MS), 250 * MS)
    arm.on_joints(arm_at(310 * MS), 250 * MS)
    assert arm.counts['restart'] == 0


def test_estimate_for_a_moment_already_passed_has_no_state(arm: StateEstimator):
    estimate = arm.estimate(1190 * MS)
    assert (estimate.status, estimate.state) == (Status.LOST, None)
    assert 'later were already used' in estimate.reason


def test_received_stamps_are_kept_for_each_entry():
    estimator = StateEstimator(ROBOT, ['object'])
    run_arm(estimator, range(0, 51 * MS, 10 * MS))
    assert estimator.received_ns.tolist() == [50 * MS] * 8 + [-1] * 6
    estimator.on_body(cube_at(33 * MS), 50 * MS)
    assert estimator.received_ns.tolist() == [50 * MS] * 8 + [33 * MS] * 6


def test_measurement_sent_again_and_again_counts_once(arm: StateEstimator):
    for _ in range(5):
        arm.on_joints(arm_at(1210 * MS, shift=0.4), 1210 * MS)
    np.testing.assert_allclose(arm.estimate(1210 * MS).state.positions(ROBOT.joints), ROBOT.home_rad, atol=1e-6)
    assert (arm.counts['repeated'], arm.counts['jump']) == (4, 0)


def test_pose_in_another_frame_is_refused():
    estimator = StateEstimator(ROBOT, ['object'])
    with pytest.raises(MeasurementError, match="pose of 'object' is in the frame 'camera'; it needs 'panda_link0'"):
        estimator.on_body(BodyMeasurement(0, 'object', (0, 0, 0), LEVEL, 'camera'), 0)
    estimator.on_body(BodyMeasurement(0, 'object', (0, 0, 0), LEVEL, 'panda_link0'), 0)
    assert estimator.counts == {'frame': 1}


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match='coast_after_s 0.2 needs to be at most coast_limit_s 0.15'):
        EstimatorConfig(coast_after_s=0.2)


NUMBER = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-3, 3)
JOINT_MESSAGES = st.builds(
    JointMeasurement, stamp_ns=st.integers(-2**40, 2**62) | st.integers(0, 10**9),
    names=st.lists(st.sampled_from([*NAMES, 'wheel', '']), max_size=10) | st.just(list(NAMES)),
    position=st.lists(NUMBER, max_size=10) | st.lists(st.floats(-3, 3), min_size=9, max_size=9),
    velocity=st.none() | st.lists(NUMBER, max_size=10))
BODY_MESSAGES = st.builds(
    BodyMeasurement, stamp_ns=st.integers(0, 10**9), body=st.sampled_from(['object', 'other']),
    position_m=st.tuples(NUMBER, NUMBER, NUMBER),
    quaternion_xyzw=st.just(LEVEL) | st.just((1.0, 0.0, 0.0, 0.0)) | st.tuples(NUMBER, NUMBER, NUMBER, NUMBER))


@settings(max_examples=150, deadline=None)
@given(messages=st.lists(JOINT_MESSAGES | BODY_MESSAGES, max_size=25), steps=st.lists(st.integers(0, 10**8), min_size=25))
def test_random_measurements_never_give_a_state_that_is_not_finite(messages, steps):
    estimator = StateEstimator(ROBOT, ['object'])
    estimator.on_body(cube_at(0), 0)
    estimator.on_joints(arm_at(0), 0)
    now_ns = 0
    for message, step in zip(messages, steps):
        now_ns += step
        take = estimator.on_joints if isinstance(message, JointMeasurement) else estimator.on_body
        try:
            take(message, now_ns)
        except MeasurementError as error:
            assert '\n' not in str(error)
        estimate = estimator.estimate(now_ns)
        assert (estimate.state is None) == (estimate.status in (Status.WAITING, Status.LOST))
        if estimate.state is not None:
            assert np.isfinite(estimate.state.position).all() and np.isfinite(estimate.state.velocity).all()
