"""An executor for nodes that hear much: messages reach their callbacks with little in between."""

import inspect
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.task import Task

_FOREVER_NS = -1
#: Kinds of entities beside subscriptions, in the order of the wait set's arguments and by the names of its methods.
_OTHERS = {'guard_condition': 'guards', 'timer': 'timers', 'client': 'clients', 'service': 'services'}


class QuickExecutor(SingleThreadedExecutor):
    """Serves subscriptions itself, and leaves everything else to rclpy.

    rclpy's own executors gather all entities of a node anew for each callback, and wake themselves twice after it, which takes
    longer than what most messages ask for. Here they are gathered only when one has come or gone. Callbacks of subscriptions are
    plain functions.
    """

    def __init__(self, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        self._signal = GuardCondition(None, None, context=self.context)
        self._is_stale, self._has_tasks = True, False
        #: Keeps handles valid while they are waited for.
        self._held = ExitStack()

    def wake(self) -> None:
        """Wait anew, as an entity has come or gone."""
        super().wake()
        self._is_stale = True
        self._end_wait()

    def add_node(self, node: Node) -> bool:
        """Serve a node, too; whether it is new."""
        is_new = super().add_node(node)
        self.wake()
        return is_new

    def remove_node(self, node: Node) -> None:
        """Leave a node alone."""
        super().remove_node(node)
        self.wake()

    def create_task(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
        """Have something called soon."""
        task = super().create_task(callback, *args, **kwargs)
        self._has_tasks = True
        self._end_wait()
        return task

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Serve nothing any more."""
        self._held.close()
        is_over = super().shutdown(timeout_sec)
        self._signal.destroy()
        return is_over

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait until something is due, at most for a time, and serve a message of each subscription that has one.

        Raises:
            ExternalShutdownException: The context was shut down.
        """
        self._require_context()
        if self._is_stale:
            self._gather()
        self._wait(_FOREVER_NS if timeout_sec is None else round(timeout_sec * 1e9))
        ready = self._wait_set.get_ready_entities('subscription')
        are_others_due = self._are_others_due()
        for pointer, subscription, takes_info in self._subscriptions:
            if pointer in ready:
                _serve(subscription, takes_info)
        if are_others_due or self._has_tasks:
            self._serve_others()

    def _end_wait(self) -> None:
        """End a wait in another thread; after the shutdown, nodes that go need none to end."""
        with suppress(InvalidHandle):
            self._signal.trigger()

    def _gather(self) -> None:
        """Look what there is to wait for."""
        self._is_stale = False
        self._held.close()
        nodes = self.get_nodes()
        held = {kind: [entity for node in nodes for entity in getattr(node, kind) if self._hold(entity.handle)]
                for kind in ('subscriptions', *_OTHERS.values())}
        self._waitables = [waitable for node in nodes for waitable in node.waitables if self._hold(waitable)]
        self._subscriptions = [(subscription.handle.pointer, subscription, _takes_info(subscription.callback))
                               for subscription in held['subscriptions']]
        self._guards = held['guards']
        self._handles = {kind: [entity.handle for entity in held[name]] for kind, name in _OTHERS.items()}
        self._handles['subscription'] = [subscription.handle for subscription in held['subscriptions']]
        self._handles['guard_condition'].append(self._signal.handle)
        counts = [len(self._handles[kind]) for kind in ('subscription', *_OTHERS)] + [0]
        for waitable in self._waitables:
            asked = waitable.get_num_entities()
            more = (asked.num_subscriptions, asked.num_guard_conditions, asked.num_timers, asked.num_clients, asked.num_services,
                    asked.num_events)
            counts = [count + extra for count, extra in zip(counts, more)]
        self._wait_set = rclpy_implementation.WaitSet(*counts, self.context.handle)

    def _hold(self, handle: Any) -> bool:
        """Keep a handle valid until the next look; whether it still is."""
        try:
            self._held.enter_context(handle)
        except InvalidHandle:
            return False
        return True

    def _wait(self, timeout_ns: int) -> None:
        self._wait_set.clear_entities()
        for kind, handles in self._handles.items():
            add = getattr(self._wait_set, f'add_{kind}')
            for handle in handles:
                add(handle)
        for waitable in self._waitables:
            waitable.add_to_wait_set(self._wait_set)
        self._wait_set.wait(0 if self._has_tasks else timeout_ns)
        self._require_context()

    def _require_context(self) -> None:
        if not self.context.ok():
            raise ExternalShutdownException

    def _are_others_due(self) -> bool:
        """Whether rclpy has something to do; a wait has taken back the guards, and they are triggered again for it."""
        ready = self._wait_set.get_ready_entities
        triggered = ready('guard_condition')
        guards = [guard for guard in self._guards if guard.handle.pointer in triggered]
        for guard in guards:
            guard.trigger()
        return bool(guards or ready('timer') or ready('client') or ready('service')
                    or any(waitable.is_ready(self._wait_set) for waitable in self._waitables))

    def _serve_others(self) -> None:
        """Let rclpy do all that is due."""
        self._has_tasks = False
        while True:
            try:
                handler, _, _ = self.wait_for_ready_callbacks(timeout_sec=0)
            except (TimeoutException, ShutdownException):
                return
            handler()
            handler.result()


def _serve(subscription: Subscription, takes_info: bool) -> None:
    """Call back with the oldest message, if there is one, unless a callback before has destroyed the subscription."""
    try:
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    except InvalidHandle:
        return
    if taken is not None:
        message, info = taken
        subscription.callback(message, info) if takes_info else subscription.callback(message)


def _takes_info(callback: Callable[..., Any]) -> bool:
    """Whether a callback wants to know about the message, too."""
    try:
        inspect.signature(callback).bind(object())
    except TypeError:
        return True
    return False
