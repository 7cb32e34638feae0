"""The serial chain of a URDF: fixed offsets, joint axes and limits, read without torch.

The planner's kinematics, the command guard and the check of a profile against its URDF all read this one chain.
"""

import dataclasses
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from transforms3d.euler import euler2mat

from mbrl_ros.errors import ConfigError

_MOVING = ('revolute', 'continuous', 'prismatic')


@dataclasses.dataclass(frozen=True)
class UrdfJoint:
    """One joint of a chain.

    Attributes:
        name: Its name.
        kind: `fixed`, `revolute`, `continuous` or `prismatic`.
        offset: Pose of the joint's frame in that of the joint before, shape (4, 4).
        axis: Direction in the joint's frame, shape (3,), of length 1; of no meaning where the joint is fixed.
        lower: Lower position limit, rad or m; -inf where the URDF has none.
        upper: Upper position limit; inf likewise.
        max_velocity: Largest speed, rad/s or m/s; inf where the URDF has none.
    """

    name: str
    kind: str
    offset: np.ndarray
    axis: np.ndarray
    lower: float
    upper: float
    max_velocity: float

    @property
    def is_moving(self) -> bool:
        """Whether the joint can be driven."""
        return self.kind in _MOVING


def read_chain(urdf_path: str | Path, base_link: str, tool_link: str) -> list[UrdfJoint]:
    """Joints from a base link to a tool link, fixed ones included.

    A lower limit that is not below the upper one, and a velocity limit that is not positive, count as absent.

    Args:
        urdf_path: URDF file.
        base_link: First link.
        tool_link: Last link.

    Raises:
        ConfigError: The file is no URDF, has no such chain, or the chain has a joint that is no serial arm's.
    """
    try:
        root = ElementTree.parse(urdf_path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ConfigError(f'{urdf_path}: is no URDF ({error})') from None
    by_child = {joint.find('child').get('link'): joint for joint in root.findall('joint')
                if joint.find('child') is not None and joint.find('parent') is not None}
    chain: list[UrdfJoint] = []
    link = tool_link
    while link != base_link:
        if link not in by_child or len(chain) > len(by_child):
            raise ConfigError(f'{urdf_path}: no chain from {base_link!r} to {tool_link!r}')
        chain.append(_joint(by_child[link], urdf_path))
        link = by_child[link].find('parent').get('link')
    return chain[::-1]


def _joint(element: ElementTree.Element, urdf_path: str | Path) -> UrdfJoint:
    name, kind = element.get('name'), element.get('type')
    if kind != 'fixed' and kind not in _MOVING:
        raise ConfigError(f'{urdf_path}: joint {name!r} is of type {kind!r}; an arm has {", ".join(_MOVING)} and fixed ones')
    try:
        origin = element.find('origin')
        offset = np.eye(4)
        if origin is not None:
            offset[:3, :3] = euler2mat(*_numbers(origin.get('rpy', '0 0 0')), 'sxyz')
            offset[:3, 3] = _numbers(origin.get('xyz', '0 0 0'))
        axis = _numbers(element.find('axis').get('xyz')) if element.find('axis') is not None else np.array([1.0, 0.0, 0.0])
        limit = {} if element.find('limit') is None else {key: float(text) for key, text in element.find('limit').attrib.items()}
        length = float(np.linalg.norm(axis))
    except ValueError as error:
        raise ConfigError(f'{urdf_path}: joint {name!r} cannot be read ({error})') from None
    if length == 0.0 and kind != 'fixed':
        raise ConfigError(f'{urdf_path}: joint {name!r} has an axis of length 0')
    lower, upper = limit.get('lower', 0.0), limit.get('upper', 0.0)
    if kind == 'continuous' or not lower < upper:
        lower, upper = -math.inf, math.inf
    velocity = limit.get('velocity', 0.0)
    return UrdfJoint(name, kind, offset, axis / (length or 1.0), lower, upper, velocity if velocity > 0.0 else math.inf)


def _numbers(text: str) -> np.ndarray:
    """Three numbers of an attribute.

    Raises:
        ValueError: They are not three, or not finite.
    """
    values = np.array(text.split(), dtype=np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ValueError(f'three numbers wanted, got {text!r}')
    return values
