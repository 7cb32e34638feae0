"""Nodes of many tests share one process here, unlike in use."""

import gc
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
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[str], bool]:
    """Whether the screen has shown a text; nodes of equal name in one process share, and lose, their log topic."""
    seen = ['']

    def has_said(text: str) -> bool:
        seen[0] += capfd.readouterr().err
        return text in seen[0]

    return has_said


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
