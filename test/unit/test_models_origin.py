"""Entries far from zero: which of them have an origin, and which float32 cannot tell apart even so."""

import numpy as np
import pytest

from mbrl_ros.errors import ShapeError
from mbrl_ros.models.origin import from_origin, lost_in_float32, origin_of, to_absolute

NAMES = ('a', 'b', 'c')


def walk(count=400, step=0.05, seed=0):
    """A value that goes to and fro between about -1 and 1."""
    rng, values = np.random.default_rng(seed), [0.0]
    for _ in range(count):
        values.append(0.98 * values[-1] + step * rng.normal())
    return np.array(values)


def columns(*values):
    rows = np.stack(values, axis=1)
    return rows[:-1], rows[1:]


def test_what_is_far_from_zero_for_its_spread_has_an_origin_and_nothing_else():
    near, far, constant, wide = walk(), 5.3e6 + walk(), np.full(401, -250.0), 100.0 + 50.0 * walk()
    assert origin_of(np.stack([near, wide, np.full(401, 20.0)], axis=1)) == ()
    found = origin_of(np.stack([near, far, constant, wide], axis=1))
    assert found == (0.0, pytest.approx(5.3e6, abs=1.0), -250.0, 0.0)
    assert all(value == round(value) for value in found)


def test_an_entry_that_is_not_finite_has_none():
    assert origin_of(np.array([[1e6, np.inf], [1e6, 1e6], [1e6, np.nan]])) == (1e6, 0.0)


def test_there_and_back_keeps_millimetres_of_a_map():
    obs = 5.3e6 + 1e-3 * np.arange(6.0).reshape(2, 3)
    origin = (5.3e6, 0.0, 5_300_001.0)
    np.testing.assert_array_equal(to_absolute(from_origin(obs, origin), origin), obs)
    np.testing.assert_allclose(from_origin(obs, origin)[:, 0].astype(np.float32), 1e-3 * np.array([0.0, 3.0]), atol=1e-9)
    assert from_origin(obs, ()) is obs and to_absolute(obs, ()) is obs


def test_observations_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r'obs needs shape \(..., 2\), as the origin has, got \(3,\)'):
        from_origin(np.zeros(3), (1e6, 0.0))


def lost(obs, next_obs):
    origin = origin_of(obs)
    return lost_in_float32(from_origin(obs, origin), from_origin(next_obs, origin), origin, NAMES[:obs.shape[1]])


def test_metres_of_a_map_and_a_unix_time_are_not_lost():
    assert lost(*columns(5.3e6 + walk(), 1.79e9 + 0.05 * np.arange(401), walk())) == ()


def test_jitter_at_rest_rare_flags_and_constants_are_not_said_to_be_lost():
    jitter = 1e-7 * np.random.default_rng(0).normal(size=401)
    assert lost(*columns(0.3 + jitter, (np.arange(401) == 200) * 1.0, np.full(401, 7e6))) == ()
    places = np.repeat([0.1, 0.5], 200) + 1e-7 * np.random.default_rng(0).normal(size=400)
    assert lost(places[:, None], places[:, None] + 1e-7) == ()
    assert lost(*columns((0.3 + jitter).astype(np.float32).astype(np.float64), jitter, 20.0 + jitter)) == ()


def test_what_goes_far_in_steps_that_float32_lacks_is_named():
    # Slow in two places that are far from each other, as in two episodes.
    places = np.repeat([-1e5, 1e5], 200) + 1e-3 * np.tile(np.arange(200), 2)
    obs, next_obs = np.stack([places, walk(399)], axis=1), np.stack([places + 1e-3, walk(399)], axis=1)
    assert lost(obs, next_obs) == ('a typically changes by 0.001, up to 1e+05 from its origin, where float32 has steps of '
                                   '0.00781: its changes cannot be learned',)
    assert lost(0.01 * obs, next_obs - 0.99 * obs) == ()


def test_what_came_in_float32_with_its_changes_eaten_is_named():
    eaten = (5.3e6 + walk(step=0.2)).astype(np.float32).astype(np.float64)
    assert (np.diff(eaten) != 0).any()
    said = lost(*columns(walk(), eaten))
    assert len(said) == 1
    assert said[0].startswith('b is about 5.3e+06 and comes in float32, in steps of 0.5: its changes are lost before they arrive')
    assert lost(*columns(walk(), (100.0 + walk()).astype(np.float32).astype(np.float64))) == ()
