"""Batched forward kinematics of a URDF chain, fast enough for the inner loop of a planner.

The chain is evaluated on separate rotation columns instead of 4x4 matrices, with the constant transforms folded and their
zeros skipped, because a planner asks for the tool's position some ten thousand times within one control period. `test/unit`
holds it against `pytorch_kinematics`.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mbrl_ros.errors import ShapeError
from mbrl_ros.robots.urdf import UrdfJoint, read_chain

_TINY = 1e-9
_Constant = tuple[tuple[float, ...], ...]


class KinematicChain:
    """Serial chain from a base link to a tool link.

    Args:
        urdf_path: URDF file.
        base_link: Root link; results are in its frame.
        tool_link: Last link.
        joints: The J joint names in the order of inputs.

    Raises:
        ConfigError: The URDF cannot be parsed, lacks a link, or its chain has other joints than `joints`.
    """

    def __init__(self, urdf_path: str | Path, base_link: str, tool_link: str, joints: Sequence[str]) -> None:
        chain = read_chain(urdf_path, base_link, tool_link, joints)
        names = [joint.name for joint in chain if joint.is_moving]
        self.num_joints = len(names)
        self._columns = [list(joints).index(name) for name in names]
        self._stages, self._end = _fold(chain)

    @classmethod
    def of_robot(cls, profile) -> 'KinematicChain':
        """Chain of a `RobotProfile`; raises like the class."""
        return cls(profile.urdf_path, profile.base_link, profile.tool_link, profile.joints)

    def position(self, q: torch.Tensor) -> torch.Tensor:
        """Tool position in the base frame, metres, shape (..., 3), for joint positions, shape (..., J), rad.

        Raises:
            ShapeError: The last axis of `q` is not J.
        """
        place, columns = self._walk(q)[-1]
        return _last(_moved(place, columns, self._end[1]), q).contiguous()

    def points(self, q: torch.Tensor) -> torch.Tensor:
        """Origins of the joints from base to tool, then the tool, shape (..., J + 1, 3); see `position`."""
        *joints, (place, columns) = self._walk(q)
        places = [place for place, _ in joints] + [_moved(place, columns, self._end[1])]
        return torch.stack([_last(place, q) for place in places], dim=-2)

    def pose(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tool position, shape (..., 3), and `rot_base_tool`, shape (..., 3, 3); see `position`."""
        place, columns = self._walk(q)[-1]
        rotation, offset = self._end
        axes = [_last(column, q) for column in _turned(columns, rotation)]
        return _last(_moved(place, columns, offset), q), torch.stack(axes, dim=-1)

    def jacobian(self, q: torch.Tensor) -> torch.Tensor:
        """Geometric Jacobian of the tool in the base frame, linear velocity above angular, shape (..., 6, J); see `position`."""
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
        """Origin and rotation columns of each joint's frame before the joint moves, and of the frame after the last one.

        Each has shape (3, ...), or (3, 1, ...) up to the first joint that moves.
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


class ChainProducts:
    """Tool position and linear Jacobian of a chain by a product of 4x4 matrices.

    It computes more numbers than `KinematicChain` in fewer operations: some seven times as fast for one posture, and slower from
    a few hundred on. The transform of each stage is linear in 1, cos q, sin q and q.

    Args:
        chain: The chain.
    """

    def __init__(self, chain: KinematicChain) -> None:
        self._columns = chain._columns
        self._terms = torch.stack([_terms(*stage) for stage in chain._stages])  # (J, 4, 16)
        self._end = _matrix(*chain._end)[:, 3]
        self._turns = torch.tensor([[not prismatic] for *_, prismatic in chain._stages])

    def __call__(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tool position, metres, shape (..., 3), and its derivatives by the joints, shape (..., J, 3).

        Args:
            q: Joint positions, rad or metres, shape (..., J), float32.
        """
        q = q[..., self._columns]
        basis = torch.stack([torch.ones_like(q), torch.cos(q), torch.sin(q), q], dim=-1).unsqueeze(-2)
        stages = (basis @ self._terms).unflatten(-1, (4, 4)).squeeze(-3).unbind(dim=-3)
        frames = torch.stack(list(itertools.accumulate(stages, torch.matmul)), dim=-3)  # (..., J, 4, 4)
        place, axes = frames[..., -1, :3, :] @ self._end, frames[..., :3, 2]
        turned = torch.linalg.cross(axes, place.unsqueeze(-2) - frames[..., :3, 3])
        slopes = torch.empty_like(turned)
        slopes[..., self._columns, :] = torch.where(self._turns, turned, axes)
        return place, slopes


def _terms(rotation: _Constant, offset: tuple[float, ...], prismatic: bool) -> torch.Tensor:
    """Factors of 1, cos q, sin q and q in a stage's transform, shape (4, 16)."""
    rest, cos, sin, slide = torch.eye(4), torch.zeros(4, 4), torch.zeros(4, 4), torch.zeros(4, 4)
    if prismatic:
        slide[2, 3] = 1.0
    else:
        cos[:2, :2], sin[:2, :2] = rest[:2, :2], torch.tensor([[0.0, -1.0], [1.0, 0.0]])
        rest = rest - cos
    return (_matrix(rotation, offset) @ torch.stack([rest, cos, sin, slide])).flatten(1)


def _matrix(rotation: _Constant, offset: Sequence[float]) -> torch.Tensor:
    """Homogeneous transform, shape (4, 4)."""
    rows = [[*row, shift] for row, shift in zip(rotation, offset)]
    return torch.tensor([*rows, [0.0, 0.0, 0.0, 1.0]])


def _fold(chain: Sequence[UrdfJoint],
          ) -> tuple[list[tuple[_Constant, tuple[float, ...], bool]], tuple[_Constant, tuple[float, ...]]]:
    """Merge fixed segments and align each joint's axis with z, so that a stage is one constant and one motion along z."""
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
    if np.allclose(axis, [0.0, 0.0, 1.0]):
        return np.eye(3)
    x = np.cross([1.0, 0.0, 0.0] if abs(axis[0]) < 0.9 else [0.0, 1.0, 0.0], axis)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(axis, x), axis])


def _entries(matrix: np.ndarray) -> tuple[_Constant, tuple[float, ...]]:
    return tuple(tuple(map(float, row)) for row in matrix[:3, :3]), tuple(map(float, matrix[:3, 3]))


def _moved(place: torch.Tensor, columns: Sequence[torch.Tensor], offset: Sequence[float]) -> torch.Tensor:
    shift = _combine(columns, offset)
    return place if shift is None else place + shift


def _turned(columns: Sequence[torch.Tensor], rotation: _Constant) -> list[torch.Tensor]:
    return [_combine(columns, [row[column] for row in rotation]) for column in range(3)]


def _last(vector: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Bring (3, ...) or (3, 1, ...) to (..., 3), for joint positions (..., J)."""
    return vector.movedim(0, -1).expand(*q.shape[:-1], 3)


def _combine(columns: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor | None:
    """Weighted sum of the rotation columns without those of weight zero; None if all weights are zero."""
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
