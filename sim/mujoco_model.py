"""The arm, the table and what lies on it, as MuJoCo's compiler takes them."""

from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots import RobotProfile
from mbrl_sim.objects import TableObject
from mbrl_sim.servo import ServoConfig
from mbrl_sim.urdf import JointLimits, mesh_file, parse

#: Names of the table's geometry, and of what lies there.
TABLE, THING = 'table', 'thing'
#: Of motor and gear at each joint's axis, kg m²; without it a light wrist would be stiffer than the step is short.
ROTOR_INERTIA = 0.1
_FINGER_STIFFNESS = 5000.0
_TABLE_FRICTION = 0.5
#: Bits of contact: a pair collides if the first word of one shares a bit with the second word of the other. The arm does not
#: collide with itself.
_ARM_CONTACT, _TABLE_CONTACT, _THING_CONTACT = (1, 0), (0, 3), (2, 1)
_SHAPES = {'cube': mujoco.mjtGeom.mjGEOM_BOX, 'cylinder': mujoco.mjtGeom.mjGEOM_CYLINDER}
#: What can lie there.
KINDS = tuple(_SHAPES)


def arm_spec(robot: RobotProfile, physics_hz: int, servo: ServoConfig, arm: JointLimits, fingers: JointLimits) -> mujoco.MjSpec:
    """The arm on a table, with a servo at each of its joints, in the order of the profile, then at the fingers'.

    Joints that the profile does not name are fixed.

    Args:
        robot: Profile with a resolved URDF.
        physics_hz: Physics rate.
        servo: Stiffness, and what of gravity is not compensated.
        arm: Limits of the arm's joints.
        fingers: Limits of the finger joints.

    Raises:
        ConfigError: MuJoCo cannot read the URDF, or a mesh of it does not exist.
    """
    path = Path(robot.urdf_path)
    try:
        spec = mujoco.MjSpec.from_string(_urdf_text(path))
    except ValueError as error:
        raise ConfigError(f'{path}: MuJoCo cannot load it ({error})') from None
    spec.option.timestep = 1.0 / physics_hz
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for body in spec.bodies:
        body.gravcomp = 1.0 - servo.gravity_error
    for geom in spec.geoms:
        geom.contype, geom.conaffinity = _ARM_CONTACT
    names = robot.joints + (robot.gripper.joints if robot.gripper else ())
    for joint in [joint for joint in spec.joints if joint.name not in names]:
        spec.delete(joint)
    for index, name in enumerate(robot.joints):
        spec.joint(name).armature = ROTOR_INERTIA
        _add_servo(spec, name, servo.stiffness, arm, index, timeconst=1.0)  # The world sets each joint's own.
    for index, name in enumerate(names[len(robot.joints):]):
        _add_servo(spec, name, _FINGER_STIFFNESS, fingers, index)
    table = spec.worldbody.add_geom(name=TABLE, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.0, 0.0, 1.0])
    table.contype, table.conaffinity = _TABLE_CONTACT
    table.friction[0] = _TABLE_FRICTION
    return spec


def add_thing(spec: mujoco.MjSpec, thing: TableObject) -> None:
    """Put a cube or a cylinder on the table."""
    half = thing.size_m / 2
    body = spec.worldbody.add_body(name=THING, pos=thing.position_m)
    body.quat = [np.cos(thing.yaw_rad / 2), 0.0, 0.0, np.sin(thing.yaw_rad / 2)]
    body.add_freejoint(name=THING)
    geom = body.add_geom(type=_SHAPES[thing.kind], size=[half] * 3, mass=thing.mass_kg)
    geom.contype, geom.conaffinity = _THING_CONTACT
    geom.friction[0] = thing.friction


def _urdf_text(path: Path) -> str:
    """The URDF with whole mesh paths and without what is only seen; no link is merged into another."""
    root = parse(path)
    for link in root.iter('link'):
        for visual in link.findall('visual'):
            link.remove(visual)
    for mesh in root.iter('mesh'):
        mesh.set('filename', str(mesh_file(mesh.get('filename', ''), path)))
    compiler = {'strippath': 'false', 'fusestatic': 'false', 'balanceinertia': 'true'}
    ElementTree.SubElement(ElementTree.SubElement(root, 'mujoco'), 'compiler', compiler)
    return ElementTree.tostring(root, encoding='unicode')


def _add_servo(spec: mujoco.MjSpec, name: str, stiffness: float, limits: JointLimits, index: int, timeconst: float = 0.0) -> None:
    """Add a critically damped position servo at a joint, within its limits; a time constant above 0 gives it a lag."""
    joint = spec.joint(name)
    joint.damping[:] = 0.0  # It is part of the servo's.
    joint.limited = bool(np.isfinite(limits.lower[index]))
    if joint.limited:
        joint.range = [limits.lower[index], limits.upper[index]]
    actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=stiffness, dampratio=1.0, timeconst=timeconst)
    if np.isfinite(limits.max_force[index]):
        actuator.forcerange = [-limits.max_force[index], limits.max_force[index]]
