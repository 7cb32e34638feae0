"""Settings of the servos of the arm in MuJoCo."""

import dataclasses

from mbrl_ros.config import Config, setting
from mbrl_sim.scene import require_ranges


@dataclasses.dataclass(frozen=True)
class ServoConfig(Config):
    """Imperfections of the servos in MuJoCo; in PyBullet only their force is limited."""

    lag_s: tuple[float, ...] = setting(
        (0.03, 0.045), 'Smallest and largest time constant of the lag from command to motion; each joint draws its own.',
        unit='s', low=0.0, high=0.5)
    stiffness: float = setting(2500.0, 'Torque of a servo per radian between reference and joint.', unit='Nm/rad', low=100.0,
                               high=1e5)
    gravity_error: float = setting(0.05, 'Share of gravity that the servos do not compensate, so that the joints sag.', low=0.0,
                                   high=1.0)

    def check(self) -> None:
        """Raise `ConfigError` when the lag is not a range."""
        require_ranges(self, 'lag_s')
