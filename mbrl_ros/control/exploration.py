"""Motion without a plan: smooth random exploration, and homing."""

import numpy as np

from mbrl_ros.robots.profile import RobotProfile

_CORRELATION_S = 0.4
_FREE_RANGE_RAD = 0.6
_PULL_PER_S = 2.0


class Exploration:
    """Red joint-velocity noise (a first-order Gauss-Markov process) that pulls joints back once they are far from home.

    Args:
        robot: Home and velocity limits.
        scale: Share of the velocity limits that one standard deviation of the noise uses.
        period_s: Control period.
    """

    def __init__(self, robot: RobotProfile, scale: float, period_s: float) -> None:
        self._robot = robot
        self._amplitude = scale * np.array(robot.max_velocity_rad_s)
        self._memory = float(np.exp(-period_s / _CORRELATION_S))
        self.reset(0, 0)

    def reset(self, seed: int, episode: int) -> None:
        """Start the noise of an episode; the same pair gives the same motion."""
        self._rng = np.random.default_rng([seed, episode])
        self._noise = self._rng.standard_normal(len(self._amplitude))

    def velocity(self, q: np.ndarray) -> np.ndarray:
        """Next wanted velocity, shape (J,), rad/s, for an arm at `q`, shape (J,), rad."""
        fresh = self._rng.standard_normal(len(self._amplitude))
        self._noise = self._memory * self._noise + np.sqrt(1.0 - self._memory**2) * fresh
        away = -self._robot.way_home(q)
        excess = np.sign(away) * np.maximum(np.abs(away) - _FREE_RANGE_RAD, 0.0)
        return self._amplitude * self._noise - _PULL_PER_S * excess


def homing_velocity(robot: RobotProfile, q: np.ndarray, gain_per_s: float, scale: float) -> np.ndarray:
    """Velocity towards home, proportional to the error and at most `scale` of the limits, shape (J,), rad/s."""
    limits = scale * np.array(robot.max_velocity_rad_s)
    return np.clip(gain_per_s * robot.way_home(q), -limits, limits)
