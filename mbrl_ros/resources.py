"""Where the package's data files are: launch files, YAML configuration, robot descriptions.

The same call works in a source tree, after `pip install` (also `-e`) and after `colcon build` (also `--symlink-install`).
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
        ConfigError: The data files are in none of the places an installation puts them.
    """
    source_tree = Path(__file__).resolve().parents[1]
    # <prefix>/lib/python3.x/site-packages/mbrl_ros/resources.py: the data that was installed with this very code comes first.
    own_prefix = Path(__file__).parents[min(4, len(Path(__file__).parents) - 1)]
    prefixes = [own_prefix, *filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)), sys.prefix]
    places = [source_tree, *(Path(prefix) / 'share' / PACKAGE for prefix in prefixes)]
    for place in places:
        if (place / 'package.xml').is_file() and (place / 'config').is_dir():
            return place
    raise ConfigError(f'the data files of {PACKAGE} were not found in {", ".join(map(str, places))}; install the package again')


def config_file(kind: str, name: str) -> Path:
    """Path of `config/<kind>/<name>.yaml`, or `name` itself where it is a path to a YAML file.

    Raises:
        ConfigError: There is no such file; the text lists the names that exist.
    """
    if name.endswith(('.yaml', '.yml')):
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise ConfigError(f'{path}: no such file')
    folder = share_directory() / 'config' / kind
    path = folder / f'{name}.yaml'
    if not path.is_file():
        names = ', '.join(sorted(entry.stem for entry in folder.glob('*.yaml')))
        raise ConfigError(f'there is no {name!r} in config/{kind}; known: {names}; or give the path of a YAML file')
    return path


def model_file(name: str) -> Path:
    """Path of `config/models/<name>.safetensors`, a model of this package, or `name` itself where it is a path to such a file.

    Raises:
        ConfigError: There is no such file; the text lists the names that exist.
    """
    if name.endswith('.safetensors'):
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise ConfigError(f'{path}: no such file')
    folder = share_directory() / 'config' / 'models'
    path = folder / f'{name}.safetensors'
    if not path.is_file():
        names = ', '.join(sorted(entry.stem for entry in folder.glob('*.safetensors') if '.' not in entry.stem)) or 'none'
        raise ConfigError(f'there is no model {name!r} in config/models; known: {names}; or give the path of a .safetensors file')
    return path


def resolve_url(url: str, relative_to: Path) -> Path:
    """Path of a file named as `package://<package>/<path>` or relative to the file that mentions it.

    `<package>` is this ROS package, one in `AMENT_PREFIX_PATH`, or an importable Python package that ships data
    (`pybullet_data`).

    Raises:
        ConfigError: The package or the file does not exist.
    """
    if not url.startswith('package://'):
        path = Path(url).expanduser()
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
