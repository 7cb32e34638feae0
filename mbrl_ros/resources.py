"""Paths of the package's data files: launch files, YAML configuration, robot descriptions.

They are found in a source tree, after `pip install` (also `-e`) and after `colcon build` (also `--symlink-install`).
"""

import os
import sys
from importlib import util
from pathlib import Path

from mbrl_ros.errors import ConfigError

PACKAGE = 'mbrl_ros'


def share_directory() -> Path:
    """Folder that holds `launch/` and `config/`.

    Raises:
        ConfigError: No place where an installation puts the data files has them.
    """
    source_tree = Path(__file__).resolve().parents[1]
    # <prefix>/lib/python3.x/site-packages/mbrl_ros/resources.py: data installed together with this file come first.
    own_prefix = Path(__file__).parents[min(4, len(Path(__file__).parents) - 1)]
    prefixes = [own_prefix, *filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)), sys.prefix]
    places = [source_tree, *(Path(prefix) / 'share' / PACKAGE for prefix in prefixes)]
    for place in places:
        if (place / 'package.xml').is_file() and (place / 'config').is_dir():
            return place
    raise ConfigError(f'the data files of {PACKAGE} were not found in {", ".join(map(str, places))}; install the package again')


def config_file(kind: str, name: str) -> Path:
    """Path of `config/<kind>/<name>.yaml`, or `name` itself if it ends like a YAML file.

    Raises:
        ConfigError: There is no such file; the text lists the names that exist.
    """
    return _named_file(name, kind, ('.yaml', '.yml'), repr(name), 'a YAML file')


def model_file(name: str) -> Path:
    """Path of `config/models/<name>.safetensors`, or `name` itself if it ends in `.safetensors`; raises like `config_file`."""
    return _named_file(name, 'models', ('.safetensors',), f'model {name!r}', 'a .safetensors file')


def _named_file(name: str, kind: str, suffixes: tuple[str, ...], what: str, file: str) -> Path:
    if name.endswith(suffixes):
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise ConfigError(f'{path}: no such file')
    folder = share_directory() / 'config' / kind
    path = folder / f'{name}{suffixes[0]}'
    if not path.is_file():
        # A model's recorded experience, lift.experience.safetensors, is no model.
        names = ', '.join(sorted(entry.stem for entry in folder.glob(f'*{suffixes[0]}') if '.' not in entry.stem)) or 'none'
        raise ConfigError(f'there is no {what} in config/{kind}; known: {names}; or give the path of {file}')
    return path


def resolve_url(url: str, relative_to: Path) -> Path:
    """Path of a file that is named `package://<package>/<path>`, `file://<path>`, or relative to the file that mentions it.

    `<package>` is this package, a ROS package in `AMENT_PREFIX_PATH`, or a Python package with data, such as `pybullet_data`.

    Raises:
        ConfigError: The package or the file does not exist.
    """
    if not url.startswith('package://'):
        path = Path(url.removeprefix('file://')).expanduser()
        path = path if path.is_absolute() else relative_to.parent / path
    else:
        package, _, rest = url.removeprefix('package://').partition('/')
        path = _package_folder(package, relative_to) / rest
    if not path.is_file():
        raise ConfigError(f'{relative_to}: {url!r} leads to {path}, which does not exist')
    return path


def _package_folder(package: str, mentioned_in: Path) -> Path:
    if package == PACKAGE:
        return share_directory()
    for prefix in filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
        if (Path(prefix) / 'share' / package).is_dir():
            return Path(prefix) / 'share' / package
    spec = util.find_spec(package)
    if spec and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    raise ConfigError(f'{mentioned_in}: there is neither a ROS package nor a Python package {package!r}')
