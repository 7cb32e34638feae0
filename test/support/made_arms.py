"""Small arms of the tests' own: a URDF written from a list of joints, and the profile that goes with it."""

import dataclasses
from pathlib import Path

import yaml

FULL = {'lower': -2.5, 'upper': 2.5, 'effort': 80, 'velocity': 3}


@dataclasses.dataclass(frozen=True)
class Made:
    """One joint: its type, attributes of its `<limit>` (None for no such element), axis, offset, and elements of one's own."""

    kind: str = 'revolute'
    limit: dict | None = dataclasses.field(default_factory=lambda: FULL)
    axis: str = '0 1 0'
    xyz: str = '0 0 0.2'
    rpy: str = '0 0 0'
    more: str = ''


def write_urdf(path: Path, joints: list[Made]) -> Path:
    """Write the URDF of an arm from `base` to `tool` with the joints j1, j2 and so on; returns the path."""
    solid = ('<inertial><origin xyz="0 0 0.1"/><mass value="0.6"/><inertia ixx="0.004" iyy="0.004" izz="0.002" '
             'ixy="0" ixz="0" iyz="0"/></inertial>')
    parts = [f'<link name="base">{solid}</link>']
    for number, joint in enumerate(joints, 1):
        parent = f'l{number - 1}' if number > 1 else 'base'
        limit = ' '.join(f'{key}="{value}"' for key, value in (joint.limit or {}).items())
        parts.append(f'<link name="l{number}">{solid}</link><joint name="j{number}" type="{joint.kind}"><parent link="{parent}"/>'
                     f'<child link="l{number}"/><origin xyz="{joint.xyz}" rpy="{joint.rpy}"/><axis xyz="{joint.axis}"/>'
                     f'{"" if joint.limit is None else f"<limit {limit}/>"}{joint.more}</joint>')
    parts.append(f'<link name="tool">{solid}</link><joint name="flange" type="fixed"><parent link="l{len(joints)}"/>'
                 '<child link="tool"/><origin xyz="0.05 0 0.2" rpy="0.1 0.2 0.3"/></joint>')
    path.write_text(f'<robot name="made">{"".join(parts)}</robot>')
    return path


def write_profile(folder: Path, made: list[Made], **values) -> str:
    """Write an arm's URDF and its profile, with values of one's own; returns the path of the profile."""
    urdf, count = write_urdf(folder / 'made.urdf', made), len(made)
    profile = {'name': 'made', 'urdf': urdf.name, 'base_link': 'base', 'tool_link': 'tool',
               'joints': [f'j{number}' for number in range(1, count + 1)],
               'position_lower_rad': [-2.2] * count, 'position_upper_rad': [2.2] * count, 'max_velocity_rad_s': [1.0] * count,
               'max_acceleration_rad_s2': [5.0] * count, 'home_rad': [0.3, 0.5, 1.0, 0.1, 0.4][:count],
               'workspace': {'lower_m': [0.2, -0.4, 0.1], 'upper_m': [0.6, 0.4, 0.8], 'min_reach_m': 0.25, 'max_reach_m': 0.7}}
    path = folder / 'made.yaml'
    path.write_text(yaml.safe_dump({**profile, **values}))
    return str(path)
