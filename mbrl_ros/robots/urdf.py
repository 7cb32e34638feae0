"""The serial chain of a URDF: fixed offsets, joint axes and limits, read without torch.

The planner's kinematics, the command guard and the check of a profile against its URDF all read this one chain.
"""

import dataclasses
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transforms3d.euler import euler2mat

from mbrl_ros.errors import ConfigError
from mbrl_ros.resources import resolve_url

_MOVING = ('revolute', 'continuous', 'prismatic')
#: Folders in which meshes are looked for: that of the URDF, and those above it.
_MESH_FOLDERS = 4
#: Rounding of a limit that makes no difference, rad, rad/s, m or m/s.
_ROUNDING = 1e-3
#: No arm turns further, rad, or faster, rad/s; larger numbers are degrees.
_LARGEST_TURN = 30.0


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
        max_effort: Largest torque or force, N m or N; inf likewise.
    """

    name: str
    kind: str
    offset: np.ndarray
    axis: np.ndarray
    lower: float
    upper: float
    max_velocity: float
    max_effort: float

    @property
    def is_moving(self) -> bool:
        """Whether the joint can be driven."""
        return self.kind in _MOVING

    def misfits(self, lower: float, upper: float, max_velocity: float) -> list[str]:
        """Limits of a profile, units as above, that this joint cannot have, in words; none if all fit."""
        unit, reach = ('m', math.inf) if self.kind == 'prismatic' else ('rad', _LARGEST_TURN)
        lowest, highest, fastest = max(self.lower, -reach), min(self.upper, reach), min(self.max_velocity, reach)
        misfits = []
        is_endless = self.kind == 'continuous' and (lower, upper) == (-math.inf, math.inf)
        if not (is_endless or (lowest - _ROUNDING <= lower and upper <= highest + _ROUNDING)):
            misfits.append(f'position limits of {self.name} need to lie within [{lowest:g}, {highest:g}] {unit}, '
                           f'got [{lower:g}, {upper:g}]' + _suspicion(max(-lower, upper), reach))
        if max_velocity > fastest + _ROUNDING:
            misfits.append(f'the velocity limit of {self.name} needs to be at most {fastest:g} {unit}/s, got {max_velocity:g}'
                           + _suspicion(max_velocity, reach))
        return misfits


def read_chain(urdf_path: str | Path, base_link: str, tool_link: str, joints: Sequence[str]) -> list[UrdfJoint]:
    """Joints from a base link to a tool link, fixed ones included.

    Args:
        urdf_path: URDF file.
        base_link: First link.
        tool_link: Last link.
        joints: The joints that the chain has to move, in any order.

    Raises:
        ConfigError: The file is no URDF, has no such chain, the chain has a joint that is no serial arm's, or it moves other
            joints than `joints`.
    """
    root = read_urdf(urdf_path)
    by_child = {joint.find('child').get('link'): joint for joint in root.findall('joint')
                if joint.find('child') is not None and joint.find('parent') is not None}
    chain: list[UrdfJoint] = []
    link = tool_link
    while link != base_link:
        if link not in by_child or len(chain) > len(by_child):
            raise ConfigError(f'{urdf_path}: no chain from {base_link!r} to {tool_link!r}')
        chain.append(read_joint(by_child[link], urdf_path))
        if chain[-1].is_moving and (mimic := by_child[link].find('mimic')) is not None:
            raise ConfigError(f'{urdf_path}: joint {chain[-1].name!r} mimics {mimic.get("joint")!r}; the joints from base to '
                              'tool need to move by themselves')
        link = by_child[link].find('parent').get('link')
    chain.reverse()
    names = [joint.name for joint in chain if joint.is_moving]
    if sorted(names) != sorted(joints):
        raise ConfigError(f'{urdf_path}: the chain {base_link} to {tool_link} moves {", ".join(names)}, '
                          f'the profile lists {", ".join(joints)}')
    return chain


def mesh_file(url: str, urdf_path: Path) -> Path:
    """Where a mesh of a URDF is: in a folder near the URDF, as physics engines look for `package://` too, or in its package.

    Raises:
        ConfigError: It is in none of these places.
    """
    nearby = [folder / url.removeprefix('package://') for folder in urdf_path.absolute().parents[:_MESH_FOLDERS]]
    return next((path for path in nearby if path.is_file()), None) or resolve_url(url, urdf_path)


def read_urdf(urdf_path: str | Path) -> ElementTree.Element:
    """Root element of a URDF.

    Raises:
        ConfigError: The file cannot be read, is not XML, or is xacro source.
    """
    try:
        root = ElementTree.parse(urdf_path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ConfigError(f'{urdf_path}: is no URDF ({error})') from None
    if any('xacro}' in element.tag for element in root.iter()):
        raise ConfigError(f'{urdf_path}: is xacro source, no URDF; expand it with "xacro {Path(urdf_path).name} > arm.urdf", and '
                          'name arm.urdf in the profile')
    return root


def read_joint(element: ElementTree.Element, urdf_path: str | Path) -> UrdfJoint:
    """Joint of an element of a URDF.

    A lower limit that is not below the upper one, and a limit of velocity or effort that is not positive, count as absent.

    Raises:
        ConfigError: It is no joint of a serial arm, or a number cannot be read.
    """
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
    velocity, effort = (limit.get(key, 0.0) for key in ('velocity', 'effort'))
    return UrdfJoint(name, kind, offset, axis / (length or 1.0), lower, upper, velocity if velocity > 0.0 else math.inf,
                     effort if effort > 0.0 else math.inf)


def _suspicion(number: float, largest: float) -> str:
    """End of an error text about a number that no joint has."""
    if number == math.inf:
        return '; only a joint of type continuous may go without, at both ends'
    return f'; {number:g} looks like degrees' if number > largest else ''


def _numbers(text: str) -> np.ndarray:
    """Three numbers of an attribute.

    Raises:
        ValueError: They are not three, or not finite.
    """
    values = np.array(text.split(), dtype=np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ValueError(f'three numbers wanted, got {text!r}')
    return values
