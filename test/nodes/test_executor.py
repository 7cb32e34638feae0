"""The executor of the nodes: whatever an entity is, and whenever it comes or goes, it is served as by rclpy's own."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException
from std_msgs.msg import String
from std_srvs.srv import Trigger
from support.bench import wait_until

from mbrl_ros.ros import qos, runtime
from mbrl_ros.ros.executor import QuickExecutor


class World:
    """A node that the executor serves, and one that talks to it, which needs no serving."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        self.context.init()
        self.node, self.peer = (rclpy.create_node(name, context=self.context) for name in ('hearer', 'speaker'))
        self.executor = QuickExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: list[str] = []

    def speaker(self, topic: str) -> Callable[[str], None]:
        """Says words on a topic that is heard already."""
        publisher = qos.advertise(self.peer, String, topic, qos.RECORD)
        wait_until(publisher.get_subscription_count)
        return lambda word: publisher.publish(String(data=word))

    def hear(self, topic: str):
        return qos.subscribe(self.node, String, topic, lambda message: self.heard.append(message.data), qos.RECORD)

    def spin_until(self, done: Callable[[], object]) -> None:
        wait_until(done, lambda: self.executor.spin_once(timeout_sec=0.1), timeout_s=20.0)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.peer.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_messages_come_in_order_and_in_turn(world):
    world.hear('a'), world.hear('b')
    say_a, say_b = world.speaker('a'), world.speaker('b')
    for number in range(100):
        say_a(f'a{number}'), say_b(f'b{number}')
    world.spin_until(lambda: len(world.heard) == 200)
    for topic in 'ab':
        assert [word for word in world.heard if word[0] == topic] == [f'{topic}{number}' for number in range(100)]


def test_callbacks_that_want_to_know_about_a_message_do(world):
    infos = []
    world.node.create_subscription(String, 'a', lambda message, info: infos.append((message.data, info)), qos.RECORD)
    world.speaker('a')('word')
    world.spin_until(lambda: infos)
    (word, info), = infos
    assert word == 'word' and info['source_timestamp'] > 0


def test_timers_services_and_their_clients_and_guards_are_served_beside_messages(world):
    ticks, answers, guarded = [], [], []
    world.hear('a')
    say = world.speaker('a')
    runtime.steady_timer(world.node, 0.02, lambda: (ticks.append(1), say('tick')))
    world.node.create_service(Trigger, 'ask', lambda _, response: (say('asked'), response)[1])
    client = world.node.create_client(Trigger, 'ask')
    guard = world.node.create_guard_condition(lambda: guarded.append(1))
    wait_until(client.service_is_ready)
    client.call_async(Trigger.Request()).add_done_callback(lambda future: answers.append(future.result()))
    threading.Thread(target=guard.trigger).start()
    world.spin_until(lambda: len(ticks) >= 5 and answers and guarded and 'asked' in world.heard)
    assert isinstance(answers[0], Trigger.Response)


def test_events_of_a_subscription_are_served(world):
    events = []
    world.node.create_subscription(String, 'a', lambda _: None, qos.RECORD,
                                   event_callbacks=SubscriptionEventCallbacks(matched=events.append))
    world.speaker('a')
    world.spin_until(lambda: events)
    assert events[0].current_count == 1


def test_tasks_are_done_though_nothing_else_happens(world):
    done = []
    world.executor.spin_once(timeout_sec=0.0)
    threading.Timer(0.2, lambda: world.executor.create_task(done.append, 1)).start()
    began_s = time.monotonic()
    world.executor.spin_once(timeout_sec=20.0)
    world.spin_until(lambda: done)
    assert time.monotonic() - began_s < 10.0


def test_a_subscription_that_comes_while_it_waits_is_served(world):
    threading.Timer(0.2, lambda: world.hear('late')).start()
    world.executor.spin_once(timeout_sec=0.0)
    world.executor.spin_once(timeout_sec=20.0)
    world.speaker('late')('word')
    world.spin_until(lambda: world.heard == ['word'])


def test_a_subscription_that_goes_is_not_called_any_more(world):
    def go(_: String) -> None:
        world.heard.append('gone')
        world.node.destroy_subscription(last)

    first = qos.subscribe(world.node, String, 'a', go, qos.RECORD)
    last = world.hear('a')
    world.speaker('a')('word')
    wait_until(lambda: all(subscription.handle.get_publisher_count() for subscription in (first, last)))
    time.sleep(0.1)
    for _ in range(3):
        world.executor.spin_once(timeout_sec=0.1)
    assert world.heard == ['gone']


def test_an_exception_of_a_callback_ends_the_spinning(world):
    def broken(_: object = None) -> None:
        raise RuntimeError('no such joint')

    qos.subscribe(world.node, String, 'a', broken, qos.RECORD)
    world.speaker('a')('word')
    with pytest.raises(RuntimeError, match='no such joint'):
        world.spin_until(lambda: False)
    runtime.steady_timer(world.node, 0.01, broken)
    with pytest.raises(RuntimeError, match='no such joint'):
        world.spin_until(lambda: False)


def test_it_comes_back_after_its_time_and_ends_with_the_context(world):
    world.executor.spin_once(timeout_sec=0.0)
    began_s = time.monotonic()
    world.executor.spin_once(timeout_sec=0.2)
    assert 0.1 <= time.monotonic() - began_s < 10.0
    world.context.shutdown()
    with pytest.raises(ExternalShutdownException):
        world.executor.spin_once(timeout_sec=0.1)


def test_a_node_that_was_taken_away_is_left_alone(world):
    world.hear('a')
    say = world.speaker('a')
    world.executor.remove_node(world.node)
    say('word')
    world.executor.spin_once(timeout_sec=0.2)
    assert not world.heard
    world.executor.add_node(world.node)
    world.spin_until(lambda: world.heard == ['word'])
