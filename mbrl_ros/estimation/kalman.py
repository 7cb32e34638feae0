"""A bank of independent Kalman filters over position and velocity, all advanced by the same array operations.

Each channel is a constant-velocity model driven by white-noise acceleration (Bar-Shalom, Li and Kirubarajan, *Estimation with
Applications to Tracking and Navigation*, 2001, chapter 6). Over an interval dt the velocity changes by acceleration_std * dt, as
in the book's discrete model (6.3.2); the position has the spread of the book's continuous model (6.2.2). An arm at rest
accelerates much less than a jolted one, so every channel runs M hypotheses and weighs them by likelihood: the interacting
multiple model estimator (Blom and Bar-Shalom, 1988). Updates are in Joseph form, which keeps covariances positive under rounding.

Note:
    In the purely discrete model the acceleration is constant within an interval, so the change of velocity determines the change
    of position. A velocity-controlled joint may change its velocity at any moment of the interval, and such steps would fail the
    gate of that model.

Shape letters: `M` hypotheses, `C` channels, `n` channels that one measurement covers.
"""

import dataclasses
import statistics

import numpy as np

from mbrl_ros.errors import ShapeError

#: Variance that stands for "not measured"; large enough to have no effect, small enough to invert.
_UNMEASURED = 1e12
_NS = 1e-9
_REACH_STDS = 8.0


@dataclasses.dataclass(frozen=True)
class ChannelNoise:
    """Noise and limits of C channels, each in its own unit u.

    Attributes:
        position_std: Shape (C,), u.
        velocity_std: Shape (C,), u/s.
        acceleration_std: Hypotheses, shape (M, C), u/s².
        max_velocity: Largest speed, shape (C,), u/s; also the spread of a velocity that was never measured.

    Raises:
        ShapeError: The shapes differ.
    """

    position_std: np.ndarray
    velocity_std: np.ndarray
    acceleration_std: np.ndarray
    max_velocity: np.ndarray

    def __post_init__(self) -> None:
        size = np.shape(self.position_std)
        for name in ('velocity_std', 'max_velocity'):
            if np.shape(getattr(self, name)) != size:
                raise ShapeError(f'{name} needs shape {size} like position_std, got {np.shape(getattr(self, name))}')
        if np.ndim(self.acceleration_std) != 2 or np.shape(self.acceleration_std)[1:] != size:
            raise ShapeError(f'acceleration_std needs shape (M, {size[0]}), got {np.shape(self.acceleration_std)}')


class KalmanBank:
    """C channels, each with its own time of last measurement.

    Args:
        noise: Measurement and process noise.
        gate_probability: Chance that a sound measurement fails the chi-square test on its normalised innovation squared.
        stay_probability: Chance that a hypothesis still holds at the next measurement.
        restart_after_s: Time without a measurement after which a channel starts afresh from the next one.

    Attributes:
        stamp_ns: Time of each channel's last accepted measurement, shape (C,); meaningless until `seen`.
        seen: Whether the channel was ever measured, shape (C,).
    """

    def __init__(self, noise: ChannelNoise, *, gate_probability: float = 1e-6, stay_probability: float = 0.95,
                 restart_after_s: float = 1.0) -> None:
        hypotheses, channels = np.shape(noise.acceleration_std)
        self._noise = noise
        self._restart_after_s = restart_after_s
        self._gates = np.array([statistics.NormalDist().inv_cdf(1.0 - gate_probability / 2.0) ** 2,
                                -2.0 * np.log(gate_probability)])  # Chi-square quantiles of one and two dimensions.
        self._transition = _transition(hypotheses, stay_probability)
        self._mean = np.zeros((hypotheses, channels, 2))
        self._cov = np.zeros((hypotheses, channels, 2, 2))
        self._weight = np.full((hypotheses, channels), 1.0 / hypotheses)
        self.stamp_ns = np.zeros(channels, dtype=np.int64)
        self.seen = np.zeros(channels, dtype=bool)

    def mean(self) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity of each channel at its own `stamp_ns`, each of shape (C,)."""
        mean = (self._weight[..., None] * self._mean).sum(axis=0)
        return mean[:, 0], mean[:, 1]

    def std(self) -> tuple[np.ndarray, np.ndarray]:
        """Standard deviation of position and velocity over the mixture of hypotheses, each of shape (C,)."""
        mean = (self._weight[..., None] * self._mean).sum(axis=0)
        spread = np.diagonal(self._cov, axis1=-2, axis2=-1) + (self._mean - mean) ** 2
        variance = (self._weight[..., None] * spread).sum(axis=0)
        return np.sqrt(variance[:, 0]), np.sqrt(variance[:, 1])

    def start(self, channels: np.ndarray, stamp_ns: int, position: np.ndarray, velocity: np.ndarray) -> None:
        """Restart some channels from one measurement, without a gate; arguments as for `update`."""
        missing = np.isnan(velocity)
        self._mean[:, channels] = np.stack([position, np.where(missing, 0.0, velocity)], axis=-1)
        self._cov[:, channels] = 0.0
        self._cov[:, channels, 0, 0] = self._noise.position_std[channels] ** 2
        spread = np.where(missing, self._noise.max_velocity[channels], self._noise.velocity_std[channels])
        self._cov[:, channels, 1, 1] = spread ** 2
        self._weight[:, channels] = 1.0 / len(self._weight)
        self.stamp_ns[channels] = stamp_ns
        self.seen[channels] = True

    def update(self, channels: np.ndarray, stamp_ns: int, position: np.ndarray, velocity: np.ndarray, *,
               together: bool = False) -> np.ndarray:
        """Advance some channels to a measurement and apply it, unless it is an outlier.

        Args:
            channels: The n measured channels, each once.
            stamp_ns: Time of the measurement, not before the channels' own.
            position: Measured positions, shape (n,), finite.
            velocity: Measured velocities, shape (n,); NaN if not measured.
            together: Whether an outlier in one channel rejects all n.

        Returns:
            Which channels accepted the measurement, shape (n,), bool; the others are unchanged.
        """
        elapsed = (stamp_ns - self.stamp_ns[channels]) * _NS
        fresh = ~self.seen[channels] | (elapsed > self._restart_after_s)
        if fresh.any():
            self.start(channels[fresh], stamp_ns, position[fresh], velocity[fresh])
            elapsed = np.where(fresh, 0.0, elapsed)
        mean, cov, weight = self._predict(channels, elapsed)
        missing = np.isnan(velocity)
        innovation = np.stack([position - mean[..., 0], np.where(missing, 0.0, velocity - mean[..., 1])], axis=-1)  # (M, n, 2)
        noise = np.zeros((len(channels), 2, 2))
        noise[:, 0, 0] = self._noise.position_std[channels] ** 2
        noise[:, 1, 1] = np.where(missing, _UNMEASURED, self._noise.velocity_std[channels] ** 2)
        inverse, determinant = _invert(cov + noise)
        nis = (innovation[..., None, :] @ inverse @ innovation[..., :, None])[..., 0, 0]  # (M, n)
        likely = nis.min(axis=0) <= self._gates[np.where(missing, 0, 1)]
        # Without measurements the gate widens faster than the channel can move, so the reach limits it as well.
        reach = self._noise.max_velocity[channels] * elapsed + _REACH_STDS * self._noise.position_std[channels]
        accepted = fresh | (likely & (np.abs(position - self.mean()[0][channels]) <= reach))
        if together:
            accepted[:] = accepted.all()
        take = accepted & ~fresh
        gain = cov @ inverse
        posterior = mean + (gain @ innovation[..., None])[..., 0]
        keep = np.eye(2) - gain
        joseph = keep @ cov @ keep.swapaxes(-1, -2) + gain @ noise @ gain.swapaxes(-1, -2)
        log_likelihood = -0.5 * (nis + np.log(determinant))
        weight = weight * np.exp(log_likelihood - log_likelihood.max(axis=0))
        weight /= weight.sum(axis=0)
        taken = channels[take]
        self._mean[:, taken], self._cov[:, taken], self._weight[:, taken] = posterior[:, take], joseph[:, take], weight[:, take]
        self.stamp_ns[taken] = stamp_ns
        return accepted

    def _predict(self, channels: np.ndarray, elapsed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mix the hypotheses and advance each; mean (M, n, 2), covariance (M, n, 2, 2) and weight (M, n)."""
        mean, cov, weight = self._mix(channels)
        step = np.zeros((len(channels), 2, 2))
        step[:, 0, 0] = step[:, 1, 1] = 1.0
        step[:, 0, 1] = elapsed
        process = np.empty((len(channels), 2, 2))
        process[:, 0, 0], process[:, 1, 1] = elapsed ** 4 / 3.0, elapsed ** 2
        process[:, 0, 1] = process[:, 1, 0] = elapsed ** 3 / 2.0
        variance = self._noise.acceleration_std[:, channels, None, None] ** 2  # (M, n, 1, 1)
        mean = (step @ mean[..., None])[..., 0]
        return mean, step @ cov @ step.swapaxes(-1, -2) + variance * process, weight

    def _mix(self, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean, cov = self._mean[:, channels], self._cov[:, channels]
        joint = self._transition[:, :, None] * self._weight[:, None, channels]  # (M from, M to, n)
        weight = joint.sum(axis=0)
        share = (joint / weight)[..., None]
        mixed = (share * mean[:, None]).sum(axis=0)
        apart = mean[:, None] - mixed[None]
        spread = cov[:, None] + apart[..., :, None] * apart[..., None, :]
        return mixed, (share[..., None] * spread).sum(axis=0), weight


def _transition(hypotheses: int, stay: float) -> np.ndarray:
    if hypotheses == 1:
        return np.ones((1, 1))
    matrix = np.full((hypotheses, hypotheses), (1.0 - stay) / (hypotheses - 1))
    np.fill_diagonal(matrix, stay)
    return matrix


def _invert(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse and determinant of symmetric 2x2 matrices, shape (..., 2, 2)."""
    a, b, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    determinant = a * d - b * b
    inverse = np.empty_like(matrix)
    inverse[..., 0, 0], inverse[..., 1, 1] = d, a
    inverse[..., 0, 1] = inverse[..., 1, 0] = -b
    return inverse / determinant[..., None, None], determinant
