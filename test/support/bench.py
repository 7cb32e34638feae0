"""A bench for nodes: a context of its own, the test's own node in it beside those under test, and waiting that ends."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import rclpy
from rcl_interfaces.msg import Log
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from mbrl_ros.ros import qos

TIMEOUT_S = 60.0
#: Time between two calls of what goes on while a test waits.
_EVERY_S = 0.01


def wait_until(done: Callable[[], Any], go_on: Callable[[], None] = lambda: time.sleep(0.01), *, timeout_s: float = TIMEOUT_S,
               what: str = 'it') -> bool:
    """Wait for something that comes true by itself, or by what goes on meanwhile; arguments as for `NodeBench.spin_until`."""
    end_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end_s, f'waited in vain for {what}'
        go_on()
    return True


class NodeBench:
    """Nodes under test, and a node that talks to them.

    Attributes:
        context: Of all of them.
        peer: The test's own node.
        executor: Spins them.
    """

    def __init__(self, name: str = 'peer') -> None:
        self.context = rclpy.Context()
        self.context.init()
        self.executor = SingleThreadedExecutor(context=self.context)
        self._nodes: list[Node] = []
        self.peer = self.add(rclpy.create_node(name, context=self.context))
        # Latched, so that the first words of a node are heard too.
        self._logs = self.hear(Log, '/rosout', qos.LATCHED_RECORD)

    @property
    def logs(self) -> list[str]:
        """All log messages so far."""
        return self.said('')

    def add(self, node: Node) -> Node:
        """Spin a node, and destroy it in the end."""
        self._nodes.append(node)
        self.executor.add_node(node)
        return node

    def start(self, kind: Callable[..., Node], **parameters: object) -> Node:
        """A node under test; `__` in the name of a parameter stands for a dot."""
        overrides = [Parameter(name.replace('__', '.'), value=value) for name, value in parameters.items()]
        try:
            return self.add(kind(context=self.context, parameter_overrides=overrides))
        except Exception:
            self.close()
            raise

    def hear(self, kind: type, topic: str, profile: Any = qos.RECORD) -> list:
        """List that every message of a topic is added to."""
        messages: list = []
        qos.subscribe(self.peer, kind, topic, messages.append, profile, max_bytes=qos.ANY_LENGTH)
        return messages

    def said(self, text: str, node: str = '') -> list[str]:
        """Log messages, of one node or of all, with a text in them."""
        return [log.msg for log in self._logs if text in log.msg and node in ('', log.name)]

    def call(self, kind: type, name: str, request: Any) -> Any:
        """Answer of a service."""
        client = self.peer.create_client(kind, name)
        self.spin_until(client.service_is_ready, what=name)
        future = client.call_async(request)
        self.spin_until(future.done, what=f'an answer of {name}')
        self.peer.destroy_client(client)
        return future.result()

    def drive(self) -> None:
        """What goes on while a test waits, about 100 times a second."""

    def spin_until(self, done: Callable[[], Any], drive: Callable[[], None] | None = None, *, timeout_s: float = TIMEOUT_S,
                   what: str = 'it') -> bool:
        """Spin, and drive, until `done`.

        Args:
            done: What is waited for.
            drive: In place of the bench's own.
            timeout_s: Longest wait.
            what: Its name.

        Returns:
            True.

        Raises:
            AssertionError: It did not come true in time.
        """
        next_s = 0.0

        def go_on() -> None:
            nonlocal next_s
            now_s = time.monotonic()
            if now_s >= next_s:
                next_s = now_s + _EVERY_S
                (drive or self.drive)()
            self.executor.spin_once(timeout_sec=next_s - now_s)

        return wait_until(done, go_on, timeout_s=timeout_s, what=what)

    def spin_for(self, duration_s: float) -> None:
        """Spin, and drive, for a while."""
        end_s = time.monotonic() + duration_s
        self.spin_until(lambda: time.monotonic() >= end_s)

    def close(self) -> None:
        """Leave, unless it has been done."""
        if not self.context.ok():
            return
        self.executor.shutdown()
        for node in reversed(self._nodes):
            if hasattr(node, 'close'):
                node.close()
            node.destroy_node()
        self.context.try_shutdown()


def made(kind: Callable[..., NodeBench]) -> Iterator[Callable[..., NodeBench]]:
    """Body of a fixture: what makes benches, which are closed after the test."""
    benches: list[NodeBench] = []

    def make(*arguments: Any, **parameters: Any) -> NodeBench:
        benches.append(kind(*arguments, **parameters))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()
