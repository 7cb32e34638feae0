"""The window sent to trajectory drivers: one period of the command, then a stop within the limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_ros.control.safety.braking_window import braking_window

DT = 0.05
ACCELERATION = np.array([10.0, 7.5])


def speeds():
    return st.lists(st.floats(-1.8, 1.8), min_size=2, max_size=2).map(np.array)


@given(speeds())
def test_it_ends_standing_and_never_brakes_harder_than_allowed(velocity):
    positions, velocities = braking_window(np.zeros(2), velocity, ACCELERATION, DT)
    assert len(positions) == len(velocities) >= 3
    assert not velocities[-1].any()
    np.testing.assert_array_equal(velocities[0], velocity)
    np.testing.assert_allclose(positions[0], velocity * DT)
    assert (np.abs(np.diff(velocities, axis=0)) <= ACCELERATION * DT + 1e-6).all()


@given(speeds())
def test_it_stops_after_the_braking_distance(velocity):
    positions, _ = braking_window(np.zeros(2), velocity, ACCELERATION, DT)
    expected = velocity * DT + np.sign(velocity) * velocity**2 / (2.0 * ACCELERATION)
    np.testing.assert_allclose(positions[-1], expected, atol=1e-6)


@pytest.mark.parametrize('start', [0.0, 1.5])
def test_a_zero_command_stays_where_it_is(start):
    positions, velocities = braking_window(np.full(2, start), np.zeros(2), ACCELERATION, DT)
    np.testing.assert_array_equal(positions, np.full((3, 2), start))
    assert not velocities.any()
