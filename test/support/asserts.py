"""What holds for each of no values says nothing: loops and `all` over what a test has found go through here."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar('T')


def some(found: Iterable[T]) -> list[T]:
    """The values, of which there is at least one."""
    values = list(found)
    assert values, 'nothing was found'
    return values
