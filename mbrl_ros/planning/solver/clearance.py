"""Distances of an arm from keep-out boxes and the floor, with their gradients.

Links are capsules, boxes are aligned with the base frame, and the floor is the lowest height of joint origins and tool, as in the
command filter.
"""

import dataclasses

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.boxes import box_corners
from mbrl_ros.robots.origins import JointOrigins
from mbrl_ros.robots.profile import RobotProfile

#: Halvings of a segment in the search for its point nearest to a box; the last part of 0.4 m is 0.8 mm long.
_HALVINGS = 9
#: Points of a capsule that each box is compared with: the nearest one and the ends.
_POINTS = 3
#: An origin whose height varies by less than this never comes near the floor, m.
_STILL_M = 1e-6


@dataclasses.dataclass(frozen=True)
class Distances:
    """Distances at N joint positions of P pairs: three points of each capsule with each box, then each low point with the floor.

    Attributes:
        values: Metres, negative within, shape (N, P).
        tool: Position of the tool, metres, shape (N, 3).
        frames: See `JointOrigins.frames`.
        points, normals: Point of the arm, metres, and direction away from the box or floor, shape (N, P, 3) each.
    """

    values: np.ndarray
    tool: np.ndarray
    frames: np.ndarray
    points: np.ndarray
    normals: np.ndarray


class Clearance:
    """Distances of a robot's links from boxes.

    Args:
        robot: Profile with a resolved URDF.
        boxes_m: Lower and upper corner of each box in the base frame, 6 numbers each.

    Raises:
        ConfigError: The numbers are no boxes, there are boxes but the profile has no capsules, or the URDF does not fit.
    """

    def __init__(self, robot: RobotProfile, boxes_m: tuple[float, ...] = ()) -> None:
        self._origins = JointOrigins(robot)
        self._lower, self._upper = np.swapaxes(box_corners(boxes_m, 'boxes_m'), 0, 1)
        if boxes_m and not robot.capsules:
            raise ConfigError(f'keep-out boxes need capsules around the links, and the profile of {robot.name} has none; '
                              'give it capsules, or leave boxes_m empty')
        rows = np.array(robot.capsules if boxes_m else ()).reshape(-1, 8)
        carriers = [self._origins.columns.index(int(joint) - 1) for joint in rows[:, 0]]
        self._ends = np.array([self._origins.carried(joint, row[1:7].reshape(2, 3)) for joint, row in zip(carriers, rows)])
        self._radii, carriers = rows[:, 7], np.array(carriers, dtype=int) + 1
        self._low, self._floor_m = self._low_points(robot)
        # The number of joints that move each pair's point.
        self._carriers = np.concatenate([carriers.repeat(_POINTS * len(self._lower)), self._low])
        self._capsule_frames = carriers

    def look(self, q: np.ndarray) -> Distances:
        """Distances at joint positions, shape (N, J), rad."""
        frames = self._origins.frames(q)
        heights = frames[:, self._low][..., 3]  # (N, F, 3)
        above = heights[..., 2] - self._floor_m
        up = np.broadcast_to([0.0, 0.0, 1.0], heights.shape)
        if not len(self._radii):
            return Distances(above, frames[:, -1, :, 3], frames, heights, up)
        carried = frames[:, self._capsule_frames]  # (N, C, 3, 4)
        ends = np.einsum('ncij,cej->enci', carried[..., :3], self._ends) + carried[..., 3]
        near, normals, values = nearest_to_box(ends[0][:, :, None], ends[1][:, :, None], self._lower, self._upper)
        values, size = (values - self._radii[:, None, None]).reshape(len(q), -1), (len(q), -1, 3)
        return Distances(np.concatenate([values, above], axis=1), frames[:, -1, :, 3], frames,
                         np.concatenate([near.reshape(size), heights], axis=1),
                         np.concatenate([normals.reshape(size), up], axis=1))

    def gradients(self, seen: Distances, samples: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Derivatives of distances `values[samples, pairs]` by the joint positions, shape (M, J), for M indices of each kind."""
        moves = self._moves(seen.frames[samples], seen.points[samples, pairs], self._carriers[pairs])
        return np.einsum('mjk,mk->mj', moves, seen.normals[samples, pairs])

    def tool_jacobian(self, seen: Distances) -> np.ndarray:
        """Derivative of the tool's position by the joint positions, shape (N, 3, J)."""
        moves = self._moves(seen.frames, seen.tool, np.full(len(seen.tool), len(self._origins.columns)))
        return np.swapaxes(moves, 1, 2)

    def _moves(self, frames: np.ndarray, points: np.ndarray, carriers: np.ndarray) -> np.ndarray:
        """How points (M, 3), which the first `carriers` joints move, go with each joint: shape (M, J, 3)."""
        axes = (frames[:, :-1, :, :3] @ self._origins.axes[..., None])[..., 0]  # (M, J, 3)
        turned = _cross(axes, points[:, None] - frames[:, :-1, :, 3])
        moves = np.where(self._origins.is_prismatic[:, None], axes, turned)
        moves *= (np.arange(moves.shape[1]) < carriers[:, None])[..., None]
        ordered = np.empty_like(moves)
        ordered[:, self._origins.columns] = moves
        return ordered

    def _low_points(self, robot: RobotProfile) -> tuple[np.ndarray, np.ndarray]:
        """Frames whose height depends on the joints, shape (F,), and the lowest allowed heights of their origins, m."""
        size = len(robot.joints)
        samples = np.random.default_rng(0).uniform(-1.0, 1.0, (8, size)) + robot.home_rad
        low = np.flatnonzero(np.ptp(self._origins.points(samples)[..., 2], axis=0) > _STILL_M)
        return low, np.where(low == size, robot.workspace.lowest_tool_m, robot.workspace.lowest_link_m)


def nearest_to_box(start: np.ndarray, end: np.ndarray, lower: np.ndarray,
                   upper: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Point of a segment that is nearest to a box, or a point within it, and the segment's ends; leading axes broadcast.

    The distance from a convex body is convex along a line, so the point is found by halving on the sign of its slope. A segment
    that turns beside an edge has its nearest point now here, now there: the ends tell a solver so beforehand.

    Args:
        start: One end, shape (..., 3), m.
        end: The other, shape (..., 3), m.
        lower: Lower corner of the box, shape (..., 3), m.
        upper: Upper corner, shape (..., 3), m.

    Returns:
        The three points, (..., 3, 3), the directions away from the box there, (..., 3, 3), and the signed distances, (..., 3).
    """
    centre, half, way = 0.5 * (lower + upper), 0.5 * (upper - lower), end - start
    share = np.full(np.broadcast_shapes(start.shape, lower.shape)[:-1], 0.5)
    for halving in range(2, _HALVINGS + 2):
        point = start + share[..., None] * way
        beyond = point - np.minimum(np.maximum(point, lower), upper)
        share -= np.sign(np.einsum('...i,...i', beyond, way)) * 0.5 ** halving
    points = np.stack([start + share[..., None] * way, *np.broadcast_arrays(start, end, point)[:2]], axis=-2)
    normals, values = _away(points - centre[..., None, :], half[..., None, :])
    return points, normals, values


def _away(offset: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction away from a box around zero and signed distance, shapes (..., 3) and (...), of points (..., 3)."""
    beyond = np.abs(offset) - half
    outside = np.maximum(beyond, 0.0)
    length = np.sqrt((outside * outside).sum(axis=-1))
    is_face = np.arange(3) == beyond.argmax(axis=-1)[..., None]
    within = length == 0.0
    unit = np.where(within[..., None], is_face, outside / np.where(within, 1.0, length)[..., None])
    return np.where(offset < 0.0, -unit, unit), np.where(within, beyond.max(axis=-1), length)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product along the last axis; faster than numpy's for small arrays."""
    return np.stack([a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1], a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2],
                     a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]], axis=-1)
