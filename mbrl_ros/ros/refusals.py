"""Log lines about messages that were refused, however many are sent."""

import time

from rclpy.node import Node

from mbrl_ros.errors import shortened

#: Lines that a topic may have at once, and the time after which it may have one more, seconds.
_BURST, _PERIOD_S = 5.0, 2.0


class Refusals:
    """Logs errors, of each topic a few at once and then one every two seconds.

    rclpy's own throttle counts by the line of code, which several topics share, and hides a second error that follows soon.

    Args:
        node: Logs.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._left: dict[str, tuple[float, float]] = {}

    def tell(self, topic: str, error: Exception | str) -> None:
        """Log why a message of a topic was refused, unless the topic has had its lines."""
        now_s = time.monotonic()
        left, since_s = self._left.get(topic, (_BURST, now_s))
        left = min(left + (now_s - since_s) / _PERIOD_S, _BURST)
        if left >= 1.0:
            left -= 1.0
            self._node.get_logger().error(f'{topic}: {shortened(str(error))}')
        self._left[topic] = left, now_s
