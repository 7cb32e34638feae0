"""A local socket at which a command guard hears `stop` and `release`, without ROS, discovery or files.

The sockets have names of Linux's abstract kind, which the kernel lists and forgets with their process. Whoever is on this
machine may stop an arm; only the guard's own user, and root, may release it. This module imports neither ROS nor anything slow,
because `mbrl-ros stop` imports it.
"""

import contextlib
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

STOP, RELEASE = 'stop', 'release'
_SOCKETS = '/proc/net/unix'
_LONGEST_ANSWER = 4096
_CREDENTIALS = struct.Struct('3i')
_JOIN_S = 1.0
_numbers = itertools.count()

#: What a guard did, in words, and whether it did what was asked.
Answer = tuple[bool, str]


class StopSocket:
    """Answers everybody who asks for a stop or a release, in a thread of its own.

    Args:
        domain: ROS domain of the guard.
        namespace: Its namespace.
        press: Presses the stop.
        release: Releases it.

    Raises:
        OSError: The system has no such sockets, or the namespace is too long for one.
    """

    def __init__(self, domain: int | str, namespace: str, press: Callable[[], Answer], release: Callable[[], Answer]) -> None:
        self._actions = {STOP: press, RELEASE: release}
        self._socket = _open()
        # The kernel says who sent a datagram; a sender cannot forge it.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f'{_prefix(str(domain), namespace)}{os.getpid()}.{next(_numbers)}')
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name='stop socket', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear no more."""
        self._closing.set()
        self._socket.shutdown(socket.SHUT_RD)
        self._thread.join(_JOIN_S)
        self._socket.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            word, extra, _, sender = self._socket.recvmsg(len(RELEASE) + 1, socket.CMSG_SPACE(_CREDENTIALS.size))
            is_done, text = self._answer(word.decode(errors='replace'), _user(extra))
            if sender:
                _send(self._socket, f'{"+" if is_done else "-"}{text}'[:_LONGEST_ANSWER], sender)

    def _answer(self, word: str, user: int | None) -> Answer:
        if word not in self._actions:
            return False, f'unknown word {word!r}'
        if word == RELEASE and user not in (0, os.geteuid()):
            return False, f'only user {os.geteuid()}, whose command guard this is, and root may release the stop'
        try:
            return self._actions[word]()
        except Exception as error:  # The next stop has to be heard whatever became of this one.
            return False, f'{type(error).__name__}: {error}'


def ask(word: str, domain: str, namespace: str, timeout_s: float) -> list[Answer]:
    """Ask all command guards of a namespace on this machine.

    Args:
        word: `STOP` or `RELEASE`.
        domain: Their ROS domain.
        namespace: Their namespace.
        timeout_s: Longest wait for their answers.

    Returns:
        An answer for each guard, a failure for one that is silent; empty if there is no guard, or all of them are silent.
    """
    addresses = _listening(domain, namespace)
    if not addresses:
        return []
    with _open() as asking:
        asking.bind('')  # The kernel chooses a name, to which the guards can answer.
        for address in addresses:
            _send(asking, word, address)
        heard = _collect(asking, set(addresses), time.monotonic() + timeout_s)
    silent = [address.rpartition('/')[2] for address in addresses if address not in heard]
    return [*heard.values(), *((False, f'the command guard {name} is silent') for name in silent)] if heard else []


def _open() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, 'SOCK_CLOEXEC', 0))


def _prefix(domain: str, namespace: str) -> str:
    """What the names of the sockets of a namespace begin with."""
    return f'\0mbrl_ros/stop/{domain}/{namespace.strip("/")}/'


def _listening(domain: str, namespace: str) -> list[str]:
    """Addresses of the guards of a namespace."""
    try:
        lines = Path(_SOCKETS).read_text(errors='replace').splitlines()
    except OSError:
        return []
    # The kernel shows the first byte of such a name, which is 0, as @.
    names = [f'\0{line.split()[-1][1:]}' for line in lines if '@mbrl_ros/stop/' in line]
    prefix = _prefix(domain, namespace)
    return [name for name in names if name.rpartition('/')[0] + '/' == prefix]


def _send(via: socket.socket, text: str, address: str | bytes) -> None:
    """Send a text, unless who shall have it has just ended, or is stuck and has not read the last ones."""
    with contextlib.suppress(OSError):
        via.sendto(text.encode(), socket.MSG_DONTWAIT, address)


def _collect(asking: socket.socket, waiting: set[str], end_s: float) -> dict[str, Answer]:
    """Answers by address, until all have answered."""
    heard: dict[str, Answer] = {}
    while len(heard) < len(waiting) and (left_s := end_s - time.monotonic()) > 0.0:
        asking.settimeout(left_s)
        try:
            data, sender = asking.recvfrom(_LONGEST_ANSWER)
        except TimeoutError:
            break
        address, text = os.fsdecode(sender or b''), data.decode(errors='replace')
        if address in waiting:
            heard[address] = text[:1] == '+', text[1:]
    return heard


def _user(extra: list[tuple[int, int, bytes]]) -> int | None:
    """User ID of a datagram's sender."""
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return _CREDENTIALS.unpack(data[:_CREDENTIALS.size])[1]
    return None
