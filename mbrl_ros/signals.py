"""The signals that end a program; each program takes SIGINT and SIGTERM at its start.

A process inherits which signals are ignored or blocked. The shell of a script starts background jobs with SIGINT ignored, and
Python then leaves it ignored. Processes started by a process that has taken a signal do not ignore it any more.
"""

import signal
from collections.abc import Callable
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)


class Ended(SystemExit):
    """SIGTERM ends the program, whichever code it interrupted; users' code may raise other exits by itself."""


def take_signals(handler: Callable[[int, FrameType | None], object] | None = None) -> None:
    """Handle SIGINT and SIGTERM in this process, even if it was started with them ignored or blocked.

    Args:
        handler: Handles both. Without one SIGINT raises `KeyboardInterrupt`, and SIGTERM raises `Ended` with the shell's
            code, so files, folders and processes are closed.

    Raises:
        ValueError: This is not the main thread.
    """
    signal.signal(signal.SIGINT, handler or signal.default_int_handler)
    signal.signal(signal.SIGTERM, handler or _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def _end(number: int, _frame: FrameType | None) -> None:
    raise Ended(128 + number)
