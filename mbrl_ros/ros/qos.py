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
from std_msgs.msg import String, UInt8MultiArray

from mbrl_ros.errors import MeasurementError
from mbrl_ros.ros import convert
from mbrl_ros.ros.refusals import Refusals

#: Longest messages that are taken, in bytes: models, robot descriptions, and all others, such as states and reports.
_LONGEST_BYTES, _OTHER_BYTES = {UInt8MultiArray: 67_108_864, String: 4_194_304}, 65_536
#: For topics whose messages may have any length.
ANY_LENGTH = 2**63


def profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    """QoS that keeps the last `depth` messages; `latched` also gives them to late subscribers."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)


#: Subscriptions to a driver's sensors; they match reliable and best-effort publishers alike.
SENSOR = profile(5, reliable=False)
#: Subscriptions to what every node says once a second.
DIAGNOSTICS = profile(50, reliable=False)
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


def subscribe(node: Node, message_type: type, topic: str, callback: Callable[..., None], qos: QoSProfile, *,
              raw: bool = False, max_bytes: int = 0) -> Subscription:
    """Create a subscription without QoS event callbacks that takes no message which is too long for its type.

    The length is looked at before anything is decoded. What is not taken is named in a throttled error.

    Args:
        node: Owner of the subscription.
        message_type: Type of the messages.
        topic: Topic.
        callback: Gets each message.
        qos: Profile.
        raw: Whether the callback gets the serialised bytes and the message's info instead of the message.
        max_bytes: Longest message that is taken; 0 for what fits the type.
    """
    intake = _Intake(node, message_type, topic, callback, max_bytes or _LONGEST_BYTES.get(message_type, _OTHER_BYTES))
    return node.create_subscription(message_type, topic, intake.take_bytes if raw else intake.take, qos, raw=True,
                                    event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False))


class _Intake:
    """Hands on the messages of a topic, and refuses those that are too long or no messages."""

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[..., None], max_bytes: int) -> None:
        self._kind, self._topic, self._callback, self._max_bytes = kind, topic, callback, max_bytes
        self._refusals = Refusals(node)

    def take(self, data: bytes) -> None:
        """Hand on a message."""
        if not self._is_short(data):
            return
        try:
            message = convert.message_from_bytes(data, self._kind)
        except MeasurementError as error:
            self._refusals.tell(self._topic, error)
            return
        self._callback(message)

    def take_bytes(self, data: bytes, info: dict) -> None:
        """Hand on a message as it came."""
        if self._is_short(data):
            self._callback(data, info)

    def _is_short(self, data: bytes) -> bool:
        if len(data) <= self._max_bytes:
            return True
        self._refusals.tell(self._topic, f'a message of {len(data)} bytes; at most {self._max_bytes} are read')
        return False
