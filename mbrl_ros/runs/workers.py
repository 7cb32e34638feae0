"""Processes that work for one command and end with it."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import FrameType
from typing import Any

from mbrl_ros.signals import ENDING


@contextlib.contextmanager
def worker_pool(workers: int, start: Callable[..., None] | None = None,
                arguments: tuple = ()) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes; whatever is raised inside, by Ctrl-C or SIGTERM too, ends them at once.

    Args:
        workers: How many.
        start: Called in each worker first.
        arguments: Of that call.
    """
    # Forked, a child would wait for threads of torch that only its parent has.
    with (_signalled_once(), _Pool(workers, multiprocessing.get_context('spawn'), start, arguments) as pool,
          _terminated_by_errors()):
        yield pool


class _Pool(ProcessPoolExecutor):
    """Starts its processes with Ctrl-C blocked, which is no matter of theirs, not even while they import."""

    def submit(self, *call: Any, **arguments: Any) -> Future:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*call, **arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _signalled_once() -> Iterator[None]:
    """Only the first signal raises: a second one, while workers are being ended, would leave some behind and wait for them."""
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
    """Where something is raised, end the processes that were started meanwhile: a pool waits for all that is queued."""
    before = multiprocessing.active_children()
    try:
        yield
    except BaseException:
        for worker in multiprocessing.active_children():
            if worker not in before:
                worker.terminate()
        raise
