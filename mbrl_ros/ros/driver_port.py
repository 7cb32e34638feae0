"""The way to the arm: what the command guard decided, as the driver's command interface wants it."""

import math
import time
from collections.abc import Iterable

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.control.safety.guard import GuardOutcome
from mbrl_ros.control.safety.reference import braking_window
from mbrl_ros.errors import shortened
from mbrl_ros.robots.profile import DriverProfile, RobotProfile
from mbrl_ros.ros import convert, qos, topics
from mbrl_ros.ros.controller_watch import ControllerWatch
from mbrl_ros.ros.repeating import RepeatingPublisher

#: Name of a node that has only just been discovered.
_UNKNOWN = '_NODE_NAME_UNKNOWN_'
#: Time for which an answer about other commanders is used again; asking takes longer than the rest of a tick.
_FRESH_S = 0.1


class DriverPort:
    """Publishes arm and gripper commands, and knows who else commands the arm.

    Args:
        node: Owner of the publishers.
        robot: Joints and limits.
        driver: Command interface, topics and joint order.
        period_s: Period of the guard.
        hold_s: Time for which a trajectory goes on after that period before it brakes.

    Raises:
        ConfigError: `command_joints` are not the robot's joints.
    """

    def __init__(self, node: Node, robot: RobotProfile, driver: DriverProfile, period_s: float, hold_s: float) -> None:
        joints = driver.joint_order(robot)
        self._node, self._robot, self._period_s, self._hold_s = node, robot, period_s, hold_s
        self._type = driver.command_type
        self._joints = joints
        self._order = [robot.joints.index(joint) for joint in joints]
        self._acceleration = np.array(robot.max_acceleration_rad_s2)
        kind = JointTrajectory if self._type == 'trajectory' else Float64MultiArray
        self._arm_pub = RepeatingPublisher(node, kind, driver.command_topic, qos.COMMAND)
        self._gripper_pub = qos.advertise(node, Float64MultiArray, driver.gripper_topic, qos.COMMAND) \
            if driver.gripper_topic else None
        self._watch = ControllerWatch(node, driver.controller)
        self._others, self._looked_s = '', -math.inf

    @property
    def topic(self) -> str:
        """Resolved name of the arm's command topic."""
        return self._arm_pub.topic

    def other_commanders(self) -> str:
        """Who else commands the arm, in words; empty if nobody does.

        That is another publisher on the arm's command topic, a second controller beside the first, or a goal of the driver's
        action.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s >= _FRESH_S:
            self._others, self._looked_s = self._look(), now_s
        return self._others

    def inactive_controller(self) -> str:
        """The driver's controller and its state if that is not active, so that commands reach nobody; otherwise empty."""
        return self._watch.inactivity()

    def _look(self) -> str:
        drivers = self._publishers(self.topic)
        if self._node.get_name() in drivers:
            drivers.remove(self._node.get_name())
        if drivers:
            return _named(drivers, self.topic)
        # A controller that was killed is listed for some time beside its successor, which has its name.
        command_topic = self._node.resolve_topic_name(topics.COMMAND)
        controllers = set(self._publishers(command_topic)) - {_UNKNOWN}
        return _named(controllers, command_topic) if len(controllers) > 1 else self._watch.goal()

    def _publishers(self, topic: str) -> list[str]:
        """Names of the nodes that publish on a topic, if there are several."""
        if self._node.count_publishers(topic) <= 1:
            return []
        return [info.node_name for info in self._node.get_publishers_info_by_topic(topic)]

    def send(self, outcome: GuardOutcome, stamp_ns: int) -> None:
        """Send what the guard decided for its next period; nothing while it is silent.

        Args:
            outcome: Its decision.
            stamp_ns: When a trajectory begins.
        """
        if outcome.velocity is None or (outcome.start is None and self._type != 'velocity'):
            return
        self._arm_pub.publish(self._message(outcome, stamp_ns))

    def repeat_to_newcomers(self) -> None:
        """See `RepeatingPublisher.repeat_to_newcomers`."""
        self._arm_pub.repeat_to_newcomers()

    @property
    def has_gripper(self) -> bool:
        """Whether a gripper listens."""
        return self._gripper_pub is not None and self._gripper_pub.get_subscription_count() > 0

    def send_gripper(self, opening_m: float) -> None:
        """Open or close the gripper to a width, within its range; does nothing for an arm or a driver without one."""
        gripper = self._robot.gripper
        if self._gripper_pub is not None and gripper is not None:
            self._gripper_pub.publish(_numbers(np.clip([opening_m], gripper.closed_m, gripper.open_m)))

    def _message(self, outcome: GuardOutcome, stamp_ns: int) -> Float64MultiArray | JointTrajectory:
        if self._type == 'velocity':
            return _numbers(outcome.velocity[self._order])
        if self._type == 'position':
            mean = 0.5 * (outcome.before + outcome.velocity)
            return _numbers((outcome.start + mean * self._period_s)[self._order])
        times_s, positions, velocities = braking_window(outcome.start, (outcome.before, outcome.velocity), self._acceleration,
                                                        self._period_s, self._hold_s)
        return convert.trajectory_to_msg(self._joints, times_s, positions[:, self._order], velocities[:, self._order],
                                         convert.header(stamp_ns, self._robot.base_link))


def _numbers(values: np.ndarray) -> Float64MultiArray:
    return Float64MultiArray(data=convert.doubles(values))


def _named(nodes: Iterable[str], topic: str) -> str:
    return shortened(f'{", ".join(sorted(nodes))} on {topic}')
