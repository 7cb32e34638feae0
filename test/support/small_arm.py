"""An arm of two joints whose second joint a test describes itself."""

from pathlib import Path

from mbrl_ros.robots.profile import RobotProfile

_LINK = """<link name="{name}"><inertial><origin xyz="0.2 0 0"/><mass value="1"/>
<inertia ixx="0.01" iyy="0.02" izz="0.02" ixy="0" ixz="0" iyz="0"/></inertial>
<collision><origin xyz="0.2 0 0"/><geometry><box size="0.4 0.04 0.04"/></geometry></collision></link>"""
_URDF = """<robot name="small"><link name="base"/>{links}
<joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><origin xyz="0 0 0.5"/><axis xyz="0 0 1"/>
<limit lower="-3" upper="3" effort="50" velocity="2"/></joint>
<joint name="elbow" type="{kind}"><parent link="upper"/><child link="lower"/><origin xyz="0.4 0 0"/><axis xyz="0 0 1"/>
{limit}</joint>{more}</robot>"""


def small_arm(folder: Path, kind: str, limit: str, home_rad: float = 0.5, more: str = '') -> RobotProfile:
    """Profile of an arm in the plane z = 0.5 m, two links of 0.4 m.

    Args:
        folder: Where its URDF is written.
        kind: URDF type of the joint `elbow`.
        limit: Its `limit` element.
        home_rad: Its home.
        more: Links and joints beside.
    """
    path = folder / 'small.urdf'
    links = ''.join(_LINK.format(name=name) for name in ('upper', 'lower'))
    path.write_text(_URDF.format(links=links, kind=kind, limit=limit, more=more), encoding='utf-8')
    return RobotProfile(name='small', urdf=str(path), urdf_path=str(path), base_link='base', tool_link='lower',
                        joints=('shoulder', 'elbow'), position_lower_rad=(-2.9, -6.0), position_upper_rad=(2.9, 6.0),
                        max_velocity_rad_s=(1.5, 1.2), max_acceleration_rad_s2=(10.0, 10.0), home_rad=(0.0, home_rad))
