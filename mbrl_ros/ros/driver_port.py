"""Commands to the driver: filtered joint velocities in the form of its command interface."""

import time
from typing import Any

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.control.safety.braking_window import braking_window
from mbrl_ros.robots.profile import DriverProfile, RobotProfile
from mbrl_ros.ros import convert, qos

#: The commanded position leads the measured one by at most the motion of this many control periods.
_LEAD_PERIODS = 4.0
#: Wait this long after a driver has subscribed: a restarted simulator first publishes its new time.
_SETTLING_S = 1.0


class DriverPort:
    """Publishes arm and gripper commands.

    For position and trajectory interfaces, velocities are integrated from the last commanded position; integrating from the
    measured position would make the arm lag and jiggle. The lead over the measured position is bounded.

    Args:
        node: Owner of the publishers.
        robot: Joints and limits.
        driver: Command interface, topics and joint order.
        period_s: Control period.

    Raises:
        ConfigError: `command_joints` are not the robot's joints.
    """

    def __init__(self, node: Node, robot: RobotProfile, driver: DriverProfile, period_s: float) -> None:
        joints = driver.joint_order(robot)
        self._node, self._robot, self._period_s = node, robot, period_s
        self._type = driver.command_type
        self._joints = joints
        self._order = [robot.joints.index(joint) for joint in joints]
        self._lead = np.array(robot.max_velocity_rad_s) * _LEAD_PERIODS * period_s
        self._acceleration = np.array(robot.max_acceleration_rad_s2)
        self._target: np.ndarray | None = None
        self._last_msg: Float64MultiArray | JointTrajectory | None = None
        self._newcomer_s: float | None = None
        kind = JointTrajectory if self._type == 'trajectory' else Float64MultiArray
        self._arm_pub = qos.advertise(node, kind, driver.command_topic, qos.COMMAND, on_matched=self._on_matched)
        self._gripper_pub = qos.advertise(node, Float64MultiArray, driver.gripper_topic, qos.COMMAND) \
            if driver.gripper_topic else None

    @property
    def topic(self) -> str:
        """Resolved name of the arm's command topic."""
        return self._arm_pub.topic_name

    def other_commanders(self) -> str:
        """Names of other nodes that publish on the arm's command topic, with the topic; empty if there are none."""
        if self._node.count_publishers(self._arm_pub.topic_name) <= 1:
            return ''
        names = [info.node_name for info in self._node.get_publishers_info_by_topic(self._arm_pub.topic_name)]
        if self._node.get_name() in names:
            names.remove(self._node.get_name())
        return f'{", ".join(sorted(names))} on {self._arm_pub.topic_name}'

    def send(self, velocity: np.ndarray, q: np.ndarray, effect_ns: int) -> None:
        """Send a command for one control period.

        Args:
            velocity: Filtered joint velocities, shape (J,), rad/s, in the robot's order.
            q: Newest measured joint positions, shape (J,), rad.
            effect_ns: When the command takes effect.
        """
        self._newcomer_s = None
        self._last_msg = self._message(velocity, q, effect_ns)
        self._arm_pub.publish(self._last_msg)

    def repeat_to_newcomers(self) -> None:
        """Send the last command again if a driver has subscribed since, at least `_SETTLING_S` ago.

        In lockstep, a driver that subscribed too late for the command would wait for it forever. Against the wall clock the
        next command follows anyway.
        """
        is_settled = self._newcomer_s is not None and time.monotonic() - self._newcomer_s >= _SETTLING_S
        if is_settled and self._last_msg is not None:
            self._newcomer_s = None
            self._arm_pub.publish(self._last_msg)

    def rest(self) -> None:
        """Note that nothing is sent any more; the next position command starts at the measured position."""
        self._target = None

    def send_gripper(self, opening_m: float) -> None:
        """Set the opening of the gripper, m; does nothing without a gripper."""
        if self._gripper_pub is not None:
            self._gripper_pub.publish(_numbers(np.array([opening_m])))

    def destroy(self) -> None:
        """Destroy the publishers."""
        self._node.destroy_publisher(self._arm_pub)
        if self._gripper_pub is not None:
            self._node.destroy_publisher(self._gripper_pub)

    def _on_matched(self, status: Any) -> None:
        if status.total_count_change > 0:
            self._newcomer_s = time.monotonic()

    def _message(self, velocity: np.ndarray, q: np.ndarray, effect_ns: int) -> Float64MultiArray | JointTrajectory:
        if self._type == 'velocity':
            return _numbers(velocity[self._order])
        start = q if self._target is None else np.clip(self._target, q - self._lead, q + self._lead)
        self._target = start + velocity * self._period_s
        if self._type == 'position':
            return _numbers(self._target[self._order])
        positions, velocities = braking_window(start, velocity, self._acceleration, self._period_s)
        return convert.trajectory_to_msg(self._joints, positions[:, self._order], velocities[:, self._order],
                                         convert.header(effect_ns, self._robot.base_link), first=1, period_s=self._period_s)


def _numbers(values: np.ndarray) -> Float64MultiArray:
    return Float64MultiArray(data=convert.doubles(values))
