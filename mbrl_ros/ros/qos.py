"""QoS profiles by role, and quiet publishers and subscriptions.

rclpy waits on every entity in every spin, and each default QoS event callback is one more; without them a 500 Hz
subscriber costs a third less processor time.
"""

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription


def _profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


#: Subscribing to a driver's sensors: matches reliable and best-effort publishers alike.
SENSOR = _profile(5, reliable=False)
#: Publishing what a driver publishes: reliable, as ros2_control's broadcasters do.
DRIVER = _profile(10)
#: The newest value is the only one that matters; commands and states.
STATE = _profile(1)
COMMAND = _profile(1)
#: The last value reaches those who come later.
LATCHED = _profile(1, latched=True)
#: Everything is to be kept: subscriptions of the logger and the trainer.
RECORD = _profile(1000)
#: Likewise, from the last value before the subscription on.
LATCHED_RECORD = _profile(1000, latched=True)


def advertise(node: Node, message_type: type, topic: str, qos: QoSProfile, *,
              on_matched: Callable[[Any], None] | None = None) -> Publisher:
    """Create a publisher without QoS event callbacks, save one for subscriptions that come and go where it is given."""
    return node.create_publisher(message_type, topic, qos,
                                 event_callbacks=PublisherEventCallbacks(matched=on_matched, use_default_callbacks=False))


def subscribe(node: Node, message_type: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile, *,
              raw: bool = False) -> Subscription:
    """Create a subscription without QoS event callbacks; with `raw` the callback gets the serialised bytes."""
    return node.create_subscription(message_type, topic, callback, qos, raw=raw,
                                    event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False))
