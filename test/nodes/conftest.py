"""Nodes of many tests share one process here, unlike in use."""

import gc
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.controller_bench import Bench


@pytest.fixture(autouse=True)
def nodes_are_gone_after_their_test():
    """A node that only a reference cycle keeps would go on owning the log topic of the next one of its name."""
    yield
    gc.collect()


@pytest.fixture
def screen(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What standard error has shown so far; nodes of equal name in one process share, and lose, their log topic.

    It is a file then. To ask `capfd` would empty it, with what another thread writes meanwhile.
    """
    return lambda: os.pread(2, os.fstat(2).st_size, 0).decode()


@pytest.fixture
def said(screen: Callable[[], str]) -> Callable[[str], bool]:
    """Whether the screen has shown a text."""
    return lambda text: text in screen()


@pytest.fixture
def make_bench() -> Iterator[Callable[..., 'Bench']]:
    """Makes benches of the controller; what tests of other nodes call by this name is their own."""
    from support.bench import made
    from support.controller_bench import Bench

    yield from made(Bench)


@pytest.fixture
def moving(make_bench: Callable[..., 'Bench']) -> 'Bench':
    """A bench whose arm explores."""
    bench = make_bench()
    assert bench.spin_until(lambda: bench.moves)
    return bench
