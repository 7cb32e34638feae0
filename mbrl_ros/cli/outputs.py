"""Files that a command is to leave behind, looked at before it works for minutes."""

import os
from pathlib import Path

from mbrl_ros.errors import ConfigError


def require_writable(path: Path) -> None:
    """Require that a file can be written, or made, and its folders with it.

    Raises:
        ConfigError: It cannot; the text says why.
    """
    if path.is_dir():
        raise ConfigError(f'{path}: cannot be written, it is a folder')
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if nearest != path and not nearest.is_dir():
        raise ConfigError(f'{path}: cannot be written, {nearest} is no folder')
    if not os.access(nearest, os.W_OK):
        raise ConfigError(f'{path}: cannot be written, there is no permission for {nearest}')
