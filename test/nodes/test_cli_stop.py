"""`mbrl-ros stop` and `release` against the real command guard."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from mbrl_ros.nodes.command_guard_node import CommandGuardNode


@pytest.fixture
def guard():
    """The guard of the arm `left`, spinning."""
    context = rclpy.Context()
    context.init()
    node = CommandGuardNode(context=context, namespace='/left')
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin():
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin)
    thread.start()
    yield node
    executor.shutdown()
    thread.join()
    node.close()
    node.destroy_node()
    context.shutdown()


def command(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'mbrl_ros.cli.main', *words], capture_output=True, text=True, timeout=60)


def test_the_stop_is_pressed_and_released_from_the_command_line(guard):
    replies = [command(name, '--namespace', '/left', '--timeout', '20') for name in ('stop', 'release', 'release')]
    assert [reply.stdout.strip() for reply in replies] == [
        'the arm is stopped until ~/release', 'released', 'it was not pressed'], replies
    assert [reply.returncode for reply in replies] == [0, 0, 0]


def test_without_a_guard_the_error_names_service_and_domain():
    reply = command('stop', '--timeout', '0.5')
    assert reply.returncode == 2
    assert reply.stderr.strip().splitlines()[-1] == (
        f'error: no service /command_guard/stop within 0.5 s in ROS domain {os.environ["ROS_DOMAIN_ID"]}; '
        'is the command guard running there?')
