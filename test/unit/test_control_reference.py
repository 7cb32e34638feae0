"""Positions and trajectories for drivers: within the limits between their points too, and never far ahead of the arm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_ros.control.safety.reference import PositionReference, braking_window

DT, HOLD, STEP = 0.05, 0.03, 0.02
ACCELERATION = np.array([10.0, 7.5])
NO_LEAD = (np.zeros(2), np.zeros(2))


def speeds():
    return st.lists(st.floats(-1.8, 1.8), min_size=2, max_size=2).map(np.array)


def spline_accelerations(times, positions, velocities):
    """Accelerations at the ends of every piece of the cubic Hermite spline through the points, shape (K - 1, 2, J)."""
    dt = np.diff(times)[:, None]
    p0, p1, v0, v1 = positions[:-1], positions[1:], velocities[:-1], velocities[1:]
    begin = 6.0 * (p1 - p0) / dt**2 - (4.0 * v0 + 2.0 * v1) / dt
    end = -6.0 * (p1 - p0) / dt**2 + (2.0 * v0 + 4.0 * v1) / dt
    return np.stack([begin, end], axis=1)


@given(speeds(), speeds())
def test_the_spline_through_the_window_stays_within_the_acceleration_limits(before, change):
    velocity = np.clip(before + change, before - ACCELERATION * DT, before + ACCELERATION * DT)
    times, positions, velocities = braking_window(np.zeros(2), (before, velocity), ACCELERATION, DT, HOLD)
    assert len(positions) == len(velocities) >= 3
    assert not velocities[-1].any()
    np.testing.assert_array_equal(velocities[:3], [before, velocity, velocity])
    assert (np.abs(spline_accelerations(times, positions, velocities)) <= ACCELERATION + 1e-6).all()


@given(speeds())
def test_it_stops_within_the_braking_distance_and_half_a_step(velocity):
    _, positions, _ = braking_window(np.zeros(2), (velocity, velocity), ACCELERATION, DT, HOLD)
    shortest = np.abs(velocity) * (DT + HOLD) + velocity**2 / (2.0 * ACCELERATION)
    assert (np.abs(positions[-1]) >= shortest - 1e-9).all()
    assert (np.abs(positions[-1]) <= shortest + np.abs(velocity) * STEP / 2.0 + 1e-9).all()


@pytest.mark.parametrize('start', [0.0, 1.5])
def test_a_zero_command_stays_where_it_is(start):
    _, positions, velocities = braking_window(np.full(2, start), (np.zeros(2), np.zeros(2)), ACCELERATION, DT, HOLD)
    np.testing.assert_array_equal(positions, np.full((len(positions), 2), start))
    assert not velocities.any()


def test_a_reference_integrates_what_was_sent_and_not_what_was_measured():
    reference, lead = PositionReference(), (np.full(2, -0.2), np.full(2, 0.2))
    starts = [reference.advance(np.array([1.0, -1.0]), DT, np.zeros(2), lead) for _ in range(3)]
    np.testing.assert_allclose(starts, [[0.0, 0.0], [0.05, -0.05], [0.1, -0.1]])


def test_a_reference_leads_an_arm_that_stands_by_no_more_than_it_may():
    reference, lead = PositionReference(), (np.full(2, -0.1), np.full(2, 0.1))
    starts = [reference.advance(np.array([1.0, -1.0]), DT, np.zeros(2), lead) for _ in range(20)]
    np.testing.assert_allclose(starts[-1], [0.1, -0.1])


def test_after_a_rest_a_reference_starts_where_the_arm_is():
    reference = PositionReference()
    reference.advance(np.ones(2), DT, np.zeros(2), NO_LEAD)
    reference.rest()
    np.testing.assert_array_equal(reference.advance(np.ones(2), DT, np.full(2, 0.7), NO_LEAD), np.full(2, 0.7))
