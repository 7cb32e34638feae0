"""Checks output files before a command works for minutes."""

import contextlib
import os
from pathlib import Path

from mbrl_ros.errors import ConfigError


def require_writable(*paths: Path | None) -> None:
    """Require that files and their folders can be written or made; None is skipped. New files and folders are removed again.

    Permissions alone do not tell: root may write everywhere, but e.g. /proc takes no new files.

    Raises:
        ConfigError: A file cannot be written; the text says why.
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
