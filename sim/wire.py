"""Measurements and commands of the simulated driver to and from ROS messages."""

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.ros import convert
from mbrl_sim.command_interfaces import TrajectoryCommand, TrajectoryPoint
from mbrl_sim.faults import JointSample, PoseSample


def joint_state_to_msg(sample: JointSample, frame: str) -> JointState:
    """Joint sample in the form of ros2_control's broadcaster."""
    return JointState(header=convert.header(sample.stamp_ns, frame), name=list(sample.names),
                      position=convert.doubles(sample.position), velocity=convert.doubles(sample.velocity))


def pose_to_msg(sample: PoseSample, frame: str) -> PoseStamped:
    """Pose sample in the form of a perception node."""
    message = PoseStamped(header=convert.header(sample.stamp_ns, frame))
    place, turn = message.pose.position, message.pose.orientation
    place.x, place.y, place.z = sample.position.tolist()
    turn.x, turn.y, turn.z, turn.w = sample.quaternion.tolist()
    return message


def trajectory_from_msg(message: JointTrajectory, message_now_ns: int, interface_now_s: float) -> TrajectoryCommand:
    """Trajectory with the interface's time.

    Args:
        message: The trajectory; a zero stamp means at once.
        message_now_ns: Present time, by the clock of the message's stamp.
        interface_now_s: Present time, by the clock of the interface.
    """
    points = [TrajectoryPoint(convert.stamp_from_msg(point.time_from_start) / convert.NANOSECONDS, point.positions.tolist(),
                              point.velocities.tolist(), point.accelerations.tolist()) for point in message.points]
    stamp_ns = convert.stamp_from_msg(message.header.stamp)
    start_s = interface_now_s + (stamp_ns - message_now_ns) / convert.NANOSECONDS if stamp_ns else None
    return TrajectoryCommand(tuple(message.joint_names), points, start_s)
