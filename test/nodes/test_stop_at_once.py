"""`mbrl-ros stop` and `release` through the socket of a real command guard, whose executor does not even spin."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from std_srvs.srv import Trigger
from support.bench import NodeBench

from mbrl_ros.nodes.command_guard_node import CommandGuardNode

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='only Linux has sockets without a file')

STOPPED = 'the arm is stopped until ~/release'


def command(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'mbrl_ros.cli.entry', *words], capture_output=True, text=True, timeout=60)


class Guards(NodeBench):
    """Command guards that nobody spins, by namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.guards: list[CommandGuardNode] = []

    def start_guard(self, namespace: str = '/', **parameters: object) -> CommandGuardNode:
        def make(**arguments: object) -> CommandGuardNode:
            return CommandGuardNode(namespace=namespace, **arguments)
        self.guards.append(self.start(make, **parameters))
        return self.guards[-1]


@pytest.fixture
def bench() -> Iterator[Guards]:
    bench = Guards()
    yield bench
    bench.close()


def is_latched(folder: Path) -> bool:
    return (folder / 'emergency_stop').exists()


@pytest.fixture
def make_guard(bench: Guards, tmp_path: Path) -> Callable[..., Path]:
    """Makes a guard of a namespace; returns its output folder."""
    def make(namespace: str = '/') -> Path:
        folder = tmp_path / f'arm{len(bench.guards)}'
        bench.start_guard(namespace, output_dir=str(folder))
        return folder
    return make


def test_all_guards_of_a_namespace_are_pressed_and_released(make_guard):
    first, second, left = make_guard(), make_guard(), make_guard('/left')
    assert command('stop').stdout.strip() == STOPPED
    assert [is_latched(folder) for folder in (first, second, left)] == [True, True, False]
    assert command('stop', '--namespace', '/left').stdout.strip() == STOPPED
    assert is_latched(left)
    assert [command('release').stdout.strip() for _ in range(2)] == ['released', 'it was not pressed']
    assert [is_latched(folder) for folder in (first, second, left)] == [False, False, True]


@pytest.mark.parametrize('words', [('--namespace=/left',), ('--namespace', 'left', '--timeout', '20')])
def test_options_in_any_form_reach_the_same_guard(make_guard, words):
    left = make_guard('/left')
    assert command('stop', *words).stdout.strip() == STOPPED
    assert is_latched(left)


def test_the_other_commands_are_where_they_were():
    reply = command('--help')
    assert reply.returncode == 0 and 'stop' in reply.stdout and 'launch' in reply.stdout
    assert '--namespace' in command('stop', '--help').stdout


def test_the_service_is_called_where_no_socket_answers():
    reply = command('stop', '--timeout', '0.5')
    assert reply.returncode == 2
    assert reply.stderr.strip().splitlines()[-1] == (
        f'error: no service /command_guard/stop within 0.5 s in ROS domain {os.environ["ROS_DOMAIN_ID"]}; '
        'is the command guard running there?')


def test_a_latch_that_cannot_be_written_stops_all_the_same_and_says_so(bench, tmp_path):
    (tmp_path / 'file').touch()
    bench.start_guard(output_dir=str(tmp_path / 'file' / 'folder'))
    reply = command('stop')
    assert reply.returncode == 0
    assert reply.stdout.startswith(f'{STOPPED}, or until a restart of the command guard, as {tmp_path / "file"}')
    answer = bench.call(Trigger, '/command_guard/stop', Trigger.Request())
    assert answer.success and answer.message == reply.stdout.strip()
    assert bench.call(Trigger, '/command_guard/release', Trigger.Request()).message == 'released'
