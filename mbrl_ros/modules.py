"""Environments and rewards that lie in the working directory, where the installed command would not look for them."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def working_directory_modules() -> Iterator[None]:
    """Find modules of the working directory too, after all others."""
    folder = os.getcwd()
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def first_line(error: Exception) -> str:
    """What an error of such code says, as far as it goes into a line."""
    return str(error).strip().partition('\n')[0]
