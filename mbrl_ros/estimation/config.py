"""Settings of the state estimator, with the accuracy they were tuned for.

The table compares the RMSE of the state with the RMSE of the measurements, at the stamps of the measurements: default settings,
arm joints at 120 Hz, noise 5e-4 rad and 0.01 rad/s. `test/unit/test_estimation_accuracy.py` and
`test/unit/test_estimation_simulated.py` check these factors.

    motion                           position    velocity    velocity, none measured (against differences)
    velocity steps, simulated arm    raw / 1.5   raw / 1.2
    velocity changes at 10 rad/s²    raw / 2.0   raw / 1.05  differenced / 1.2
    sinusoids up to 1.5 rad/s        raw / 2.3   raw / 1.05  differenced / 2
    at rest                          raw / 2.3   raw / 2.5   differenced / 5

The position of an object at rest, measured at 60 Hz with 1e-3 m noise: raw / 1.5.

Between measurements the filter predicts positions ten times as well as the last measurement does. Without noise the state lags by
less than 1e-3 rad at 1.5 rad/s and 10 rad/s².
"""

import dataclasses

from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class NoiseConfig(Config):
    """Noise of one kind of entry, in its own unit u: rad for an angle, m for a length."""

    position_std: float = setting(5e-4, 'Standard deviation of a measured position.', unit='u', low=1e-9)
    velocity_std: float = setting(0.01, 'Standard deviation of a measured velocity.', unit='u/s', low=1e-9)
    acceleration_std: tuple[float, ...] = setting(
        (0.2, 2.0, 10.0, 200.0), 'Standard deviation of the acceleration, one hypothesis each: from rest to a jolt.',
        unit='u/s²', low=1e-6)
    max_velocity: float = setting(3.0, 'Largest speed that motion can have; tells motion from a jump.', unit='u/s', low=1e-6)

    def check(self) -> None:
        """Raise ConfigError without an acceleration hypothesis."""
        if not self.acceleration_std:
            raise ConfigError(f'{type(self).__name__}.acceleration_std needs at least one number, got ()')


@dataclasses.dataclass(frozen=True)
class GripperNoiseConfig(NoiseConfig):
    """Noise of the gripper's opening, m; the sum of the fingers is noisier than one finger."""

    position_std: float = setting(1e-3, 'Standard deviation of a measured opening.', unit='m', low=1e-9)
    acceleration_std: tuple[float, ...] = setting((0.02, 0.2, 1.0, 10.0), 'Acceleration hypotheses.', unit='m/s²', low=1e-6)
    max_velocity: float = setting(0.5, 'Largest speed of the opening.', unit='m/s', low=1e-6)


@dataclasses.dataclass(frozen=True)
class BodyLengthNoiseConfig(NoiseConfig):
    """Noise of a tracked body's coordinates, m."""

    position_std: float = setting(1e-3, 'Standard deviation of a measured coordinate.', unit='m', low=1e-9)
    acceleration_std: tuple[float, ...] = setting((0.02, 0.5, 5.0, 50.0), 'Acceleration hypotheses.', unit='m/s²', low=1e-6)
    max_velocity: float = setting(2.0, 'Largest speed.', unit='m/s', low=1e-6)


@dataclasses.dataclass(frozen=True)
class BodyAngleNoiseConfig(NoiseConfig):
    """Noise of a tracked body's fixed-axis angles, rad."""

    position_std: float = setting(5e-3, 'Standard deviation of a measured angle.', unit='rad', low=1e-9)
    acceleration_std: tuple[float, ...] = setting((0.1, 2.0, 20.0, 300.0), 'Acceleration hypotheses.', unit='rad/s²', low=1e-6)
    max_velocity: float = setting(12.0, 'Largest rate of turn.', unit='rad/s', low=1e-6)


@dataclasses.dataclass(frozen=True)
class EstimatorConfig(Config):
    """Settings of `StateEstimator`."""

    joint: NoiseConfig = section(NoiseConfig, 'Noise of the arm joints, rad.')
    gripper: GripperNoiseConfig = section(GripperNoiseConfig, 'Noise of the gripper opening, m.')
    body_length: BodyLengthNoiseConfig = section(BodyLengthNoiseConfig, 'Noise of a tracked body\'s position, m.')
    body_angle: BodyAngleNoiseConfig = section(BodyAngleNoiseConfig, 'Noise of a tracked body\'s orientation, rad.')
    stay_probability: float = setting(0.95, 'Chance that an acceleration hypothesis still holds one measurement later.',
                                      low=0.01, high=0.999)
    gate_probability: float = setting(1e-6, 'Chance that a sound measurement is taken for an outlier.', low=1e-12, high=0.1)
    jump_measurements: int = setting(3, 'Outliers in a row that agree with each other and so mean a jump.', low=2, high=100)
    coast_after_s: float = setting(0.05, 'Age of the newest joint measurement from which the arm counts as coasting.', unit='s',
                                   low=0.0, high=1.0)
    coast_limit_s: float = setting(0.15, 'Age beyond which the arm is lost and no state is given.', unit='s', low=0.0, high=1.0)
    hold_after_s: float = setting(0.3, 'Age beyond which gripper and bodies are held where they are, at rest.', unit='s',
                                  low=0.0, high=10.0)
    restart_after_s: float = setting(1.0, 'Silence after which an entry starts afresh.', unit='s', low=0.01, high=1.0)
    future_limit_s: float = setting(0.1, 'How far ahead of the clock a stamp may be.', unit='s', low=0.0, high=10.0)
    past_limit_s: float = setting(0.5, 'How far behind the clock, or the newest stamp, a stamp may be.', unit='s', low=0.0,
                                  high=60.0)

    def check(self) -> None:
        """Raise ConfigError when the coasting times contradict, or the kinds have different numbers of hypotheses."""
        if self.coast_after_s > self.coast_limit_s:
            raise ConfigError(f'EstimatorConfig.coast_after_s {self.coast_after_s} needs to be at most '
                              f'coast_limit_s {self.coast_limit_s}')
        sizes = {len(kind.acceleration_std) for kind in (self.joint, self.gripper, self.body_length, self.body_angle)}
        if len(sizes) > 1:
            raise ConfigError('EstimatorConfig needs as many acceleration_std for joint, gripper, body_length and body_angle, '
                              f'got {sorted(sizes)}')
