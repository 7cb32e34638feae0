"""Subscriptions with a thread of their own."""

from collections.abc import Callable, Iterator

import pytest
import rclpy
from std_msgs.msg import String
from support.bench import NodeBench, made, wait_until

from mbrl_ros.ros import qos
from mbrl_ros.ros.dedicated import Apart, DedicatedThread


@pytest.fixture
def make_bench() -> Iterator[Callable[..., NodeBench]]:
    yield from made(NodeBench)


class Hearer:
    """A node of a bench that nobody spins, and its thread."""

    def __init__(self, bench: NodeBench, callback: Callable[[String], None]) -> None:
        self.node = rclpy.create_node('hearer', context=bench.context)
        self.node.exit_code = None
        subscription = qos.subscribe(self.node, String, 'words', callback, qos.RECORD, group=Apart())
        self._publisher = qos.advertise(bench.peer, String, 'words', qos.RECORD)
        bench.spin_until(self._publisher.get_subscription_count, what='the subscription')
        self._thread = DedicatedThread(self.node, [subscription])

    def say(self, word: str) -> None:
        self._publisher.publish(String(data=word))

    def close(self) -> None:
        self._thread.stop()
        self.node.destroy_node()


def test_messages_come_in_order_although_no_executor_spins_the_node(make_bench):
    heard: list[str] = []
    hearer = Hearer(make_bench(), lambda message: heard.append(message.data))
    for number in range(250):
        hearer.say(str(number))
    wait_until(lambda: len(heard) == 250, what='the messages')
    assert heard == [str(number) for number in range(250)]
    hearer.close()
    hearer.say('late')
    assert len(heard) == 250


def test_an_exception_ends_the_process(make_bench):
    bench = make_bench()

    def broken(_: String) -> None:
        raise RuntimeError('no such joint')

    hearer = Hearer(bench, broken)
    hearer.say('x')
    bench.spin_until(lambda: hearer.node.exit_code == 1 and bench.said('no such joint', 'hearer'), what='the end')
    hearer.close()
