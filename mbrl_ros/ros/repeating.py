"""A publisher that, while time stands, tells newcomers what it said last."""

import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

from mbrl_ros.ros import qos

#: So long a subscriber that has just come may take to say what time it is; one that has started again begins another time.
_SETTLING_S = 1.0


class RepeatingPublisher:
    """Publishes, and can repeat the last message to somebody who was not listening yet.

    For lockstep: a simulator, or a command guard, that was not listening to a command would wait for it for ever. Against the
    clock the next command comes by itself.

    Args:
        node: Owner of the publisher.
        kind: Type of the messages.
        topic: Topic.
        profile: QoS.
    """

    def __init__(self, node: Node, kind: type, topic: str, profile: QoSProfile) -> None:
        self._node = node
        self._publisher = qos.advertise(node, kind, topic, profile, on_matched=self._on_matched)
        self._last: Any = None
        self._newcomer_s: float | None = None

    @property
    def topic(self) -> str:
        """Resolved name of the topic."""
        return self._publisher.topic_name

    def publish(self, message: Any) -> None:
        """Publish a message."""
        self._newcomer_s, self._last = None, message
        self._publisher.publish(message)

    def repeat_to_newcomers(self) -> None:
        """Publish the last message again if somebody has begun to listen since, and has had a moment to speak."""
        is_settled = self._newcomer_s is not None and time.monotonic() - self._newcomer_s >= _SETTLING_S
        if is_settled and self._last is not None:
            self.publish(self._last)

    def destroy(self) -> None:
        """Give the topic back."""
        self._node.destroy_publisher(self._publisher)

    def _on_matched(self, status: Any) -> None:
        if status.total_count_change > 0:
            self._newcomer_s = time.monotonic()
