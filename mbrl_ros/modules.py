"""Users' modules (agents, environments, rewards) in the working directory, which is not on the installed command's path."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def working_directory_modules() -> Iterator[None]:
    """Search the working directory for modules too, after all other folders."""
    folder = os.getcwd()
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def first_line(error: Exception) -> str:
    """First line of an error's text, because errors of users' code may have many."""
    return str(error).strip().partition('\n')[0]
