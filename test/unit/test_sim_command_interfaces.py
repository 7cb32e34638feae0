"""The command interfaces: what they obey, what they refuse in words, and how they stop."""

import math

import numpy as np
import pytest

from mbrl_sim.command_interfaces import (
    InterfaceConfig,
    InterfaceLimits,
    Measured,
    TrajectoryCommand,
    TrajectoryPoint,
    make_interface,
)

LIMITS = InterfaceLimits(('a', 'b'), lower=np.full(2, -3.0), upper=np.full(2, 3.0), max_velocity=np.full(2, 2.0),
                    max_acceleration=np.array([10.0, 5.0]))
DT = 1.0 / 240.0


class Arm:
    """Two joints that do exactly what the interface says."""

    def __init__(self, command_type, **settings):
        self.q, self.now_s = np.array([0.1, -0.2]), 0.0
        self.interface = make_interface(command_type, LIMITS, self.q, InterfaceConfig(**settings))

    def run(self, duration_s):
        """Velocities of each step, shape (steps, 2)."""
        velocities = []
        for _ in range(round(duration_s / DT)):
            before = self.q
            setpoint = self.interface.advance(self.now_s, DT, self.q)
            self.q = before + setpoint.velocity * DT if setpoint.position is None else setpoint.position
            velocities.append((self.q - before) / DT)
            self.now_s += DT
        return np.array(velocities)

    def accept(self, command):
        return self.interface.accept(command, self.now_s, Measured(self.q, np.zeros(2)))


def trajectory(*points, joints=('a', 'b'), start_s=None):
    return TrajectoryCommand(joints, [TrajectoryPoint(*point) for point in points], start_s)


@pytest.mark.parametrize('command_type', ['velocity', 'position', 'trajectory'])
def test_a_face_without_commands_holds(command_type):
    arm = Arm(command_type)
    assert not arm.run(1.0).any()
    assert arm.interface.holding


def test_velocities_are_obeyed_within_the_limits_while_commands_come():
    arm = Arm('velocity')
    assert arm.accept([0.5, -9.0]) == ''
    np.testing.assert_allclose(arm.run(0.15), np.tile([0.5, -2.0], (36, 1)))
    assert not arm.interface.holding


def test_a_velocity_ends_in_a_stop_within_the_acceleration_limits_and_a_hold():
    arm = Arm('velocity', command_timeout_s=0.2)
    arm.accept([1.0, -1.0])
    velocities = arm.run(1.0)
    changes = np.abs(np.diff(velocities, axis=0))
    assert (changes <= LIMITS.max_acceleration * DT + 1e-9).all()
    moving = np.abs(velocities) > 1e-9
    assert moving[:48].all() and not moving[round(0.42 / DT):].any()
    np.testing.assert_allclose(arm.q - [0.1, -0.2], [0.2 + 0.05, -(0.2 + 0.1)], atol=0.02)
    assert arm.interface.holding


def test_a_wrong_length_stops_the_arm_with_a_reason_until_a_valid_command():
    for command_type in ('velocity', 'position'):
        arm = Arm(command_type)
        arm.accept([0.5, 0.5])
        arm.run(0.1)
        assert arm.accept([0.5]) == f'{command_type} command needs 2 numbers (a, b), got 1; the arm holds until a valid one'
        arm.run(0.5)
        assert arm.interface.holding
        assert arm.accept([0.4, 0.4]) == ''
        assert arm.run(0.05).any()


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_command_that_is_not_finite_is_dropped_and_the_one_before_stays(bad):
    arm = Arm('velocity')
    arm.accept([0.5, 0.5])
    assert arm.accept([0.1, bad]) == 'velocity command is not finite for b; dropped'
    np.testing.assert_allclose(arm.run(0.1), 0.5)


@pytest.mark.parametrize('command_type', ['velocity', 'position'])
def test_without_a_time_out_the_last_command_is_followed_for_ever(command_type):
    arm = Arm(command_type, command_timeout_s=0.0)
    arm.accept([0.5, -0.25])
    arm.run(100.0)
    assert not arm.interface.holding or command_type == 'position'
    np.testing.assert_allclose(arm.q, [50.1, -25.2] if command_type == 'velocity' else [0.5, -0.25])


def test_dropped_commands_do_not_keep_the_arm_going():
    arm = Arm('velocity')
    arm.accept([0.5, 0.5])
    for _ in range(10):
        arm.run(0.1)
        arm.accept([math.nan, 0.0])
    assert arm.interface.holding


def test_a_position_is_approached_no_faster_than_the_velocity_limit_and_held():
    arm = Arm('position')
    velocities = []
    for _ in range(6):
        arm.accept([0.5, -0.25])
        velocities.append(arm.run(0.1))
    assert np.abs(np.concatenate(velocities)).max() <= 2.0 + 1e-9
    np.testing.assert_allclose(arm.q, [0.5, -0.25])
    arm.run(1.0)
    np.testing.assert_allclose(arm.q, [0.5, -0.25])


def test_a_position_beyond_the_limits_leads_to_the_limit_and_back_at_once():
    arm = Arm('position', command_timeout_s=10.0)
    arm.accept([9.0, 0.0])
    arm.run(3.0)
    np.testing.assert_allclose(arm.q, [3.0, 0.0])
    arm.accept([0.0, 0.0])
    assert arm.run(0.1)[:, 0].max() < 0.0


def test_a_position_face_stops_on_the_way_when_commands_cease():
    arm = Arm('position')
    arm.accept([5.0, -5.0])
    arm.run(1.0)
    assert arm.interface.holding
    np.testing.assert_allclose(arm.q, [0.1 + 0.4 + 0.2, -0.2 - 0.4 - 0.4], atol=0.03)


def test_points_without_velocities_are_joined_by_straight_lines():
    arm = Arm('trajectory')
    assert arm.accept(trajectory((1.0, (0.3, 0.0)), (2.0, (0.3, 0.4)))) == ''
    first, second = arm.run(1.0), arm.run(1.0)
    np.testing.assert_allclose(first, np.tile([0.2, 0.2], (240, 1)), atol=1e-9)
    np.testing.assert_allclose(second, np.tile([0.0, 0.4], (240, 1)), atol=1e-9)
    assert not arm.run(0.5).any()
    np.testing.assert_allclose(arm.q, [0.3, 0.4])


def test_points_with_velocities_are_joined_by_cubics_that_meet_them():
    arm = Arm('trajectory')
    start = arm.q
    assert arm.accept(trajectory((1.0, (0.6, 0.0), (0.5, 0.2)), (2.0, (0.9, 0.1), (0.0, 0.0)))) == ''
    velocities = arm.run(0.5)
    # The cubic from (0.1, rest) to (0.6, 0.5) at half time: mean of the ends minus an eighth of the slopes' difference.
    np.testing.assert_allclose(arm.q, (start + [0.6, 0.0]) / 2 - np.array([0.5, 0.2]) / 8, atol=1e-9)
    velocities = np.concatenate([velocities, arm.run(1.5)])
    np.testing.assert_allclose(velocities[239], [0.5, 0.2], atol=0.02)
    assert np.abs(np.diff(velocities, axis=0)).max() < 0.03
    np.testing.assert_allclose(arm.q, [0.9, 0.1], atol=1e-6)
    arm.run(0.1)
    assert arm.interface.holding


def test_points_with_accelerations_are_joined_by_quintics_that_meet_them():
    arm = Arm('trajectory')
    start = arm.q
    rest = (0.0, 0.0)
    assert arm.accept(trajectory((1.0, (0.6, 0.0), rest, rest), (2.0, (0.3, 0.1), rest, (0.0, 0.0)))) == ''
    for share in (0.25, 0.5, 0.75, 1.0):  # From rest to rest: 10 s³ - 15 s⁴ + 6 s⁵.
        velocities = arm.run(0.25)
        np.testing.assert_allclose(arm.q, start + share**3 * (10 - 15 * share + 6 * share**2) * ([0.6, 0.0] - start), atol=1e-9)
    assert np.abs(velocities[-1]).max() < 1e-4
    arm = Arm('trajectory')
    assert arm.accept(trajectory((1.0, (0.6, 0.0), (0.5, 0.2), (0.8, -0.4)), (2.0, (0.9, 0.1), rest, rest))) == ''
    velocities = arm.run(2.0)
    np.testing.assert_allclose(velocities[239:241].mean(axis=0), [0.5, 0.2], atol=1e-3)
    np.testing.assert_allclose(np.diff(velocities, axis=0)[239] / DT, [0.8, -0.4], atol=0.03)


def test_a_quintic_that_replaces_another_goes_on_with_its_acceleration():
    arm, rest = Arm('trajectory'), (0.0, 0.0)
    arm.accept(trajectory((1.0, (1.1, 0.8), rest, rest)))
    before = arm.run(0.25)
    arm.accept(trajectory((1.0, (0.5, 0.5), rest, rest)))
    velocities = np.concatenate([before, arm.run(0.25)])
    accelerations = np.diff(velocities, axis=0) / DT
    assert np.abs(np.diff(accelerations, axis=0)[50:70]).max() < 0.5 < np.abs(accelerations[59]).min()


@pytest.mark.parametrize(('from_desired', 'start'), [(True, [0.35, -0.2]), (False, [0.3, -0.25])])
def test_a_splice_starts_from_the_reference_or_from_the_measured_state(from_desired, start):
    arm = Arm('trajectory', interpolate_from_desired_state=from_desired)
    arm.accept(trajectory((1.0, (0.6, -0.2))))
    arm.run(0.5)
    measured = Measured(arm.q - 0.05, np.zeros(2))  # It lags behind the reference.
    assert arm.interface.accept(trajectory((1.0, (0.0, 0.0))), arm.now_s, measured) == ''
    arm.run(0.25)
    np.testing.assert_allclose(arm.q, 0.75 * np.array(start), atol=1e-9)
    assert arm.accept(trajectory((1.0, (0.0, 0.0), (0.0, 0.0)))) == ''


def test_a_splice_from_the_measured_state_starts_with_its_velocity():
    arm = Arm('trajectory', interpolate_from_desired_state=False)
    command = trajectory((1.0, (0.6, 0.0), (0.0, 0.0), (0.0, 0.0)))
    assert arm.interface.accept(command, 0.0, Measured(arm.q, np.array([0.4, -0.4]))) == ''
    velocities = arm.run(1.0)
    # What is measured has no acceleration, so that the first piece is a cubic.
    np.testing.assert_allclose(velocities[119], 1.5 * (np.array([0.6, 0.0]) - [0.1, -0.2]) - np.array([0.4, -0.4]) / 4, atol=0.01)
    np.testing.assert_allclose(velocities[0], [0.4, -0.4], atol=0.02)


def test_a_trajectory_that_has_begun_already_is_followed_where_it_is_now():
    arm = Arm('trajectory')
    arm.now_s = 5.0
    assert arm.accept(trajectory((0.0, (0.5, 0.0)), (1.0, (0.9, 0.4)), start_s=4.5)) == ''
    arm.run(0.45)
    np.testing.assert_allclose(arm.q, [0.5 + 0.4 * 0.95, 0.4 * 0.95], atol=1e-9)


def test_a_trajectory_names_its_joints_in_any_order_and_starts_when_stamped():
    arm = Arm('trajectory')
    arm.now_s = 5.0
    assert arm.accept(trajectory((0.5, (0.8, 0.2)), (1.0, (0.8, 0.2)), joints=('b', 'a'), start_s=4.9)) == ''
    arm.run(0.4)
    arm.run(1.0)
    np.testing.assert_allclose(arm.q, [0.2, 0.8])


def test_a_new_trajectory_takes_over_without_a_jump_in_velocity():
    arm = Arm('trajectory')
    arm.accept(trajectory((1.0, (0.6, 0.0), (0.0, 0.0))))
    before = arm.run(0.5)
    arm.accept(trajectory((1.0, (0.0, 0.0), (0.0, 0.0))))
    after = arm.run(1.0)
    assert np.abs(after[0] - before[-1]).max() < 0.02
    np.testing.assert_allclose(arm.q, [0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize(('command', 'reason'), [
    (trajectory((1.0, (0.0, 0.0)), joints=('a', 'c')), 'needs the joints a, b, got a, c'),
    (trajectory((1.0, (0.0, 0.0)), joints=('a',)), 'needs the joints a, b, got a'),
    (trajectory(), 'it has no points'),
    (trajectory((1.0, (0.0,))), 'point 0 needs 2 positions, 0 velocities and 0 accelerations, got 1, 0 and 0'),
    (trajectory((1.0, (0.0, 0.0), (0.0, 0.0)), (2.0, (0.0, 0.0))),
     'point 1 needs 2 positions, 2 velocities and 0 accelerations, got 2, 0 and 0'),
    (trajectory((1.0, (0.0, math.nan))), 'point 0 is not finite'),
    (trajectory((1.0, (0.0, 0.0)), (1.0, (0.0, 0.0))), 'needs to increase, point 1 has 1.0 s after 1.0 s'),
    (trajectory((1.0, (0.0, 0.0)), start_s=-3.0), 'it ended 2.000 s ago'),
    (trajectory((1.0, (0.0, 0.0), (0.0, 1e300))), 'point 0 is faster than the joints can be'),
    (trajectory((1.0, (0.0, 0.0), (), (0.0, 0.0))), 'the accelerations of point 0 need velocities too'),
    (trajectory((1.0, (0.0, 0.0), (0.0, 0.0), (1e300, 0.0))), 'accelerations of point 0 need velocities too, and at most 1e+06'),
    (trajectory((1.0, (0.0, 0.0), (0.0, 0.0), (0.0,))),
     'point 0 needs 2 positions, 2 velocities and 2 accelerations, got 2, 2 and 1'),
    (trajectory((1.0, (0.0, 0.0), (0.0, 0.1))), 'the last point needs zero velocity'),
])
def test_a_refused_trajectory_is_named_and_the_one_before_goes_on(command, reason):
    arm = Arm('trajectory')
    arm.accept(trajectory((0.5, (0.2, 0.2))))
    assert reason in arm.accept(command)
    arm.run(0.6)
    np.testing.assert_allclose(arm.q, [0.2, 0.2])


def test_a_trajectory_may_end_in_motion_where_allowed_and_the_arm_then_stops():
    arm = Arm('trajectory', allow_nonzero_velocity_at_trajectory_end=True)
    assert arm.accept(trajectory((0.5, (0.3, 0.0), (0.5, 0.5)))) == ''
    velocities = arm.run(1.0)
    assert np.abs(velocities[119] - 0.5).max() < 0.05
    assert (np.abs(np.diff(velocities[119:], axis=0)) <= LIMITS.max_acceleration * DT + 1e-9).all()
    assert arm.interface.holding
