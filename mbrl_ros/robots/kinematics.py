"""Batched forward kinematics of a URDF chain, fast enough for the inner loop of a planner.

The chain is evaluated on separate rotation columns instead of 4x4 matrices, with the constant transforms folded and their
zeros skipped, because a planner asks for the tool's position some ten thousand times within one control period. `test/unit`
holds it against `pytorch_kinematics`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.robots.urdf import UrdfJoint, read_chain

_TINY = 1e-9
_Constant = tuple[tuple[float, ...], ...]


class KinematicChain:
    """Serial chain from a base link to a tool link.

    Args:
        urdf_path: URDF file.
        base_link: Root link; results are in its frame.
        tool_link: Last link.
        joints: The J joint names that inputs are ordered by.

    Raises:
        ConfigError: The URDF cannot be parsed, lacks a link, or its chain has other joints than `joints`.
    """

    def __init__(self, urdf_path: str | Path, base_link: str, tool_link: str, joints: Sequence[str]) -> None:
        chain = read_chain(urdf_path, base_link, tool_link)
        names = [joint.name for joint in chain if joint.is_moving]
        if sorted(names) != sorted(joints):
            raise ConfigError(f'{urdf_path}: the chain {base_link} to {tool_link} moves {", ".join(names)}, '
                              f'the profile lists {", ".join(joints)}')
        self.num_joints = len(names)
        self._columns = [list(joints).index(name) for name in names]
        self._stages, self._end = _fold(chain)

    @classmethod
    def of_robot(cls, profile) -> 'KinematicChain':
        """Chain of a `RobotProfile`."""
        return cls(profile.urdf_path, profile.base_link, profile.tool_link, profile.joints)

    def position(self, q: torch.Tensor) -> torch.Tensor:
        """Tool position in the base frame, metres.

        Args:
            q: Joint positions, shape (..., J), rad.

        Returns:
            Shape (..., 3), of the dtype and on the device of `q`.

        Raises:
            ShapeError: The last axis is not J.
        """
        place, columns = self._walk(q)[-1]
        return _last(_moved(place, columns, self._end[1]), q).contiguous()

    def points(self, q: torch.Tensor) -> torch.Tensor:
        """Origins of the joints from base to tool, and the tool, shape (..., J + 1, 3); arguments as for `position`."""
        *joints, (place, columns) = self._walk(q)
        places = [place for place, _ in joints] + [_moved(place, columns, self._end[1])]
        return torch.stack([_last(place, q) for place in places], dim=-2)

    def pose(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tool position (..., 3) and `rot_base_tool` (..., 3, 3); arguments as for `position`."""
        place, columns = self._walk(q)[-1]
        rotation, offset = self._end
        axes = [_last(column, q) for column in _turned(columns, rotation)]
        return _last(_moved(place, columns, offset), q), torch.stack(axes, dim=-1)

    def jacobian(self, q: torch.Tensor) -> torch.Tensor:
        """Geometric Jacobian of the tool in the base frame; arguments as for `position`.

        Returns:
            Shape (..., 6, J): what each joint's motion adds to the tool's linear, then angular velocity, per rad/s or m/s.
        """
        *joints, (place, columns) = self._walk(q)
        tool = _last(_moved(place, columns, self._end[1]), q)
        result = q.new_zeros(*q.shape[:-1], 6, self.num_joints)
        for (origin, frame), (_, _, prismatic), column in zip(joints, self._stages, self._columns):
            axis = _last(frame[2], q)
            if prismatic:
                result[..., :3, column] = axis
            else:
                result[..., :3, column] = torch.linalg.cross(axis, tool - _last(origin, q))
                result[..., 3:, column] = axis
        return result

    def _walk(self, q: torch.Tensor) -> list[tuple[torch.Tensor, Sequence[torch.Tensor]]]:
        """Origin and rotation columns at each joint before it moves, and after the last one.

        Each has shape (3, ...), or (3, 1, ...) as long as no joint has moved.
        """
        if q.shape[-1] != self.num_joints:
            raise ShapeError(f'joint positions need {self.num_joints} entries on the last axis, got shape {tuple(q.shape)}')
        angles = q.movedim(-1, 0).contiguous()
        cosines, sines = torch.cos(angles).unbind(), torch.sin(angles).unbind()
        columns = torch.eye(3, dtype=q.dtype, device=q.device).view(3, 3, *[1] * (q.ndim - 1)).unbind()
        place, frames = torch.zeros_like(columns[0]), []
        for (rotation, offset, prismatic), column in zip(self._stages, self._columns):
            place, columns = _moved(place, columns, offset), _turned(columns, rotation)
            frames.append((place, columns))
            if prismatic:
                place = place + columns[2] * angles[column]
            else:
                c, s = cosines[column], sines[column]
                x, y, z = columns
                columns = [x * c + y * s, y * c - x * s, z]
        return [*frames, (place, columns)]


def _fold(chain: Sequence[UrdfJoint]) -> tuple[list[tuple[_Constant, tuple[float, ...], bool]], tuple[_Constant, tuple[float, ...]]]:
    """Merge fixed segments and turn each joint's axis into z, so that a stage is one constant and one z-motion."""
    stages, pending = [], np.eye(4)
    for joint in chain:
        pending = pending @ joint.offset
        if not joint.is_moving:
            continue
        align = np.eye(4)
        align[:3, :3] = _rotation_from_z(joint.axis)
        stages.append((*_entries(pending @ align), joint.kind == 'prismatic'))
        pending = align.T
    return stages, _entries(pending)


def _rotation_from_z(axis: np.ndarray) -> np.ndarray:
    helper = np.array([1.0, 0.0, 0.0]) if abs(axis[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = np.cross(helper, axis) / np.linalg.norm(np.cross(helper, axis))
    if np.allclose(axis, [0.0, 0.0, 1.0]):
        return np.eye(3)
    return np.column_stack([x, np.cross(axis, x), axis])


def _entries(matrix: np.ndarray) -> tuple[_Constant, tuple[float, ...]]:
    return tuple(tuple(map(float, row)) for row in matrix[:3, :3]), tuple(map(float, matrix[:3, 3]))


def _moved(place: torch.Tensor, columns: Sequence[torch.Tensor], offset: Sequence[float]) -> torch.Tensor:
    shift = _combine(columns, offset)
    return place if shift is None else place + shift


def _turned(columns: Sequence[torch.Tensor], rotation: _Constant) -> list[torch.Tensor]:
    return [_combine(columns, [row[column] for row in rotation]) for column in range(3)]


def _last(vector: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """(3, ...) or (3, 1, ...) as (..., 3), for joint positions (..., J)."""
    return vector.movedim(0, -1).expand(*q.shape[:-1], 3)


def _combine(columns: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor | None:
    """Weighted sum of the rotation columns, skipping weights that are zero; None when all are."""
    result = None
    for column, weight in zip(columns, weights):
        if abs(weight) < _TINY:
            continue
        term = column if abs(abs(weight) - 1.0) < _TINY else column * abs(weight)
        if result is None:
            result = -term if weight < 0.0 else term
            continue
        result = result - term if weight < 0.0 else result + term
    return result
