"""Worker processes that end with the command that started them."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import FrameType
from typing import Any

from mbrl_ros.signals import ENDING


@contextlib.contextmanager
def worker_pool(workers: int, start: Callable[..., None] | None = None, arguments: tuple = ()) -> Iterator[ProcessPoolExecutor]:
    """A pool of `workers` processes, each of which first calls `start(*arguments)`.

    An exception inside the context, also one from Ctrl-C or SIGTERM, ends the processes at once.
    """
    # A forked child would wait for torch threads that only exist in its parent.
    with (_signalled_once(), _Pool(workers, multiprocessing.get_context('spawn'), start, arguments) as pool,
          _terminated_by_errors()):
        yield pool


class _Pool(ProcessPoolExecutor):
    """Starts its processes with SIGINT blocked, so that Ctrl-C only reaches the parent, even while a worker imports."""

    def submit(self, *call: Any, **arguments: Any) -> Future:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*call, **arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _signalled_once() -> Iterator[None]:
    """Let only the first signal raise: a second one, while workers are terminated, would leave some of them running."""
    handlers = {number: handler for number in ENDING if callable(handler := signal.getsignal(number))}
    is_told = False

    def once(number: int, frame: FrameType | None) -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, once)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _terminated_by_errors() -> Iterator[None]:
    """After an exception, terminate the processes started inside the context; a pool would finish all queued work first."""
    before = multiprocessing.active_children()
    try:
        yield
    except BaseException:
        for worker in multiprocessing.active_children():
            if worker not in before:
                worker.terminate()
        raise
