"""Heights and places of an arm's joints in numpy: what the command guard checks, in a process without torch."""

import numpy as np

from mbrl_ros.errors import ShapeError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.robots.urdf import read_chain


class JointOrigins:
    """Origins of the joints from base to tool, and the tool's.

    Args:
        robot: Profile with a resolved URDF.

    Raises:
        ConfigError: The URDF has no such chain, or its chain moves other joints than the profile's.
    """

    def __init__(self, robot: RobotProfile) -> None:
        chain = read_chain(robot.urdf_path, robot.base_link, robot.tool_link, robot.joints)
        self._columns = [robot.joints.index(joint.name) for joint in chain if joint.is_moving]
        self._stages: list[tuple[np.ndarray, np.ndarray, bool]] = []
        pending = np.eye(4)
        for joint in chain:
            pending = pending @ joint.offset
            if joint.is_moving:
                self._stages.append((pending, joint.axis, joint.kind == 'prismatic'))
                pending = np.eye(4)
        self._end = pending[:3, 3]

    def points(self, q: np.ndarray) -> np.ndarray:
        """Origins in the base frame, shape (N, J + 1, 3), metres, at joint positions (N, J), rad or m.

        Raises:
            ShapeError: `q` is not (N, J).
        """
        if q.ndim != 2 or q.shape[1] != len(self._columns):
            raise ShapeError(f'joint positions need shape (N, {len(self._columns)}), got {q.shape}')
        place, rotation = np.zeros((len(q), 3)), np.broadcast_to(np.eye(3), (len(q), 3, 3))
        points = np.empty((len(q), len(self._columns) + 1, 3))
        for index, ((offset, axis, is_prismatic), column) in enumerate(zip(self._stages, self._columns)):
            place = place + rotation @ offset[:3, 3]
            rotation = rotation @ offset[:3, :3]
            points[:, index] = place
            if is_prismatic:
                place = place + (rotation @ axis) * q[:, column, None]
            else:
                rotation = rotation @ _rotations(axis, q[:, column])
        points[:, -1] = place + rotation @ self._end
        return points


def _rotations(axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Rotations by angles (N,) about an axis (3,) of length 1 (Rodrigues), shape (N, 3, 3)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    sines, cosines = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    return np.eye(3) + sines * cross + (1.0 - cosines) * (cross @ cross)
