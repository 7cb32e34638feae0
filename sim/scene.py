"""Parts of the simulated world: settings, physics client, arm, goal marker."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.boxes import box_corners
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.robots.urdf import mesh_file
from mbrl_sim.bullet import pybullet
from mbrl_sim.objects import KINDS
from mbrl_sim.urdf import JointLimits

_BASE_HZ = 240
_GOAL_RADIUS_M = 0.02
_BOX_COLOUR = (0.85, 0.35, 0.2, 1.0)
#: Ends of a joint without limits, rad or m.
_FAR = 1e9
_WINDOW_DISTANCE_M = 1.15
#: View of pictures, with arm, cube and all goals in it. The window has a wider lens, so a shorter distance.
VIEW = {'target': (0.35, 0.0, 0.3), 'distance': 1.6, 'yaw': 50.0, 'pitch': -30.0}


def require_ranges(config: Config, *names: str) -> None:
    """Require that settings are a smallest and a largest value each.

    Raises:
        ConfigError: One is not.
    """
    for name in names:
        values = getattr(config, name)
        if len(values) != 2 or values[0] > values[1]:
            raise ConfigError(f'{type(config).__name__}.{name} needs a smallest and a largest value, got {values}')


@dataclasses.dataclass(frozen=True)
class WorldConfig(Config):
    """Physics and the cube."""

    physics_hz: int = setting(240, 'Physics steps per simulated second, a multiple of 240.', unit='Hz', low=240, high=1920)
    settle_s: float = setting(0.25, 'Simulated time for the cube to come to rest after a reset.', unit='s', low=0.0, high=5.0)
    gui: bool = setting(False, "Open PyBullet's window.")
    self_collision: bool = setting(False, 'Let the arm collide with itself, save for links that touch at home.')
    cube: bool = setting(True, 'Put a cube on the table.')
    object_kind: str = setting('cube', 'Object on the table, with the settings of the cube; cube_size_m is the smaller of length '
                                       'and width.', choices=KINDS)
    cube_size_m: float = setting(0.05, 'Edge of the cube; its changes count from the next reset.', unit='m', low=0.01, high=0.3,
                                 live=True)
    cube_mass_kg: float = setting(0.1, 'Mass of the cube.', unit='kg', low=0.001, high=10.0, live=True)
    cube_friction: float = setting(0.8, 'Lateral friction of the cube.', low=0.0, high=5.0, live=True)
    randomise_cube: bool = setting(False, 'Draw size, mass and friction of the cube at each reset, uniformly from the ranges.',
                                   live=True)
    cube_size_range_m: tuple[float, ...] = setting((0.04, 0.06), 'Smallest and largest edge.', unit='m', low=0.01, high=0.3,
                                                   live=True)
    cube_mass_range_kg: tuple[float, ...] = setting((0.05, 0.2), 'Smallest and largest mass.', unit='kg', low=0.001, high=10.0,
                                                    live=True)
    cube_friction_range: tuple[float, ...] = setting((0.5, 1.0), 'Smallest and largest friction.', low=0.0, high=5.0, live=True)
    change_after: int = setting(0, 'Number of resets after which mass and friction of the cube are drawn from the changed '
                                   'ranges, for learning in a world that changes; 0 for never.', low=0, live=True)
    changed_mass_range_kg: tuple[float, ...] = setting((0.05, 0.2), 'Smallest and largest mass after change_after.', unit='kg',
                                                       low=0.001, high=10.0, live=True)
    changed_friction_range: tuple[float, ...] = setting((0.5, 1.0), 'Smallest and largest friction after change_after.', low=0.0,
                                                        high=5.0, live=True)
    cube_region_m: tuple[float, ...] = setting(
        (), 'Where the cube is put: smallest x and y, largest x and y; empty for wherever the tool can reach.', unit='m')
    finger_friction: float = setting(1.0, 'Lateral friction of the fingers.', low=0.0, high=5.0, live=True)
    boxes_m: tuple[float, ...] = setting((), 'Fixed boxes in the way: lower corner (x, y, z) and upper corner of each.', unit='m',
                                         low=-10.0, high=10.0)

    def check(self) -> None:
        """Raise `ConfigError` when a rate is not a multiple of the base rate, or a range, region or box is empty."""
        if self.physics_hz % _BASE_HZ:
            raise ConfigError(f'WorldConfig.physics_hz needs a multiple of {_BASE_HZ} Hz, got {self.physics_hz}')
        require_ranges(self, 'cube_size_range_m', 'cube_mass_range_kg', 'cube_friction_range', 'changed_mass_range_kg',
                       'changed_friction_range')
        box_corners(self.boxes_m, 'WorldConfig.boxes_m')
        region = self.cube_region_m
        if region and (len(region) != 4 or region[0] >= region[2] or region[1] >= region[3]):
            raise ConfigError(f'WorldConfig.cube_region_m needs smallest x and y, then largest x and y, got {region}')


def tabletop_config() -> WorldConfig:
    """Settings with a cube of random size, mass and friction, where the gripper reaches it from all sides."""
    return WorldConfig(settle_s=0.1, randomise_cube=True, cube_region_m=(0.35, -0.25, 0.65, 0.25))


@dataclasses.dataclass(frozen=True)
class ArmBody:
    """PyBullet's indices of the arm.

    Attributes:
        body: Body of the arm.
        joints: Joint index of each arm and finger joint, by name.
        tool: Link index of the tool.
    """

    body: int
    joints: dict[str, int]
    tool: int


class BulletClient:
    """The `pybullet` module bound to one physics client; PyBullet's own wrapper prints a line at each connection.

    Raises:
        ConfigError: `mode` asks for a window, but there is no display.
    """

    def __init__(self, mode: int) -> None:
        self._id = pybullet.connect(mode)
        if self._id < 0:
            raise ConfigError('PyBullet cannot open its window; is there a display? Without one set gui to false')

    def __getattr__(self, name: str) -> Callable[..., Any]:
        bound = functools.partial(getattr(pybullet, name), physicsClientId=self._id)
        setattr(self, name, bound)
        return bound


def set_up_window(bullet: BulletClient) -> None:
    """Point the window's camera at the arm, and hide the panels around the picture."""
    for panel in (pybullet.COV_ENABLE_GUI, pybullet.COV_ENABLE_RGB_BUFFER_PREVIEW, pybullet.COV_ENABLE_DEPTH_BUFFER_PREVIEW,
                  pybullet.COV_ENABLE_SEGMENTATION_MARK_PREVIEW):
        bullet.configureDebugVisualizer(panel, 0)
    bullet.resetDebugVisualizerCamera(_WINDOW_DISTANCE_M, VIEW['yaw'], VIEW['pitch'], VIEW['target'])


def load_arm(bullet: BulletClient, robot: RobotProfile, config: WorldConfig, limits: JointLimits) -> ArmBody:
    """Load the URDF of a profile, and put the arm at home with the gripper open.

    Args:
        bullet: Empty simulation.
        robot: Profile with a resolved URDF.
        config: Self-collision and friction of the fingers.
        limits: Limits of the arm's joints.

    Raises:
        ConfigError: PyBullet cannot load the URDF, or a mesh is missing.
    """
    flags = pybullet.URDF_USE_SELF_COLLISION | pybullet.URDF_USE_SELF_COLLISION_EXCLUDE_PARENT
    try:
        with tempfile.TemporaryDirectory() as folder:
            urdf = _loadable(Path(robot.urdf_path), Path(folder))
            body = bullet.loadURDF(str(urdf), useFixedBase=True, flags=flags if config.self_collision else 0)
    except pybullet.error as error:
        raise ConfigError(f'{robot.urdf_path}: PyBullet cannot load it ({error})') from None
    infos = [bullet.getJointInfo(body, index) for index in range(bullet.getNumJoints(body))]
    links = {info[12].decode(): info[0] for info in infos}
    arm = ArmBody(body, {info[1].decode(): info[0] for info in infos}, links[robot.tool_link])
    for name, angle, is_free in zip(robot.joints, robot.home_rad, np.isinf(limits.lower)):
        if is_free:  # Bullet takes two equal ends for a joint that cannot move.
            bullet.changeDynamics(body, arm.joints[name], jointLowerLimit=-_FAR, jointUpperLimit=_FAR)
        bullet.resetJointState(body, arm.joints[name], angle, 0.0)
    if robot.gripper:
        for name in robot.gripper.joints:
            bullet.resetJointState(body, arm.joints[name], robot.gripper.open_m / len(robot.gripper.joints), 0.0)
            bullet.changeDynamics(body, arm.joints[name], lateralFriction=config.finger_friction)
    if config.self_collision:
        _ignore_touching_links(bullet, body)
    return arm


def make_goal_marker(bullet: BulletClient, position: np.ndarray) -> int:
    """Show a ball without collisions at a position (3,), m, and return its body."""
    shape = bullet.createVisualShape(pybullet.GEOM_SPHERE, radius=_GOAL_RADIUS_M, rgbaColor=(0.1, 0.75, 0.2, 1.0))
    return bullet.createMultiBody(baseMass=0.0, baseVisualShapeIndex=shape, basePosition=position.tolist())


def make_box(bullet: BulletClient, lower: np.ndarray, upper: np.ndarray) -> int:
    """Put a fixed box between two corners, (3,) each, m, and return its body."""
    half = (0.5 * (upper - lower)).tolist()
    return bullet.createMultiBody(baseMass=0.0, basePosition=(0.5 * (lower + upper)).tolist(),
                                  baseCollisionShapeIndex=bullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half),
                                  baseVisualShapeIndex=bullet.createVisualShape(pybullet.GEOM_BOX, halfExtents=half,
                                                                                rgbaColor=_BOX_COLOUR))


def _loadable(urdf: Path, folder: Path) -> Path:
    """A URDF that Bullet can load: a copy, if meshes are in other packages or a joint has no element `limit`."""
    root = ElementTree.parse(urdf).getroot()
    meshes = {mesh: mesh_file(mesh.get('filename', ''), urdf) for mesh in root.iter('mesh')}
    folder_of_urdf = urdf.absolute().parent
    beside = all(file == folder_of_urdf / mesh.get('filename').removeprefix('package://') for mesh, file in meshes.items())
    limited = [joint for joint in root.iter('joint') if joint.get('type') in ('revolute', 'prismatic')]
    bare = [joint for joint in limited if joint.find('limit') is None]
    if beside and not bare:
        return urdf
    for mesh, file in meshes.items():
        mesh.set('filename', str(file))
    for joint in bare:
        ElementTree.SubElement(joint, 'limit', lower='0', upper='0', effort='0', velocity='0')
    copy = folder / urdf.name
    copy.write_bytes(ElementTree.tostring(root))
    return copy


def _ignore_touching_links(bullet: BulletClient, body: int) -> None:
    """Turn off collisions between links that touch at home; their coarse collision hulls overlap always."""
    bullet.performCollisionDetection()
    for contact in bullet.getContactPoints(body, body):
        bullet.setCollisionFilterPair(body, body, contact[3], contact[4], 0)
