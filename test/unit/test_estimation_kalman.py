"""Facts about the filter bank: it is the textbook filter, channel by channel."""

import numpy as np
import pytest

from mbrl_ros.errors import ShapeError
from mbrl_ros.estimation.kalman import ChannelNoise, KalmanBank

STEP_NS = 10_000_000


def make_noise(channels: int = 3, hypotheses: tuple[float, ...] = (2.0,)) -> ChannelNoise:
    return ChannelNoise(position_std=np.full(channels, 0.01), velocity_std=np.full(channels, 0.1),
                        acceleration_std=np.tile(np.array(hypotheses)[:, None], (1, channels)),
                        max_velocity=np.full(channels, 3.0))


def textbook_filter(positions: np.ndarray, velocities: np.ndarray, dt: float) -> np.ndarray:
    """One channel, one hypothesis, matrices as in the book; plain covariance update."""
    mean, cov = np.array([positions[0], velocities[0]]), np.diag([0.01 ** 2, 0.1 ** 2])
    step = np.array([[1.0, dt], [0.0, 1.0]])
    process = 2.0 ** 2 * np.array([[dt ** 4 / 3, dt ** 3 / 2], [dt ** 3 / 2, dt ** 2]])
    for reading in zip(positions[1:], velocities[1:]):
        mean, cov = step @ mean, step @ cov @ step.T + process
        gain = cov @ np.linalg.inv(cov + np.diag([0.01 ** 2, 0.1 ** 2]))
        mean, cov = mean + gain @ (np.array(reading) - mean), (np.eye(2) - gain) @ cov
    return mean


def test_one_hypothesis_equals_the_textbook_filter():
    rng = np.random.default_rng(0)
    positions, velocities = 0.01 * rng.normal(size=(40, 3)), 0.1 * rng.normal(size=(40, 3))
    bank = KalmanBank(make_noise())
    for index in range(40):
        bank.update(np.arange(3), index * STEP_NS, positions[index], velocities[index])
    expected = np.array([textbook_filter(positions[:, c], velocities[:, c], 0.01) for c in range(3)])
    np.testing.assert_allclose(np.column_stack(bank.mean()), expected, atol=1e-12)


def test_channels_do_not_influence_each_other():
    rng = np.random.default_rng(1)
    readings = 0.01 * rng.normal(size=(30, 3))
    together, alone = (KalmanBank(make_noise(hypotheses=(0.1, 2.0, 50.0))) for _ in range(2))
    for index in range(30):
        together.update(np.arange(3), index * STEP_NS, readings[index], np.full(3, np.nan))
        alone.update(np.array([1]), index * STEP_NS, readings[index, 1:2], np.array([np.nan]))
    assert together.mean()[0][1] == pytest.approx(alone.mean()[0][1], abs=1e-15)
    assert together.mean()[1][1] == pytest.approx(alone.mean()[1][1], abs=1e-13)


def test_unmeasured_velocity_is_found_from_positions():
    bank = KalmanBank(make_noise(1, (0.1, 5.0)))
    for index in range(100):
        bank.update(np.array([0]), index * STEP_NS, np.array([0.7 * index * 0.01]), np.array([np.nan]))
    assert bank.mean()[1][0] == pytest.approx(0.7, abs=0.01)


def test_reported_spread_matches_the_error():
    rng = np.random.default_rng(2)
    channels = 400
    bank = KalmanBank(make_noise(channels, (0.5,)))
    position, velocity = np.zeros(channels), np.zeros(channels)
    for index in range(60):
        push = 0.5 * rng.multivariate_normal([0.0, 0.0], [[1e-8 / 3, 1e-6 / 2], [1e-6 / 2, 1e-4]], size=channels)
        position, velocity = position + 0.01 * velocity + push[:, 0], velocity + push[:, 1]
        bank.update(np.arange(channels), index * STEP_NS, position + 0.01 * rng.normal(size=channels),
                    velocity + 0.1 * rng.normal(size=channels))
    for mean, std, truth in zip(bank.mean(), bank.std(), (position, velocity), strict=True):
        assert np.sqrt(np.mean((mean - truth) ** 2)) == pytest.approx(std.mean(), rel=0.15)


@pytest.mark.parametrize('change', [0.0, 0.25, 0.5, 0.75, 1.0])
def test_velocity_may_step_at_any_moment_between_measurements(change):
    noise = ChannelNoise(np.array([5e-4]), np.array([0.01]), np.array([[0.2], [2.0], [10.0], [200.0]]), np.array([3.0]))
    bank = KalmanBank(noise)
    for index in range(50):
        bank.update(np.array([0]), index * STEP_NS, np.zeros(1), np.zeros(1))
    accepted = bank.update(np.array([0]), 50 * STEP_NS, np.array([1.5 * 0.01 * change]), np.array([1.5]))
    assert accepted.all()


def test_outlier_changes_nothing():
    bank = KalmanBank(make_noise())
    for index in range(20):
        bank.update(np.arange(3), index * STEP_NS, np.zeros(3), np.zeros(3))
    accepted = bank.update(np.arange(3), 20 * STEP_NS, np.array([0.0, 1.0, 0.0]), np.zeros(3))
    assert accepted.tolist() == [True, False, True]
    assert bank.mean()[0][1] == 0.0
    assert bank.stamp_ns.tolist() == [20 * STEP_NS, 19 * STEP_NS, 20 * STEP_NS]


def test_channels_that_belong_together_are_refused_together():
    bank = KalmanBank(make_noise())
    bank.update(np.arange(3), 0, np.zeros(3), np.zeros(3))
    accepted = bank.update(np.arange(3), STEP_NS, np.array([0.0, 1.0, 0.0]), np.zeros(3), together=True)
    assert not accepted.any()


def test_sound_measurements_fail_the_gate_as_seldom_as_stated():
    rng = np.random.default_rng(3)
    bank = KalmanBank(make_noise(2000, (0.001,)), gate_probability=0.01)
    refused = 0
    for index in range(20):
        accepted = bank.update(np.arange(2000), index * STEP_NS, 0.01 * rng.normal(size=2000), 0.1 * rng.normal(size=2000))
        refused += int((~accepted).sum())
    assert refused / (2000 * 19) == pytest.approx(0.01, rel=0.25)


def test_reading_out_of_reach_is_refused_however_wide_the_gate_has_grown():
    bank = KalmanBank(make_noise(1, (200.0,)))
    bank.update(np.array([0]), 0, np.zeros(1), np.zeros(1))
    assert not bank.update(np.array([0]), 10 * STEP_NS, np.array([0.4]), np.array([np.nan])).any()
    assert bank.update(np.array([0]), 10 * STEP_NS, np.array([0.3]), np.array([np.nan])).all()


def test_long_silence_starts_afresh():
    bank = KalmanBank(make_noise(1))
    bank.update(np.array([0]), 0, np.zeros(1), np.zeros(1))
    assert bank.update(np.array([0]), 2_000_000_000, np.array([5.0]), np.array([np.nan])).all()
    assert (bank.mean()[0][0], bank.mean()[1][0]) == (5.0, 0.0)


def test_noise_of_unequal_sizes_is_refused():
    with pytest.raises(ShapeError, match=r'velocity_std needs shape \(2,\)'):
        ChannelNoise(np.ones(2), np.ones(3), np.ones((1, 2)), np.ones(2))
    with pytest.raises(ShapeError, match=r'acceleration_std needs shape \(M, 2\)'):
        ChannelNoise(np.ones(2), np.ones(2), np.ones(2), np.ones(2))
