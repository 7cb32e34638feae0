"""A private ROS domain, for runs that must not exchange messages with any other: tests, benchmarks and evaluations."""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

from mbrl_ros.errors import LaunchError

#: The first port of domain 0, and how many each domain has.
_FIRST_PORT, _PORTS = 7400, 250
#: These domains' ports lie below the range that Linux gives to clients; lower domains are left to users.
_DOMAINS = range(60, 102)


class OwnDomain:
    """A ROS domain for this process alone, until `release` or the end of the process, however it ends.

    A domain with any node on this machine is not taken, such as a node that outlived a killed process.

    Attributes:
        number: The value for `ROS_DOMAIN_ID`.

    Raises:
        LaunchError: Every domain is taken.
    """

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir()) / 'mbrl_ros_domains'
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):
            folder.chmod(0o1777)  # Every user of the machine takes domains from here.
        for offset in range(len(_DOMAINS)):
            self.number = _DOMAINS[(os.getpid() + offset) % len(_DOMAINS)]
            descriptor = _lock(folder / f'{self.number}.lock')
            if descriptor is None:
                continue
            if _is_silent(self.number):
                self._descriptor = descriptor
                return
            os.close(descriptor)
        raise LaunchError(f'every ROS domain from {_DOMAINS.start} to {_DOMAINS.stop - 1} is taken by another run, '
                          f'or {folder} cannot be used')

    def release(self) -> None:
        """Leave the domain to others."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _lock(path: Path) -> int | None:
    """Descriptor of the locked file; None if another process holds the lock."""
    try:
        # A lock needs read access only, and another user's file allows no more.
        mode = os.O_RDONLY | os.O_CLOEXEC
        descriptor = os.open(path, mode if path.exists() else mode | os.O_CREAT, 0o644)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_silent(number: int) -> bool:
    """Whether no socket on this machine is bound to a port of a domain."""
    try:
        sockets = Path('/proc/net/udp').read_text().splitlines()[1:]
    except OSError:
        return True  # Not Linux.
    first = _FIRST_PORT + _PORTS * number
    return not any(first <= int(socket.split()[1].rpartition(':')[2], 16) < first + _PORTS for socket in sockets)
