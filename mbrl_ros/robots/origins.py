"""Heights and places of an arm's joints in numpy: what the command guard checks, in a process without torch."""

import numpy as np

from mbrl_ros.errors import ShapeError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.robots.urdf import read_chain


class JointOrigins:
    """Origins of the joints from base to tool, and the tool's.

    Args:
        robot: Profile with a resolved URDF.

    Attributes:
        columns: Index in the profile of each joint of the chain, from base to tool, shape (J,).
        axes: Direction of each of these joints in its own frame, shape (J, 3).
        is_prismatic: Whether it slides, shape (J,), bool.

    Raises:
        ConfigError: The URDF has no such chain, or its chain moves other joints than the profile's.
    """

    def __init__(self, robot: RobotProfile) -> None:
        chain = read_chain(robot.urdf_path, robot.base_link, robot.tool_link, robot.joints)
        moving = [joint for joint in chain if joint.is_moving]
        self.columns = [robot.joints.index(joint.name) for joint in moving]
        self.axes = np.array([joint.axis for joint in moving])
        self.is_prismatic = np.array([joint.kind == 'prismatic' for joint in moving])
        motions, offsets = [], [np.eye(4)]
        for joint in chain:
            offsets[-1] = offsets[-1] @ joint.offset
            if joint.is_moving:
                motions.append(_motion(joint.axis, joint.kind == 'prismatic'))
                offsets.append(np.eye(4))
        self._first, self._offsets = offsets[0][:3], np.array(offsets[1:])
        # From the origin of one joint to that of the next: motion of the one, then offset of the other.
        self._still, self._sine, self._cosine, self._way = np.swapaxes(np.array(motions) @ self._offsets[:, None], 0, 1)

    def points(self, q: np.ndarray) -> np.ndarray:
        """Origins in the base frame, shape (N, J + 1, 3), metres, at joint positions (N, J), rad or m; raises like `frames`."""
        return self.frames(q)[..., 3]

    def frames(self, q: np.ndarray) -> np.ndarray:
        """Frames of the joints before they move, and the tool's: rotation, then origin, shape (N, J + 1, 3, 4).

        Raises:
            ShapeError: `q` is not (N, J).
        """
        if q.ndim != 2 or q.shape[1] != len(self.columns):
            raise ShapeError(f'joint positions need shape (N, {len(self.columns)}), got {q.shape}')
        q = q[:, self.columns, None, None]
        steps = self._still + np.sin(q) * self._sine + np.cos(q) * self._cosine + q * self._way  # (N, J, 4, 4)
        frames = np.empty((len(q), len(self.columns) + 1, 3, 4))
        frames[:, 0] = self._first
        for index in range(len(self.columns)):
            np.matmul(frames[:, index], steps[:, index], out=frames[:, index + 1])
        return frames

    def carried(self, index: int, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the link that joint `index` of the chain moves, in the frame `index + 1`, which the link carries."""
        offset = self._offsets[index]
        return (points - offset[:3, 3]) @ offset[:3, :3]


def _motion(axis: np.ndarray, is_prismatic: bool) -> np.ndarray:
    """Matrices (4, 4, 4) whose sum, times 1, sin(q), cos(q) and q, is the transform of a joint at q (Rodrigues).

    Args:
        axis: Shape (3,), of length 1.
        is_prismatic: Whether the joint slides.
    """
    still, sine, cosine, way = parts = np.zeros((4, 4, 4))
    still[:] = np.eye(4)
    if is_prismatic:
        way[:3, 3] = axis
    else:
        x, y, z = axis
        sine[:3, :3] = cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        still[:3, :3] += cross @ cross
        cosine[:3, :3] = -cross @ cross
    return parts
