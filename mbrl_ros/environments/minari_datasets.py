"""Datasets of the library Minari, as arrays of a recording; the library is looked for only when a dataset is asked for."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space

from mbrl_ros.config import suggestion
from mbrl_ros.environments.adapter import SUCCESS, FlatEnvironment
from mbrl_ros.environments.recordings import array_names
from mbrl_ros.errors import DemonstrationError
from mbrl_ros.modules import first_line

_INSTALL = "pip install 'minari[hdf5]', which needs Python 3.11 or newer"


def load_minari(name: str, env: FlatEnvironment) -> dict[str, np.ndarray]:
    """The steps of a local dataset as arrays, named as `recordings` describes.

    Args:
        name: Id of the dataset, or path of its folder.
        env: The environment that it has to be of.

    Raises:
        DemonstrationError: The library is not installed, there is no such dataset, it cannot be read, or its spaces are another
            environment's.
    """
    try:
        import minari
    except ImportError as error:
        raise DemonstrationError(f'Minari cannot be imported ({first_line(error)}): {_INSTALL}') from None
    with warnings.catch_warnings():
        # Of other datasets in the same folder, and of versions.
        warnings.simplefilter('ignore')
        try:
            dataset = minari.MinariDataset(_data_folder(minari, name))
            _check_spaces(dataset, env)
            parts = [_steps(episode) for episode in dataset.iterate_episodes() if len(episode)]
        except DemonstrationError:
            raise
        except ImportError as error:
            raise DemonstrationError(f'its data cannot be read without a library ({first_line(error)}): {_INSTALL}') from None
        except Exception as error:  # The library and HDF5 raise errors of any kind.
            raise DemonstrationError(f'cannot be read ({type(error).__name__}: {first_line(error)})') from None
    if not parts:
        raise DemonstrationError('holds no steps')
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if all(name in part for part in parts)}


def _data_folder(minari: ModuleType, name: str) -> Path:
    """Folder of a dataset's data: that of a local dataset, else that of a path."""
    known = minari.list_local_datasets()
    root = minari.storage.get_dataset_path()
    place = root / name if name in known else Path(name)
    if name and (place / 'data').is_dir():
        return place / 'data'
    near = suggestion(name, known) if known else f'; {root} holds none, `minari download` fetches one'
    raise DemonstrationError(f'there is no local dataset of this id, nor a folder of one{near}')


def _check_spaces(dataset: Any, env: FlatEnvironment) -> None:
    theirs, ours = (dataset.observation_space, dataset.action_space), (env.space, env.actions.space)
    if _kind(theirs[0]) != _kind(ours[0]) or _action_kind(theirs[1]) != _action_kind(ours[1]):
        spec = dataset.env_spec
        raise DemonstrationError(f'is of {spec.id if spec else "an environment"} with observations {theirs[0]} and actions '
                                 f'{theirs[1]}; {env.env_id} has observations {ours[0]} and actions {ours[1]}')


def _kind(space: Space) -> tuple[type, dict[str, tuple[int, ...] | None]]:
    """What two spaces of observations have in common if one's values fit the other; bounds may differ."""
    return type(space), array_names(space, '')


def _action_kind(space: Space) -> Any:
    return (Box, space.shape) if isinstance(space, Box) else space


def _steps(episode: Any) -> dict[str, np.ndarray]:
    """Arrays of an episode, whose last step ends it."""
    count = len(episode)
    arrays = {'actions': np.asarray(episode.actions), 'rewards': np.asarray(episode.rewards)}
    for name, values in _leaves(episode.observations, 'observations'):
        if len(values) != count + 1:
            raise DemonstrationError(f'its episode {episode.id} has {len(values)} observations for {count} actions, not one more')
        arrays |= {name: values[:-1], f'next_{name}': values[1:]}
    terminated, truncated = (np.array(flags, dtype=bool) for flags in (episode.terminations, episode.truncations))
    truncated[-1] |= not terminated[-1]
    arrays |= {'terminations': terminated, 'truncations': truncated}
    for name in SUCCESS:
        told = np.ravel((episode.infos or {}).get(name, ()))
        # The information of `reset` comes first, where it has this too.
        if len(told) in (count, count + 1):
            arrays[name] = told[-count:]
    return arrays


def _leaves(value: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f'{name}/{key}')
    else:
        yield name, np.asarray(value)
