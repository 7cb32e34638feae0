"""One writer per bag: the operating system releases the lock when its holder ends, however it ends."""

import contextlib
import fcntl
import os
from pathlib import Path

from mbrl_ros.errors import BagError


class BagLock:
    """Exclusive right to write into a bag's directory, until `release` or the end of the process.

    Args:
        directory: Existing directory.

    Raises:
        BagError: Another writer holds it (the text names its process), or the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        try:
            self._descriptor = os.open(directory / '.lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BagError(f'{directory}: cannot be written ({error.strerror}, errno {error.errno})') from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._descriptor, 32).decode(errors='replace').strip() or 'unknown'
            os.close(self._descriptor)
            raise BagError(f'{directory}: is being written by process {holder}') from None
        # A full disk may refuse the process number; the lock holds without it.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        """Let others write. The lock file stays, because removing it would race with the next holder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
