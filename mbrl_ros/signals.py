"""What ends a program: each takes SIGINT and SIGTERM where it begins, whatever it was started with.

A process inherits which signals are ignored or blocked. The shell of a script starts background jobs with SIGINT ignored, and
Python then leaves it ignored. What a process has taken is no longer ignored in the processes that it starts.
"""

import signal
import sys
from collections.abc import Callable
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)


def take_signals(handler: Callable[[int, FrameType | None], object] | None = None) -> None:
    """Have SIGINT and SIGTERM answered by this process, even if it was started with them ignored or blocked.

    Args:
        handler: Answers both. Without one SIGINT raises `KeyboardInterrupt`, and SIGTERM `SystemExit` with the shell's code, so
            that files, folders and processes are closed on the way.

    Raises:
        ValueError: This is not the main thread.
    """
    signal.signal(signal.SIGINT, handler or signal.default_int_handler)
    signal.signal(signal.SIGTERM, handler or _exit)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
