"""A plan as messages that every ROS tool can draw."""

from array import array

import torch
from geometry_msgs.msg import Point
from rclpy.duration import Duration
from std_msgs.msg import ColorRGBA
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import Marker, MarkerArray

from mbrl_ros.robots import RobotProfile
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.ros import convert
from mbrl_ros.types import Plan


def plan_to_msg(plan: Plan, robot: RobotProfile, start_ns: int, period_s: float) -> JointTrajectory:
    """Predicted positions and velocities of the arm's joints, one point a control step."""
    size = len(robot.joints)
    points = [JointTrajectoryPoint(positions=array('d', obs[:size].tolist()), velocities=array('d', obs[size:2 * size].tolist()),
                                   time_from_start=Duration(seconds=step * period_s).to_msg())
              for step, obs in enumerate(plan.mean_obs)]
    return JointTrajectory(header=convert.header(start_ns, robot.base_link), joint_names=list(robot.joints), points=points)


def path_to_msg(plan: Plan, robot: RobotProfile, kinematics: KinematicChain, start_ns: int) -> MarkerArray:
    """Predicted path of the tool as one line."""
    places = kinematics.position(torch.from_numpy(plan.mean_obs[:, :len(robot.joints)])).tolist()
    line = Marker(header=convert.header(start_ns, robot.base_link), ns='predicted_path', id=0, type=Marker.LINE_STRIP,
                  action=Marker.ADD, color=ColorRGBA(r=0.1, g=0.7, b=1.0, a=1.0),
                  points=[Point(x=x, y=y, z=z) for x, y, z in places])
    line.scale.x = 0.005
    line.pose.orientation.w = 1.0
    return MarkerArray(markers=[line])
