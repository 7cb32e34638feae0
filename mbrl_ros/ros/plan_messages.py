"""A plan as messages that every ROS tool can draw."""

from collections.abc import Mapping

import torch
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.ros import convert
from mbrl_ros.types import Plan

#: Blue for the tool, orange for the object.
_COLOURS = ((0.1, 0.7, 1.0), (1.0, 0.55, 0.1))


def plan_to_msg(plan: Plan, robot: RobotProfile, start_ns: int, period_s: float) -> JointTrajectory:
    """Predicted positions and velocities of the arm's joints, one point a control step of `period_s`."""
    size = len(robot.joints)
    return convert.trajectory_to_msg(robot.joints, plan.mean_obs[:, :size], plan.mean_obs[:, size:2 * size],
                                     convert.header(start_ns, robot.base_link), first=0, period_s=period_s)


def paths_to_msg(paths: Mapping[str, torch.Tensor], frame: str, start_ns: int) -> MarkerArray:
    """One line marker for each predicted path.

    Args:
        paths: Positions by the name of the body, shape (H + 1, 3), m.
        frame: Frame of the positions.
        start_ns: Stamp of the first position.
    """
    return MarkerArray(markers=[_line(name, places.tolist(), _COLOURS[index % len(_COLOURS)], convert.header(start_ns, frame))
                                for index, (name, places) in enumerate(paths.items())])


def _line(name: str, places: list[list[float]], colour: tuple[float, float, float], header: Header) -> Marker:
    red, green, blue = colour
    line = Marker(header=header, ns=f'predicted_{name}', id=0, type=Marker.LINE_STRIP, action=Marker.ADD,
                  color=ColorRGBA(r=red, g=green, b=blue, a=1.0), points=[Point(x=x, y=y, z=z) for x, y, z in places])
    line.scale.x = 0.005
    line.pose.orientation.w = 1.0
    return line
