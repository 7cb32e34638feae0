"""QoS profiles by role, and publishers and subscriptions without QoS event callbacks.

rclpy waits on every entity in every spin, and each QoS event callback is one more entity. Without them a 500 Hz subscriber
needs a third less processor time.
"""

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription


def profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    """QoS that keeps the last `depth` messages; `latched` also gives them to late subscribers."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)


#: Subscriptions to a driver's sensors; they match reliable and best-effort publishers alike.
SENSOR = profile(5, reliable=False)
#: Publishers that act as a driver; reliable, like ros2_control's broadcasters.
DRIVER = profile(10)
#: States and commands, of which only the newest counts.
STATE = COMMAND = profile(1)
#: Late subscribers get the last value.
LATCHED = profile(1, latched=True)
#: Subscriptions of the logger and the trainer, which must not lose a message.
RECORD = profile(1000)
#: The same for latched topics.
LATCHED_RECORD = profile(1000, latched=True)


def advertise(node: Node, message_type: type, topic: str, qos: QoSProfile, *,
              on_matched: Callable[[Any], None] | None = None) -> Publisher:
    """Create a publisher whose only QoS event callback is `on_matched`, called when subscriptions come and go."""
    return node.create_publisher(message_type, topic, qos,
                                 event_callbacks=PublisherEventCallbacks(matched=on_matched, use_default_callbacks=False))


def subscribe(node: Node, message_type: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile, *,
              raw: bool = False) -> Subscription:
    """Create a subscription without QoS event callbacks; with `raw` the callback gets the serialised bytes."""
    return node.create_subscription(message_type, topic, callback, qos, raw=raw,
                                    event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False))
