"""Differential kinematics between tool twists and joint velocities.

A gripper over a table moves in four degrees of freedom: along x, y and z, and about the vertical. The other two keep its approach
axis vertical, and joints beyond the sixth keep the arm near home.
"""

import dataclasses

import numpy as np
import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import RobotProfile

#: Degrees of freedom of a `TwistResolver`: x, y, z, yaw.
TWIST_SIZE = 4
_DOWN = np.array([0.0, 0.0, -1.0])


@dataclasses.dataclass(frozen=True)
class TwistConfig(Config):
    """Speeds of the tool, and how the joints follow it."""

    max_linear_m_s: float = setting(0.4, 'Tool speed along an axis of the base that an action of 1 means.', unit='m/s', low=0.01,
                                    high=3.0)
    max_yaw_rad_s: float = setting(1.5, 'Tool speed about the vertical that an action of 1 means.', unit='rad/s', low=0.01,
                                   high=10.0)
    max_linear_acceleration_m_s2: float = setting(5.0, 'Largest change of the tool speed that is planned with.', unit='m/s²',
                                                  low=0.1, high=50.0)
    max_yaw_acceleration_rad_s2: float = setting(20.0, 'Likewise, about the vertical.', unit='rad/s²', low=0.1, high=200.0)
    damping: float = setting(0.01, 'Damping of the least squares; larger is slower near singular poses.', low=1e-4, high=1.0)
    upright_gain_per_s: float = setting(4.0, 'How fast a tilted tool turns back to straight down.', low=0.0, high=20.0)
    posture_gain_per_s: float = setting(1.0, 'How fast spare joints turn back towards home.', low=0.0, high=20.0)


class TwistResolver:
    """Joint velocities of a robot whose tool moves and turns about the vertical while it points down.

    Damped least squares (Wampler 1986; Nakamura and Hanafusa 1986) on the geometric Jacobian of the robot's chain; the motion
    towards home is projected into its null space.
    """

    def __init__(self, robot: RobotProfile, kinematics: KinematicChain, config: TwistConfig | None = None) -> None:
        self.config = config or TwistConfig()
        self._kinematics = kinematics
        self._robot = robot
        #: Twist for an action of 1, shape (4,): m/s, m/s, m/s, rad/s.
        self.scale = np.array([*[self.config.max_linear_m_s] * 3, self.config.max_yaw_rad_s])
        #: Largest change of a twist, shape (4,), each second.
        self.max_acceleration = np.array([*[self.config.max_linear_acceleration_m_s2] * 3,
                                          self.config.max_yaw_acceleration_rad_s2])

    def joint_velocity(self, twist: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Joint velocities for a twist, as far as the arm can follow it, shape (J,), rad/s; not limited.

        Args:
            twist: Velocity along x, y, z, m/s, and about z, rad/s, in the base frame, shape (4,).
            q: Joint positions, shape (J,), rad.

        Raises:
            ShapeError: `q` is not (J,).
        """
        jacobian, axis = self._differential(q)
        tilt = self.config.upright_gain_per_s * np.cross(axis, _DOWN)
        wanted = np.concatenate([twist[:3], tilt[:2], twist[3:]])
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + self.config.damping**2 * np.eye(6))
        home = self.config.posture_gain_per_s * self._robot.way_home(q)
        return inverse @ wanted + home - inverse @ (jacobian @ home)

    def twist(self, velocity: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Twist of the tool, shape (4,), for joint velocities and positions, each of shape (J,); raises like `joint_velocity`."""
        jacobian, _ = self._differential(q)
        return (jacobian @ velocity)[[0, 1, 2, 5]]

    def pose(self, q: np.ndarray) -> np.ndarray:
        """Tool position in the base frame, m, then the yaw of its x axis, rad, shape (4,); raises like `joint_velocity`."""
        place, rotation = self._kinematics.pose(torch.from_numpy(np.asarray(q, dtype=np.float64)))
        return np.array([*place.tolist(), float(torch.atan2(rotation[1, 0], rotation[0, 0]))])

    def _differential(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobian, shape (6, J), and the tool's approach axis in the base frame, shape (3,)."""
        positions = torch.from_numpy(np.asarray(q, dtype=np.float64))
        _, rotation = self._kinematics.pose(positions)
        return self._kinematics.jacobian(positions).numpy(), rotation[:, 2].numpy()
