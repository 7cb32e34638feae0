"""The accuracy that `mbrl_ros/estimation/config.py` states, on motion whose truth is known."""

import numpy as np
import pytest

from mbrl_ros.estimation.estimator import StateEstimator
from mbrl_ros.estimation.measurements import JointMeasurement
from mbrl_ros.robots.profile import load_robot

ROBOT = load_robot('panda')
TRUTH_HZ, SENSOR_HZ, STATE_HZ = 2400, 120, 100
DURATION_S = 5.0
POSITION_STD, VELOCITY_STD = 5e-4, 0.01
SEEDS = (0, 1, 2)


def stepwise(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Wanted velocity changes 20 times a second, the real one follows at 10 rad/s²; position and velocity (T, J)."""
    velocity, wanted, rows = np.zeros(7), np.zeros(7), []
    for step in range(int(DURATION_S * TRUTH_HZ)):
        if step % (TRUTH_HZ // 20) == 0:
            wanted = np.clip(wanted + rng.normal(0.0, 0.3, 7), -1.5, 1.5)
        velocity = velocity + np.clip(wanted - velocity, -10.0 / TRUTH_HZ, 10.0 / TRUTH_HZ)
        rows.append(velocity)
    return np.cumsum(rows, axis=0) / TRUTH_HZ, np.array(rows)


def sinusoidal(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    time = np.arange(int(DURATION_S * TRUTH_HZ))[:, None] / TRUTH_HZ
    rate, phase = 2.0 * np.pi * rng.uniform(0.1, 0.6, (3, 1, 7)), rng.uniform(0.0, 6.0, (3, 1, 7))
    return (0.5 / rate * np.sin(rate * time + phase)).sum(axis=0), (0.5 * np.cos(rate * time + phase)).sum(axis=0)


def at_rest(_: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    shape = (int(DURATION_S * TRUTH_HZ), 7)
    return np.full(shape, 0.3), np.zeros(shape)


def errors(motion, seed: int, *, noise: float = 1.0, with_velocity: bool = True) -> dict[str, np.ndarray]:
    """Errors after the first second: raw and filtered at the measurements' stamps, and filtered on the state's grid."""
    rng = np.random.default_rng(seed)
    position, velocity = motion(rng)
    estimator = StateEstimator(ROBOT)
    estimator.on_joints(JointMeasurement(0, ROBOT.gripper.joints, [0.02, 0.02]), 0)
    rows: dict[str, list[np.ndarray]] = {}
    held = position[0]
    for step in range(0, len(position), TRUTH_HZ // 600):
        stamp_ns = round(step * 1e9 / TRUTH_HZ)
        truth = np.stack([position[step], velocity[step]])
        new = {}
        if step % (TRUTH_HZ // SENSOR_HZ) == 0:
            raw = truth + noise * np.array([[POSITION_STD], [VELOCITY_STD]]) * rng.normal(size=(2, 7))
            estimator.on_joints(JointMeasurement(stamp_ns, ROBOT.joints, raw[0], raw[1] if with_velocity else None), stamp_ns)
            new = {'raw': raw - truth, 'difference': (raw[0] - held) * SENSOR_HZ - truth[1]}
            held = raw[0]
        if new or step % (TRUTH_HZ // STATE_HZ) == 0:
            state = estimator.estimate(stamp_ns).state
            filtered = np.stack([state.position[:7], state.velocity[:7]]) - truth
            new |= {'filtered': filtered} if new else {'grid': filtered, 'held': held - truth[0]}
        if step > TRUTH_HZ:
            for key, value in new.items():
                rows.setdefault(key, []).append(value)
    assert not estimator.counts['outlier']
    return {key: np.array(values) for key, values in rows.items()}


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize(('motion', 'position_factor', 'velocity_factor'),
                         [(stepwise, 2.0, 1.05), (sinusoidal, 2.3, 1.05), (at_rest, 2.3, 2.5)])
def test_error_is_below_the_raw_one_by_the_stated_factor(motion, position_factor, velocity_factor, seed):
    found = errors(motion, seed)
    assert rms(found['filtered'][:, 0]) * position_factor < rms(found['raw'][:, 0])
    assert rms(found['filtered'][:, 1]) * velocity_factor < rms(found['raw'][:, 1])


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('motion', [stepwise, sinusoidal])
def test_prediction_between_measurements_is_ten_times_better_than_the_last_one(motion, seed):
    found = errors(motion, seed)
    assert rms(found['grid'][:, 0]) * 10.0 < rms(found['held'])


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize(('motion', 'factor'), [(stepwise, 1.2), (sinusoidal, 2.0), (at_rest, 5.0)])
def test_velocity_that_was_not_measured_is_better_than_differences(motion, factor, seed):
    found = errors(motion, seed, with_velocity=False)
    assert rms(found['filtered'][:, 1]) * factor < rms(found['difference'])
    assert rms(found['filtered'][:, 0]) < rms(found['raw'][:, 0])


@pytest.mark.parametrize('motion', [stepwise, sinusoidal, at_rest])
def test_motion_without_noise_passes_through(motion):
    found = errors(motion, 0, noise=0.0)
    for key in ('filtered', 'grid'):
        assert np.abs(found[key][:, 0]).max() < 1e-3
