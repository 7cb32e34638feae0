"""MuJoCo's model of the arm, the table and the cube."""

from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.robots.urdf import mesh_file, read_urdf
from mbrl_sim.objects import TableObject
from mbrl_sim.servo import ServoConfig
from mbrl_sim.urdf import JointLimits

#: Names of the table's geometry, and of the body and joint of the cube.
TABLE, THING = 'table', 'thing'
#: Inertia of motor and gear at the axis of each joint, kg m²; without it the servo of a light wrist would be unstable.
ROTOR_INERTIA = 0.1
_FINGER_STIFFNESS = 5000.0
_TABLE_FRICTION = 0.5
#: MuJoCo's contype and conaffinity: two bodies collide if the first number of one shares a bit with the second of the other. The
#: arm does not collide with itself.
_ARM_CONTACT, _TABLE_CONTACT, _THING_CONTACT = (1, 0), (0, 3), (2, 1)
_SHAPES = {'cube': mujoco.mjtGeom.mjGEOM_BOX, 'cylinder': mujoco.mjtGeom.mjGEOM_CYLINDER}
#: Objects that can lie on the table.
KINDS = tuple(_SHAPES)


def make_model(robot: RobotProfile, physics_hz: int, servo: ServoConfig, arm: JointLimits, fingers: JointLimits,
               cube: TableObject | None) -> mujoco.MjModel:
    """Compile the arm, the table, and an object on it.

    The servos of the arm's joints come first, in the profile's order, then those of the fingers. Joints that are not in the
    profile are fixed.

    Args:
        robot: Profile with a resolved URDF.
        physics_hz: Physics rate.
        servo: Stiffness, and share of gravity that is not compensated.
        arm: Limits of the arm's joints.
        fingers: Limits of the finger joints.
        cube: The object, if any.

    Raises:
        ConfigError: MuJoCo cannot load the URDF, or one of its meshes does not exist.
    """
    text = _urdf_text(Path(robot.urdf_path))
    try:
        spec = mujoco.MjSpec.from_string(text)
        _complete_arm(spec, robot, servo, arm, fingers)
        _add_table(spec, cube)
        spec.option.timestep = 1.0 / physics_hz
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        return _with_possible_inertia(spec)
    except ValueError as error:
        raise ConfigError(f'{robot.urdf_path}: MuJoCo cannot load it ({error})') from None


def _with_possible_inertia(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compile a model; bodies with more inertia than their mass can have within their shapes get that of a ball around them.

    Made-up inertias are common in URDFs (0.1 kg m² for each finger of a Panda, in that of PyBullet), and no motor of the real arm
    could keep its limits with them.
    """
    model = spec.compile()
    limits = np.where(model.body_mass > 0.0, np.inf, 0.0)  # Of a mass at the far end of the shapes, kg m².
    limits[np.unique(model.geom_bodyid)] = 0.0
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        radius = np.linalg.norm(model.geom_pos[geom] - model.body_ipos[body]) + model.geom_rbound[geom]
        limits[body] = max(limits[body], model.body_mass[body] * radius**2)
    impossible = [body for body in range(1, model.nbody) if model.body_inertia[body].max() > limits[body]]
    for body in impossible:
        part = spec.body(model.body(body).name)
        part.fullinertia, part.inertia = np.full(6, np.nan), np.full(3, 0.4 * limits[body])
    return spec.compile() if impossible else model


def _complete_arm(spec: mujoco.MjSpec, robot: RobotProfile, servo: ServoConfig, arm: JointLimits, fingers: JointLimits) -> None:
    """Give the arm of a URDF its servos, its compensation of gravity, and its rules of contact."""
    for body in spec.bodies:
        body.gravcomp = 1.0 - servo.gravity_error
    for geom in spec.geoms:
        geom.contype, geom.conaffinity = _ARM_CONTACT
    names = robot.joints + (robot.gripper.joints if robot.gripper else ())
    for joint in [joint for joint in spec.joints if joint.name not in names]:
        spec.delete(joint)
    for index, name in enumerate(robot.joints):
        spec.joint(name).armature = ROTOR_INERTIA
        _add_servo(spec, name, servo.stiffness, arm, index, timeconst=1.0)  # The world sets it for each joint.
    for index, name in enumerate(names[len(robot.joints):]):
        _add_servo(spec, name, _FINGER_STIFFNESS, fingers, index)


def _add_table(spec: mujoco.MjSpec, cube: TableObject | None) -> None:
    """Add the table, and a cube or a cylinder on it."""
    table = spec.worldbody.add_geom(name=TABLE, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.0, 0.0, 1.0])
    table.contype, table.conaffinity = _TABLE_CONTACT
    table.friction[0] = _TABLE_FRICTION
    if cube is None:
        return
    body = spec.worldbody.add_body(name=THING, pos=cube.position_m)
    body.quat = [np.cos(cube.yaw_rad / 2), 0.0, 0.0, np.sin(cube.yaw_rad / 2)]
    body.add_freejoint(name=THING)
    geom = body.add_geom(type=_SHAPES[cube.kind], size=[cube.size_m / 2] * 3, mass=cube.mass_kg)
    geom.contype, geom.conaffinity = _THING_CONTACT
    geom.friction[0] = cube.friction


def _urdf_text(path: Path) -> str:
    """The URDF with absolute paths of meshes, without visuals and mimics, and with settings by which MuJoCo keeps every link."""
    root = read_urdf(path)
    for element in [*root.findall('link'), *root.findall('joint')]:
        for unused in [*element.findall('visual'), *element.findall('mimic')]:  # Each finger has its own servo.
            element.remove(unused)
    for mesh in root.iter('mesh'):
        mesh.set('filename', str(mesh_file(mesh.get('filename', ''), path)))
    compiler = {'strippath': 'false', 'fusestatic': 'false', 'balanceinertia': 'true'}
    ElementTree.SubElement(ElementTree.SubElement(root, 'mujoco'), 'compiler', compiler)
    return ElementTree.tostring(root, encoding='unicode')


def _add_servo(spec: mujoco.MjSpec, name: str, stiffness: float, limits: JointLimits, index: int, timeconst: float = 0.0) -> None:
    """Add a critically damped position servo at a joint, within its limits; a time constant above 0 gives it a lag."""
    joint = spec.joint(name)
    joint.damping[:] = 0.0  # The servo's damping includes it.
    joint.limited = bool(np.isfinite(limits.lower[index]))
    if joint.limited:
        joint.range = [limits.lower[index], limits.upper[index]]
    actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=stiffness, dampratio=1.0, timeconst=timeconst)
    if np.isfinite(limits.max_force[index]):
        actuator.forcerange = [-limits.max_force[index], limits.max_force[index]]
