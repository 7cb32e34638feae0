"""The way to the command guard: what the controller asks of the arm."""

from rclpy.node import Node
from sensor_msgs.msg import JointState

from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.ros import convert, qos, topics
from mbrl_ros.ros.repeating import RepeatingPublisher
from mbrl_ros.types import AppliedCommand


class CommandPort:
    """Publishes the controller's commands for arm and gripper.

    Args:
        node: Owner of the publisher.
        robot: Names of frame and gripper.
    """

    def __init__(self, node: Node, robot: RobotProfile) -> None:
        self._frame, self._gripper = robot.base_link, robot.gripper.name if robot.gripper else ''
        self._publisher = RepeatingPublisher(node, JointState, topics.COMMAND, qos.COMMAND)
        self.repeat_to_newcomers = self._publisher.repeat_to_newcomers
        self.destroy = self._publisher.destroy

    def send(self, command: AppliedCommand) -> None:
        """Send a command for one control period."""
        self._publisher.publish(convert.applied_to_msg(command, self._frame, self._gripper))
