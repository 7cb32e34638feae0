"""Joint limits of a URDF, for all physics engines.

Engines differ in how they take a limit that is missing, zero or crossed. Here each has one meaning for all of them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.robots.urdf import UrdfJoint, read_joint, read_urdf


@dataclasses.dataclass(frozen=True)
class JointLimits:
    """Limits of J joints in the URDF; each array has shape (J,), in rad or m, and is infinite where there is no limit.

    Attributes:
        lower: Smallest position.
        upper: Largest position.
        max_velocity: Largest speed.
        max_force: Largest torque or force.
        is_continuous: Whether a joint turns without end; worlds report its position within ±pi.
    """

    lower: np.ndarray
    upper: np.ndarray
    max_velocity: np.ndarray
    max_force: np.ndarray
    is_continuous: np.ndarray


def arm_limits(robot: RobotProfile) -> tuple[JointLimits, JointLimits]:
    """Limits of the arm's joints and of the gripper's fingers.

    What `read_joint` takes for absent is no limit, except that the velocity limits of the profile count then.

    Raises:
        ConfigError: The URDF cannot be read, or lacks a joint or the tool of the profile, or one of these joints cannot move.
    """
    path, root = robot.urdf_path, read_urdf(robot.urdf_path)
    elements = {joint.get('name', ''): joint for joint in root.findall('joint')}
    links = [child.get('link', '') for child in root.findall('joint/child')]
    fingers = robot.gripper.joints if robot.gripper else ()
    if missing := [name for name in robot.joints + fingers if name not in elements]:
        raise ConfigError(f'{path}: has no joint {", ".join(missing)}; it has {", ".join(elements)}')
    if robot.tool_link not in links:
        raise ConfigError(f'{path}: has no link {robot.tool_link!r}; it has {", ".join(links)}')
    joints = {name: read_joint(elements[name], path) for name in robot.joints + fingers}
    if fixed := [name for name, joint in joints.items() if not joint.is_moving]:
        raise ConfigError(f'{path}: {", ".join(fixed)} cannot move; the profile lists joints that do')
    arm = _limits([joints[name] for name in robot.joints])
    speed = np.where(np.isinf(arm.max_velocity), robot.max_velocity_rad_s, arm.max_velocity)
    return dataclasses.replace(arm, max_velocity=speed), _limits([joints[name] for name in fingers])


def wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles within [-pi, pi)."""
    return (angle + np.pi) % (2.0 * np.pi) - np.pi


def _limits(joints: Sequence[UrdfJoint]) -> JointLimits:
    rows = np.array([(joint.lower, joint.upper, joint.max_velocity, joint.max_effort) for joint in joints]).reshape(-1, 4)
    return JointLimits(*rows.T, is_continuous=np.array([joint.kind == 'continuous' for joint in joints], dtype=bool))
