"""Joint limits of a URDF, for all physics engines.

Engines differ in how they take a limit that is missing, zero or crossed. Here each has one meaning for all engines.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.robots.urdf import read_urdf

_KINDS = ('revolute', 'continuous', 'prismatic')


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

    Where a velocity is missing or zero, that of the profile counts. A missing or zero effort is no limit. Positions are unlimited
    if both ends are missing or equal, or if the joint is continuous.

    Raises:
        ConfigError: The URDF cannot be read, or lacks a joint or the tool of the profile; or the limit of a joint is missing,
            crossed, negative or not a number.
    """
    path, root = Path(robot.urdf_path), read_urdf(robot.urdf_path)
    joints = {joint.get('name', ''): joint for joint in root.findall('joint')}
    links = [child.get('link', '') for child in root.findall('joint/child')]
    fingers = robot.gripper.joints if robot.gripper else ()
    if missing := [name for name in robot.joints + fingers if name not in joints]:
        raise ConfigError(f'{path}: has no joint {", ".join(missing)}; it has {", ".join(joints)}')
    if robot.tool_link not in links:
        raise ConfigError(f'{path}: has no link {robot.tool_link!r}; it has {", ".join(links)}')
    arm = _limits(path, [joints[name] for name in robot.joints])
    speed = np.where(np.isinf(arm.max_velocity), robot.max_velocity_rad_s, arm.max_velocity)
    return dataclasses.replace(arm, max_velocity=speed), _limits(path, [joints[name] for name in fingers])


def wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles within [-pi, pi)."""
    return (angle + np.pi) % (2.0 * np.pi) - np.pi


def _limits(path: Path, joints: Sequence[ElementTree.Element]) -> JointLimits:
    rows = np.array([_limit(path, joint) for joint in joints], dtype=np.float64).reshape(-1, 4)
    return JointLimits(*rows.T, is_continuous=np.array([joint.get('type') == 'continuous' for joint in joints], dtype=bool))


def _limit(path: Path, joint: ElementTree.Element) -> tuple[float, float, float, float]:
    """Lower and upper position, largest velocity and largest effort of a joint."""
    name, kind, element = joint.get('name'), joint.get('type'), joint.find('limit')
    if kind not in _KINDS:
        raise ConfigError(f'{path}: joint {name} needs one of the types {", ".join(_KINDS)}, got {kind!r}')
    if element is None and kind != 'continuous':
        raise ConfigError(f'{path}: joint {name} is {kind} and has no limit')
    given = {} if element is None else element.attrib
    try:
        lower, upper, velocity, effort = (float(given.get(key, 0.0)) for key in ('lower', 'upper', 'velocity', 'effort'))
    except ValueError:
        raise ConfigError(f'{path}: the limit of joint {name} needs numbers, got {given}') from None
    if kind != 'continuous' and not lower <= upper:
        raise ConfigError(f'{path}: the limits of joint {name} are crossed: lower is {lower}, upper {upper}')
    if not (velocity >= 0.0 and effort >= 0.0):
        raise ConfigError(f'{path}: the limit of joint {name} needs velocity and effort of at least 0, got {velocity}, {effort}')
    if kind == 'continuous' or lower == upper:
        lower, upper = -math.inf, math.inf
    return lower, upper, velocity or math.inf, effort or math.inf
