"""Subscriptions with a thread of their own, which no other entity of the node makes late.

rclpy's executors gather all entities of a node anew before each wait, services and timers among them. That takes longer than what
is to be done with a joint state.
"""

import threading
import traceback
from collections.abc import Sequence
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.subscription import Subscription

_FOREVER_NS = -1
#: Messages of one subscription, after which the others have their turn.
_BATCH = 100


class Apart(CallbackGroup):
    """A callback group that executors leave alone."""

    def can_execute(self, entity: Any) -> bool:
        """Say that no executor may."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Say that no executor may."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Do nothing."""


class DedicatedThread:
    """Waits for some subscriptions of a node, and calls back for each message.

    Where several have messages, all those of an earlier one go first. After an exception the node's `exit_code` is 1.

    Args:
        node: Owner of the subscriptions.
        subscriptions: In the callback group `Apart`, raw, with callbacks that take the bytes.
    """

    def __init__(self, node: Node, subscriptions: Sequence[Subscription]) -> None:
        self._node, self._subscriptions = node, subscriptions
        self._stopped = threading.Event()
        self._wake = GuardCondition(None, None, context=node.context)
        self._thread = threading.Thread(target=self._run, name='intake', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when the last callback has."""
        self._stopped.set()
        self._wake.trigger()
        self._thread.join()
        self._wake.destroy()

    def _run(self) -> None:
        try:
            wait_set = rclpy_implementation.WaitSet(len(self._subscriptions), 1, 0, 0, 0, 0, self._node.context.handle)
            while not self._stopped.is_set():
                self._wait(wait_set)
        except Exception:  # The process must end too; a node that hears nothing would look alive.
            self._node.get_logger().fatal(f'subscriptions broke\n{traceback.format_exc()}')
            self._node.exit_code = 1

    def _wait(self, wait_set: Any) -> None:
        wait_set.clear_entities()
        for subscription in self._subscriptions:
            wait_set.add_subscription(subscription.handle)
        wait_set.add_guard_condition(self._wake.handle)
        wait_set.wait(_FOREVER_NS)
        ready = wait_set.get_ready_entities('subscription')
        for subscription in self._subscriptions:
            if subscription.handle.pointer in ready:
                for _ in range(_BATCH):
                    if self._stopped.is_set() or not take(subscription):
                        break


def take(subscription: Subscription) -> bool:
    """Call back with the oldest message that waits; whether there was one."""
    with subscription.handle:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is not None:
        subscription.callback(taken[0])
    return taken is not None
