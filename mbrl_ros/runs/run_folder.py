"""`config.yaml` in a run's folder: identity and settings of the run, written once and read to resume or evaluate it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mbrl_ros.config import flat, load_yaml
from mbrl_ros.errors import ConfigError

CONFIG = 'config.yaml'
#: Settings of a learner that moved from `acceptance` to `drift`.
_MOVED = ('change_factor', 'change_floor')


def kept_identity(folder: Path) -> dict[str, Any]:
    """Identity of the run in a folder: task or environment, robot or reward, seed, and settings under their current names.

    Raises:
        ConfigError: The folder holds no run, or its file cannot be read.
    """
    path = folder / CONFIG
    if not path.exists():
        raise ConfigError(f'{folder}: holds no run to go on with')
    kept = load_yaml(path)
    settings = {'agent': 'pets', **(kept['settings'] if isinstance(kept.get('settings'), Mapping) else {})}
    learner = settings.get('learner')
    acceptance = learner.get('acceptance') if isinstance(learner, Mapping) else None
    if isinstance(acceptance, Mapping) and (moved := {key: acceptance[key] for key in _MOVED if key in acceptance}):
        settings['learner'] = {**learner, 'acceptance': {key: acceptance[key] for key in acceptance if key not in moved},
                               'drift': {**learner.get('drift', {}), **moved}}
    return {**kept, 'settings': settings}


def require_same(folder: Path, identity: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Require that the run in a folder has this identity, and return the identity in the folder.

    A setting that the run was kept without, because it did not exist yet, counts as its default in `defaults`, nested.

    Raises:
        ConfigError: The identities differ, or as for `kept_identity`.
    """
    kept, wanted = kept_identity(folder), yaml.safe_load(yaml.safe_dump(dict(identity)))
    if different := [key for key in identity if key != 'settings' and kept.get(key) != wanted[key]]:
        raise ConfigError(f'{folder}: holds a run with another {", ".join(different)}')
    agents = [settings['agent'] for settings in (kept['settings'], wanted['settings'])]
    if agents[0] != agents[1]:
        raise ConfigError(f'{folder}: holds a run of the agent {agents[0]!r}, here it is {agents[1]!r}')
    there, here = {**flat(yaml.safe_load(yaml.safe_dump(dict(defaults)))), **flat(kept['settings'])}, flat(wanted['settings'])
    if different := [name for name in {**there, **here} if there.get(name) != here.get(name)]:
        told = ', '.join(f'{name} ({there.get(name, "none")} there, {here.get(name, "none")} here)' for name in different)
        raise ConfigError(f'{folder}: holds a run with other settings: {told}')
    return kept


def require_no_run(folder: Path) -> None:
    """Require that a folder holds no run yet.

    Raises:
        ConfigError: It does.
    """
    if (folder / CONFIG).exists():
        raise ConfigError(f'{folder}: holds a run already; go on with it by --resume, or name another folder')


def begin(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make the folder of a new run.

    Raises:
        ConfigError: The folder holds a run already, or cannot be written.
    """
    path = folder / CONFIG
    require_no_run(folder)
    if folder.is_file():
        raise ConfigError(f'{folder}: cannot be written, it is a file')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(dict(identity), sort_keys=False), encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'{folder}: cannot be written ({os.strerror(error.errno)})') from None
