"""What may reach the arm: all limits, always, and a stop that is always possible."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_ros.control.safety.command_filter import CommandFilter, CommandFilterConfig
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot

DT = 0.05
PANDA = load_robot('panda')
CHAIN = KinematicChain.of_robot(PANDA)
HOME = np.array(PANDA.home_rad)
SPEED = np.array(PANDA.max_velocity_rad_s)
ACCELERATION = np.array(PANDA.max_acceleration_rad_s2)
LOWER, UPPER = np.array(PANDA.position_lower_rad), np.array(PANDA.position_upper_rad)
TOLERANCE = 1e-9


def make_filter(**values):
    return CommandFilter(PANDA, CommandFilterConfig(**values))


def clearance_m(q):
    """Smallest height of a moving origin above what is allowed to it."""
    heights = CHAIN.points(torch.as_tensor(q))[..., 2]
    return float(torch.minimum(heights[..., 2:-1].min() - PANDA.workspace.lowest_link_m,
                               heights[..., -1].min() - PANDA.workspace.lowest_tool_m))


def drive(command_filter, q, wanted):
    """Positions and velocities of an arm that does exactly what the filter lets through."""
    positions, velocities = [q], [command_filter.previous]
    for velocity in wanted:
        sent = command_filter.apply(velocity, positions[-1], DT).velocity
        velocities.append(sent)
        positions.append(positions[-1] + sent * DT)
    return np.array(positions), np.array(velocities)


def random_wishes(seed, steps=60):
    """Bang-bang wishes of random length and size, the kind that finds limits quickly."""
    rng = np.random.default_rng(seed)
    held = np.repeat(rng.uniform(-3.0, 3.0, (steps // 10 + 1, 7)) * SPEED, 10, axis=0)
    return held[:steps]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_an_arm_that_obeys_never_leaves_any_limit(seed):
    positions, velocities = drive(make_filter(), HOME, random_wishes(seed))
    assert np.isfinite(velocities).all()
    assert (np.abs(velocities) <= SPEED + TOLERANCE).all()
    assert (np.abs(np.diff(velocities, axis=0)) <= ACCELERATION * DT + TOLERANCE).all()
    assert (positions >= LOWER - TOLERANCE).all() and (positions <= UPPER + TOLERANCE).all()
    assert clearance_m(positions) >= -2e-3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 59))
def test_a_stop_is_possible_at_any_moment(seed, moment):
    command_filter = make_filter()
    positions, _ = drive(command_filter, HOME, random_wishes(seed)[:moment])
    q = positions[-1]
    for _ in range(12):
        before = command_filter.previous
        sent = command_filter.brake(DT)
        assert (np.abs(sent - before) <= ACCELERATION * DT + TOLERANCE).all()
        q = q + sent * DT
        assert (q >= LOWER - TOLERANCE).all() and (q <= UPPER + TOLERANCE).all()
        assert clearance_m(q) >= -2e-3
    assert not sent.any()


@given(st.lists(st.floats(width=64), min_size=0, max_size=9))
def test_whatever_is_asked_the_answer_is_finite_and_of_the_right_length(values):
    answer = make_filter().apply(np.array(values), HOME, DT)
    assert answer.velocity.shape == (7,)
    assert np.isfinite(answer.velocity).all()


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_command_that_is_not_finite_brakes_and_is_named(bad):
    command_filter = make_filter()
    moving = command_filter.apply(SPEED, HOME, DT).velocity
    wanted = SPEED.copy()
    wanted[3] = bad
    answer = command_filter.apply(wanted, HOME, DT)
    assert answer.refusal == 'command not finite at panda_joint4'
    np.testing.assert_allclose(answer.velocity, np.maximum(moving - ACCELERATION * DT, 0.0))


def test_positions_that_cannot_be_checked_brake_and_are_named():
    answer = make_filter().apply(SPEED, HOME * np.nan, DT)
    assert answer.refusal == 'joint positions not finite at panda_joint1'
    assert not answer.velocity.any()


def test_a_command_of_the_wrong_length_is_refused():
    assert make_filter().apply(np.ones(6), HOME, DT).refusal == 'command of shape (6,) for 7 joints'


def test_velocity_limits_keep_the_direction():
    slow = dataclasses.replace(PANDA, max_acceleration_rad_s2=(1e6,) * 7)
    command_filter = CommandFilter(slow, CommandFilterConfig())
    wanted = np.array([3.0, 0.0, -1.5, 0.0, 0.3, 0.0, 0.0])
    answer = command_filter.apply(wanted, HOME, DT)
    np.testing.assert_allclose(answer.velocity, wanted / 2.0)
    assert answer.clamped == ('velocity',)


def test_a_legal_command_passes_unchanged():
    wanted = np.full(7, 0.1)
    answer = make_filter().apply(wanted, HOME, DT)
    np.testing.assert_array_equal(answer.velocity, wanted)
    assert answer.clamped == ()


def test_a_joint_outside_its_limits_may_come_back_but_not_go_further():
    q = HOME.copy()
    q[0] = UPPER[0] + 0.1
    wanted = np.zeros(7)
    wanted[0] = 0.2
    assert make_filter().apply(wanted, q, DT).velocity[0] == 0.0
    assert make_filter().apply(-wanted, q, DT).velocity[0] == -0.2


def test_an_arm_below_the_floor_may_rise_but_not_sink():
    q = HOME.copy()
    q[1], q[3] = 1.0, -2.1
    assert clearance_m(q) < 0.0
    down = np.array([0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0])
    answer = make_filter().apply(down, q, DT)
    assert not answer.velocity.any()
    assert answer.clamped == ('height',)
    np.testing.assert_array_equal(make_filter().apply(-down, q, DT).velocity, -down)


def test_diving_at_full_speed_stops_above_the_floor():
    wanted = np.zeros((80, 7))
    wanted[:, 1] = SPEED[1]
    positions, velocities = drive(make_filter(), HOME, wanted)
    assert clearance_m(positions) >= 0.0
    assert np.abs(velocities[-1]).max() < 0.1
    assert clearance_m(positions[-1]) < 0.05


def test_no_origin_moves_faster_than_the_slow_preset_allows():
    command_filter = make_filter(max_speed_m_s=0.25)
    q = HOME.copy()
    for wanted in random_wishes(3):
        sent = command_filter.apply(wanted, q, DT)
        moved = CHAIN.points(torch.as_tensor(q + sent.velocity * 1e-3)) - CHAIN.points(torch.as_tensor(q))
        assert float(moved.norm(dim=-1).max()) / 1e-3 <= 0.26
        q = q + sent.velocity * DT
    assert 'velocity' in sent.clamped
