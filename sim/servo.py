"""How far the servos of a simulated arm are from perfect."""

import dataclasses

from mbrl_ros.config import Config, setting
from mbrl_sim.scene import require_ranges


@dataclasses.dataclass(frozen=True)
class ServoConfig(Config):
    """Servos of the arm in MuJoCo; those in PyBullet are perfect within the limits of their force."""

    lag_s: tuple[float, ...] = setting(
        (0.03, 0.045), 'Smallest and largest time constant by which a joint lags behind what it is told; each joint has its own.',
        unit='s', low=0.0, high=0.5)
    stiffness: float = setting(2500.0, 'Torque of a joint for each radian that it is off.', unit='Nm/rad', low=100.0, high=1e5)
    gravity_error: float = setting(0.05, 'Share of gravity that is not compensated, under which the joints sag.', low=0.0,
                                   high=1.0)

    def check(self) -> None:
        """Raise `ConfigError` when the lag is no range."""
        require_ranges(self, 'lag_s')
