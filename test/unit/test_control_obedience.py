"""An arm that does not obey is held, by name and in time, and nothing jumps when it obeys again; against MuJoCo's imperfect arm.

The arm's servos lag by 30 to 45 ms and sag, commands take 10 to 20 ms, and its controllers are as ros2_control ships them: no
time-out, and trajectories that are spliced from the measured state.
"""

import dataclasses

import numpy as np
import pytest

pytest.importorskip('mujoco')

from support.guarded_driver import CONTROL_S, GuardedDriver  # noqa: E402

from mbrl_ros.control.safety.reasons import HoldReason  # noqa: E402
from mbrl_ros.robots.profile import load_robot  # noqa: E402

#: Limits that the motors of the URDF can keep.
ARM = dataclasses.replace(load_robot('panda'), max_velocity_rad_s=(1.05,) * 7, max_acceleration_rad_s2=(3.5,) * 7)
SPEED, ACCELERATION = 1.05, 3.5
INTERFACES = ('velocity', 'position', 'trajectory')
#: Motion of some joints, each away from its limits.
STEADY = np.array([0.5, 0.0, -0.4, 0.0, 0.5, 0.3, -0.5])
NOTICED_S = 0.3
#: From a hold to standstill: braking at the limit, and 0.15 s for the driver and its servos.
STANDSTILL_S = np.abs(STEADY).max() / ACCELERATION + 0.15


def moving(command_type, seconds=1.0, velocity=STEADY, **changes):
    """An arm in steady motion."""
    arm = GuardedDriver(ARM, command_type, **changes)
    arm.run(None, 0.6)
    arm.run(velocity, seconds)
    assert arm.outcomes[-1].hold is None
    return arm


def holds_after(arm, count):
    return [outcome.hold for outcome in arm.outcomes[count:]]


def assert_noticed(arm, count, reason):
    """The hold comes in time, and the arm stands in time after it."""
    holds = holds_after(arm, count)
    assert reason in holds
    tick = holds.index(reason)
    assert tick / 120.0 <= NOTICED_S
    stands_s = 0.6 + 1.0 + (tick / 120.0) + STANDSTILL_S
    assert np.abs(arm.speeds(stands_s)).max() < 0.08  # A reference in doubt creeps.


def wander(arm, seconds, seed=0):
    """Random motion, as while exploring, up to the limits."""
    rng, limits = np.random.default_rng(seed), np.array(arm.robot.max_velocity_rad_s)
    wish = np.zeros(7)
    for _ in range(round(seconds / CONTROL_S)):
        wish = 0.85 * wish + 0.3 * rng.standard_normal(7) * limits
        away = arm.state.positions(ARM.joints) - np.array(ARM.home_rad)
        arm.run(np.clip(wish - 2.0 * np.sign(away) * np.maximum(np.abs(away) - 0.4, 0.0), -limits, limits), CONTROL_S)


@pytest.mark.parametrize('command_type', INTERFACES)
@pytest.mark.parametrize('splices_from_measured', [False, True])
def test_random_motion_stays_within_the_limits_and_is_no_fault(command_type, splices_from_measured):
    if splices_from_measured and command_type != 'trajectory':
        pytest.skip('only trajectories are spliced')
    arm = GuardedDriver(ARM, command_type, interpolate_from_desired_state=not splices_from_measured,
                        command_latency_s=(0.015, 0.015))
    arm.run(None, 0.6)
    count = len(arm.outcomes)
    wander(arm, 4.0)
    assert set(holds_after(arm, count)) == {None}
    assert np.abs(arm.speeds(0.6)).max() <= 1.1 * SPEED
    assert np.abs(arm.accelerations(0.6)).max() <= 1.5 * ACCELERATION
    assert arm.driver.world.table_contact_steps == 0


@pytest.mark.parametrize('seed', range(3))
def test_an_arm_at_the_full_limits_of_its_profile_follows(seed):
    arm = GuardedDriver(load_robot('panda'), 'velocity', seed=seed)
    arm.run(None, 0.6)
    count = len(arm.outcomes)
    wander(arm, 4.0, seed)
    assert set(holds_after(arm, count)) == {None}
    assert (np.abs(arm.accelerations(0.6)).max(axis=0) <= 1.4 * np.array(arm.robot.max_acceleration_rad_s2)).all()


@pytest.mark.parametrize('command_type', INTERFACES)
def test_frozen_positions_under_fresh_stamps_hold_the_arm(command_type):
    arm = moving(command_type)
    count, before = len(arm.outcomes), arm.positions[-1]
    arm.faults(frozen_positions=True)
    arm.run(STEADY, 0.9)
    assert_noticed(arm, count, HoldReason.NOT_FOLLOWING)
    assert np.abs(arm.positions[-1] - before).max() < 0.35


@pytest.mark.parametrize('command_type', INTERFACES)
def test_a_protective_stop_holds_the_arm_and_nothing_jumps_after_it(command_type):
    arm = moving(command_type)
    count = len(arm.outcomes)
    arm.faults(protective_stop=True)
    arm.run(STEADY, 2.0)
    assert_noticed(arm, count, HoldReason.NOT_FOLLOWING)
    arm.faults()
    arm.run(STEADY, 3.0)
    assert arm.outcomes[-1].hold is None
    assert np.abs(arm.speeds(3.7)).max() <= 1.1 * np.abs(STEADY).max()
    assert np.abs(arm.accelerations(3.7)).max() <= 2.0 * ACCELERATION


@pytest.mark.parametrize('command_type', INTERFACES)
def test_a_joint_at_a_stop_is_not_pushed_for_long(command_type):
    arm = moving(command_type)
    count = len(arm.outcomes)
    arm.faults(stuck_joint='panda_joint5')
    arm.run(STEADY, 1.0)
    assert_noticed(arm, count, HoldReason.NOT_FOLLOWING)
    detail = next(outcome.detail for outcome in arm.outcomes[count:] if outcome.hold is HoldReason.NOT_FOLLOWING)
    assert detail.startswith('panda_joint5 moved')


@pytest.mark.parametrize('command_type', INTERFACES)
def test_with_a_third_of_the_commands_lost_the_arm_does_not_run_away(command_type):
    arm = moving(command_type)
    arm.faults(command_drop_probability=0.3)
    wander(arm, 3.0)
    # A lost position is made up for by the next one; what is lost of the other interfaces is not missed.
    assert np.abs(arm.speeds(1.7)).max() <= (1.5 if command_type == 'position' else 1.15) * SPEED


@pytest.mark.parametrize('command_type', INTERFACES)
def test_a_controller_that_falls_silent_leaves_no_arm_moving(command_type):
    arm = moving(command_type)
    count = len(arm.outcomes)
    arm.run(None, 1.0)
    assert holds_after(arm, count)[-1] is HoldReason.NO_COMMAND
    assert np.abs(arm.speeds(1.6 + 0.075 + STANDSTILL_S)).max() < 0.05


@pytest.mark.parametrize('command_type', INTERFACES)
def test_a_guard_that_was_frozen_goes_on_from_the_measured_velocity(command_type):
    arm = moving(command_type)
    for _ in range(round(0.3 * arm.config.world.physics_hz)):  # The driver has no time-out, and nobody tells it anything.
        arm.driver.step(arm.driver.next_stamp_ns)
    arm.state = None
    arm.step()
    arm.run(STEADY, 0.3)
    assert any(outcome.hold in (HoldReason.LATE_TICK, HoldReason.NOT_FOLLOWING) for outcome in arm.outcomes[-40:])
    assert np.abs(arm.speeds(1.65)).max() <= 1.1 * SPEED


def test_the_response_of_the_arm_is_identified():
    arm = GuardedDriver(ARM, 'velocity')
    arm.run(None, 0.6)
    wander(arm, 3.0)
    assert 0.03 <= arm.guard.response_s <= 0.09
