"""Interquartile means and stratified bootstrap intervals, against closed forms and all resamples enumerated."""

import itertools

import numpy as np
import pytest

from mbrl_ros.runs.intervals import estimate, interquartile_mean

UNEQUAL = [[0.1, 0.5, 0.9], [0.3, 0.8]]


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    assert interquartile_mean(np.array([9.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0, -70.0])) == np.mean([2.0, 3.0, 4.0, 5.0])
    assert interquartile_mean(np.array([0.0, 0.3, 0.9])) == pytest.approx(0.4)


def test_an_interval_has_the_quantiles_of_all_resamples():
    """Each of the 27 x 4 resamples of three and two seeds is as likely; the middle three of five scores count."""
    possible = [np.mean(sorted((*first, *second))[1:-1]) for first in itertools.product(UNEQUAL[0], repeat=3)
                for second in itertools.product(UNEQUAL[1], repeat=2)]
    got = estimate(UNEQUAL)
    assert got.mean == pytest.approx(np.mean([0.3, 0.5, 0.8]))
    for end, share in ((got.low, 0.025), (got.high, 0.975)):
        below, up_to = np.mean(possible < end - 1e-9), np.mean(possible <= end + 1e-9)
        assert below - 0.01 <= share <= up_to + 0.01


def test_seeds_are_resampled_within_their_task():
    got = estimate([[0.0] * 3, [1.0] * 3])
    assert (got.mean, got.low, got.high) == (0.5, 0.5, 0.5)
    pooled = estimate([[0.0] * 3 + [1.0] * 3])
    assert pooled.low < 0.2 and pooled.high > 0.8


def test_two_seeds_span_their_interval():
    """The mean of two draws is either score with probability 1/4."""
    assert estimate([[0.2, 0.6]]) == pytest.approx((0.4, 0.2, 0.6))


def test_a_curve_is_estimated_point_by_point_from_whole_runs():
    curves = np.random.default_rng(0).random((3, 4))
    whole = estimate([curves, curves[:2] / 2])
    for point in range(4):
        assert estimate([curves[:, point], curves[:2, point] / 2]) == pytest.approx(tuple(values[point] for values in whole))


def test_a_single_seed_has_no_interval():
    got = estimate([[0.5, 0.7], [0.25]])
    assert np.isfinite(got.mean) and np.isnan(got.low) and np.isnan(got.high)
