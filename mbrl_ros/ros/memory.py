"""Memory that a process keeps, so that a very long message does not stop it for long."""

import contextlib
import ctypes
import sys

#: Options of glibc's `mallopt`, and a number of bytes that is never reached.
_TRIM_THRESHOLD, _MMAP_MAX, _NEVER = -1, -4, 2**31 - 1


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, instead of giving it back and asking for it again.

    rclpy takes a message while all other threads of Python wait. Of 50 MB, 50 of 70 ms are the kernel's clearing of new memory.
    Where the C library is another one, nothing happens.
    """
    if sys.platform.startswith('linux'):
        with contextlib.suppress(AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_MMAP_MAX, 0)
            library.mallopt(_TRIM_THRESHOLD, _NEVER)
