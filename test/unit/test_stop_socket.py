"""The socket at which a command guard hears `mbrl-ros stop`: who is heard, and what is answered."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mbrl_ros.ros.stop_socket import RELEASE, STOP, StopSocket, ask

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='only Linux has sockets without a file')

DOMAIN = f'of-test-{os.getpid()}'
#: Longest wait for an answer, seconds.
WAIT_S = 20.0


class Guard:
    """A guard that notes what it is asked."""

    def __init__(self, namespace: str = '/', answer: tuple[bool, str] = (True, 'done')) -> None:
        self.asked: list[str] = []
        self.answer = answer
        self.socket = StopSocket(DOMAIN, namespace, lambda: self.note(STOP), lambda: self.note(RELEASE))

    def note(self, word: str) -> tuple[bool, str]:
        self.asked.append(word)
        return self.answer


@pytest.fixture
def guards() -> Iterator[list[Guard]]:
    """Guards, closed in the end."""
    made: list[Guard] = []
    yield made
    for guard in made:
        guard.socket.close()


def test_every_guard_of_the_namespace_is_pressed_and_no_other(guards):
    guards += [Guard(), Guard(), Guard('/left')]
    assert ask(STOP, DOMAIN, '/', WAIT_S) == [(True, 'done')] * 2
    assert [guard.asked for guard in guards] == [[STOP], [STOP], []]
    assert ask(RELEASE, DOMAIN, 'left', WAIT_S) == [(True, 'done')]
    assert guards[2].asked == [RELEASE]


def test_another_domain_is_not_heard(guards):
    guards.append(Guard())
    assert ask(STOP, f'{DOMAIN}-other', '/', WAIT_S) == []
    assert guards[0].asked == []


def test_a_namespace_that_begins_like_another_is_another(guards):
    guards += [Guard('/arm'), Guard('/arm/left')]
    ask(STOP, DOMAIN, '/arm', WAIT_S)
    assert [guard.asked for guard in guards] == [[STOP], []]


def test_a_refusal_is_told(guards):
    guards.append(Guard(answer=(False, 'still pressed')))
    assert ask(RELEASE, DOMAIN, '/', WAIT_S) == [(False, 'still pressed')]


def test_a_guard_that_fails_answers_so_and_hears_the_next_word(guards):
    guard = Guard()
    guards.append(guard)
    guard.note = lambda word: 1 / 0
    assert ask(STOP, DOMAIN, '/', WAIT_S) == [(False, 'ZeroDivisionError: division by zero')]
    del guard.note
    assert ask(STOP, DOMAIN, '/', WAIT_S) == [(True, 'done')]


def test_words_that_mean_nothing_are_refused(guards):
    guards.append(Guard())
    for word in ('', 'stopp', 'release me'):
        (answer,) = ask(word, DOMAIN, '/', WAIT_S)
        assert not answer[0] and 'unknown word' in answer[1]
    assert guards[0].asked == []


def test_a_closed_guard_is_not_found(guards):
    guard = Guard()
    guard.socket.close()
    assert ask(STOP, DOMAIN, '/', WAIT_S) == []


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')
def test_another_user_may_stop_and_not_release(guards):
    guards.append(Guard())
    code = ('import os, sys; sys.path[:0] = sys.argv[1:2]; from mbrl_ros.ros.stop_socket import ask; os.setuid(12345); '
            f'print(ask("stop", {DOMAIN!r}, "/", {WAIT_S}), ask("release", {DOMAIN!r}, "/", {WAIT_S}))')
    done = subprocess.run([sys.executable, '-c', code, os.getcwd()], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("[(True, 'done')] [(False, 'only user 0"), done
    assert guards[0].asked == [STOP]


def test_asking_imports_neither_ros_nor_anything_slow():
    code = ('import sys; import mbrl_ros.cli.entry; '
            'print([name for name in ("rclpy", "typer", "yaml", "numpy", "torch", "mbrl_ros.config") if name in sys.modules])')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == '[]', done
