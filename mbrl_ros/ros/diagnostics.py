"""`/diagnostics` at 1 Hz (REP 107): the newest status of each component."""

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from mbrl_ros.ros import convert, qos, runtime, topics

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Diagnostics:
    """Collects the statuses of one node and publishes them once a second.

    Args:
        node: The node; statuses are named `<node>: <component>`.
        hardware_id: Robot or driver that the statuses are about.
        period_s: Publishing period by the steady clock, so that publishing goes on while simulated time stands.
    """

    def __init__(self, node: Node, hardware_id: str = '', *, period_s: float = 1.0) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._publisher = qos.advertise(node, DiagnosticArray, topics.DIAGNOSTICS, qos.DRIVER)
        runtime.steady_timer(node, period_s, self.publish)

    def update(self, component: str, level: bytes, message: str, **values: Any) -> None:
        """Replace the status of a component."""
        name = f'{self._node.get_name()}: {component}'
        array = convert.status_to_msg(0, name, values, message=message, level=level, hardware_id=self._hardware_id)
        self._statuses[component] = array.status[0]

    def publish(self) -> None:
        """Publish all statuses now."""
        stamp_ns = self._node.get_clock().now().nanoseconds
        self._publisher.publish(DiagnosticArray(header=convert.header(stamp_ns), status=list(self._statuses.values())))
