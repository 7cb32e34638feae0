"""Log lines about messages that were refused, however many are sent."""

import time

from rclpy.node import Node

from mbrl_ros.errors import shortened

#: Lines that a topic may have at once, and the time after which it may have one more, seconds.
_BURST, _PERIOD_S = 5.0, 2.0


class Refusals:
    """Logs errors, of each topic a few different ones at once and then one every two seconds.

    rclpy's own throttle counts by the line of code, which several topics share, and hides a second error that follows soon.

    Args:
        node: Logs.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._told: dict[str, tuple[float, float, str]] = {}

    def tell(self, topic: str, error: Exception | str) -> None:
        """Log why a message of a topic was refused, unless the topic has had its lines."""
        now_s, text = time.monotonic(), shortened(str(error))
        left, told_s, last = self._told.get(topic, (_BURST, -_PERIOD_S, ''))
        left = min(left + (now_s - told_s) / _PERIOD_S, _BURST)
        if left >= 1.0 and (text != last or now_s - told_s >= _PERIOD_S):
            self._told[topic] = left - 1.0, now_s, text
            self._node.get_logger().error(f'{topic}: {text}')
