"""Files that a command is to leave behind, tried before it works for minutes."""

import contextlib
import os
from pathlib import Path

from mbrl_ros.errors import ConfigError


def require_writable(*paths: Path | None) -> None:
    """Require that files can be written, or made, and their folders with them; what was not there is not there afterwards.

    Permissions alone do not tell: nothing is forbidden to root, but there are places where nothing can be made.

    Args:
        paths: The files; None for one that is not wanted.

    Raises:
        ConfigError: One cannot; the text says why.
    """
    for path in filter(None, paths):
        try:
            _try(path)
        except OSError as error:
            raise ConfigError(f'{path}: cannot be written ({error.strerror})') from None


def _try(path: Path) -> None:
    with contextlib.ExitStack() as undoing:
        for folder in reversed(path.absolute().parents):
            if not folder.exists():
                folder.mkdir()
                undoing.callback(folder.rmdir)
        if not os.path.lexists(path):
            undoing.callback(path.unlink, missing_ok=True)
        path.open('ab').close()
