"""Objects on the table: a cube, and other objects of its size that a gripper can grasp."""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pybullet_data

from mbrl_sim.bullet import pybullet

if TYPE_CHECKING:
    from mbrl_sim.scene import BulletClient

_COLOR = (0.85, 0.25, 0.2, 1.0)
_UPRIGHT = pybullet.getQuaternionFromEuler((np.pi / 2, 0.0, 0.0))
_LYING = (0.0, 0.0, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class _Mesh:
    """Meshes of `pybullet_data`.

    Attributes:
        seen: File of the visual mesh.
        touched: File of the collision mesh, of whose parts the convex hulls collide.
        is_y_up: Whether y is up in the files; otherwise z is.
    """

    seen: str
    touched: str
    is_y_up: bool = False

    @functools.cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest corner of the collision mesh, in the axes of the file, each of shape (3,)."""
        lines = _file(self.touched).read_text(encoding='utf-8').splitlines()
        vertices = np.array([line.split()[1:4] for line in lines if line.startswith('v ')], dtype=np.float64)
        return vertices.min(axis=0), vertices.max(axis=0)

    @property
    def extents(self) -> np.ndarray:
        """Extents along x, y and up, shape (3,)."""
        low, high = self.bounds
        return (high - low)[[0, 2, 1]] if self.is_y_up else high - low


#: All kinds other than cube and cylinder are meshes.
_MESHES = {
    'brick': _Mesh('lego/lego.obj', 'lego/lego.obj', is_y_up=True),
    'duck': _Mesh('duck.obj', 'duck_vhacd.obj', is_y_up=True),
    'mug': _Mesh('objects/mug.obj', 'objects/mug_col.obj'),
}
#: Names of all objects.
KINDS = ('cube', 'cylinder', *_MESHES)


@dataclasses.dataclass(frozen=True)
class TableObject:
    """An object and its place on the table.

    Attributes:
        kind: One of `KINDS`.
        size_m: Edge of a cube, diameter and height of a cylinder, the smaller of length and width of other objects.
        mass_kg: Mass.
        friction: Lateral friction.
        position_m: Centre in the base frame, shape (3,).
        yaw_rad: Rotation about the vertical.
    """

    kind: str
    size_m: float
    mass_kg: float
    friction: float
    position_m: np.ndarray
    yaw_rad: float


def height_m(kind: str, size_m: float) -> float:
    """Height of an object that stands on the table, m."""
    if kind not in _MESHES:
        return size_m
    extents = _MESHES[kind].extents
    return size_m * float(extents[2] / extents[:2].min())


def make_object(bullet: 'BulletClient', thing: TableObject) -> int:
    """Create an object at its place, and return its body."""
    collision, visual = _shapes(bullet, thing.kind, thing.size_m)
    body = bullet.createMultiBody(thing.mass_kg, collision, visual, thing.position_m.tolist(),
                                  bullet.getQuaternionFromEuler((0.0, 0.0, thing.yaw_rad)))
    bullet.changeDynamics(body, -1, lateralFriction=thing.friction)
    return body


def _shapes(bullet: 'BulletClient', kind: str, size_m: float) -> tuple[int, int]:
    """Collision shape and visual shape, centred at the origin."""
    if kind == 'cube':
        half = [size_m / 2] * 3
        return (bullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half),
                bullet.createVisualShape(pybullet.GEOM_BOX, halfExtents=half, rgbaColor=_COLOR))
    if kind == 'cylinder':
        return (bullet.createCollisionShape(pybullet.GEOM_CYLINDER, radius=size_m / 2, height=size_m),
                bullet.createVisualShape(pybullet.GEOM_CYLINDER, radius=size_m / 2, length=size_m, rgbaColor=_COLOR))
    mesh = _MESHES[kind]
    scale = size_m / mesh.extents[:2].min()
    turn = _UPRIGHT if mesh.is_y_up else _LYING
    place, _ = bullet.multiplyTransforms((0.0, 0.0, 0.0), turn, (-0.5 * scale * sum(mesh.bounds)).tolist(), _LYING)
    return (bullet.createCollisionShape(pybullet.GEOM_MESH, fileName=str(_file(mesh.touched)), meshScale=[scale] * 3,
                                        collisionFramePosition=place, collisionFrameOrientation=turn),
            bullet.createVisualShape(pybullet.GEOM_MESH, fileName=str(_file(mesh.seen)), meshScale=[scale] * 3,
                                     rgbaColor=_COLOR, visualFramePosition=place, visualFrameOrientation=turn))


def _file(name: str) -> Path:
    return Path(pybullet_data.getDataPath()) / name
