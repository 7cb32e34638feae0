"""Demonstrations of an environment for a learning run to begin with, from wherever they are."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.environments.experts import Expert
from mbrl_ros.environments.minari_datasets import load_minari
from mbrl_ros.environments.recordings import load_npz, recorded_episodes
from mbrl_ros.errors import DemonstrationError
from mbrl_ros.experience.demonstrations import DemonstratedEpisode
from mbrl_ros.runs.playing import Episode

if TYPE_CHECKING:
    from mbrl_ros.runs.env_loop import EnvLoop

_MINARI = 'minari:'


def load_env_demonstrations(sources: Iterable[str], loop: 'EnvLoop', *, seed: int) -> list[DemonstratedEpisode]:
    """The demonstrated episodes of some sources, in their order.

    Args:
        sources: `.npz` files (`environments.recordings` says what is in them), `minari:` and the id or folder of a dataset, or
            experts as `module:function`, which are played as often as the settings say.
        loop: Plays the environment.
        seed: Seed of the run, which decides how the episodes of experts begin.

    Raises:
        DemonstrationError: A source is none of those or cannot be used, or an expert fails.
        ConfigError: There is no such expert.
        MeasurementError: The environment fails while an expert is played.
    """
    shown: list[DemonstratedEpisode] = []
    for source in sources:
        shown.extend(_demonstrated(source, episode) for episode in _episodes(source, loop, seed, len(shown)))
    return shown


def _episodes(source: str, loop: 'EnvLoop', seed: int, first: int) -> Iterator[Episode]:
    """The episodes of a source; `first` is the index of the first of them in the run."""
    if source.startswith(_MINARI):
        try:
            arrays = load_minari(source.removeprefix(_MINARI), loop.env)
        except DemonstrationError as error:
            raise DemonstrationError(f'{source}: {error}') from None
    elif source.endswith('.npz'):
        arrays = load_npz(Path(source))
    elif ':' in source:
        expert = Expert(source, loop.env.actions)
        yield from (loop.follow(expert, seed=seed, episode=first + index) for index in range(loop.config.demonstrations))
        return
    else:
        raise DemonstrationError(f'{source}: cannot be demonstrations of an environment; a file .npz, {_MINARI}<dataset id> or '
                                 'an expert module:function can')
    yield from map(loop.recorded, recorded_episodes(arrays, source, loop.env, loop.max_episode_steps))


def _demonstrated(source: str, episode: Episode) -> DemonstratedEpisode:
    rows = episode.transitions(np.arange(episode.steps), 0)
    return DemonstratedEpisode(source, episode.steps, episode.success, episode.distance_m, episode.episode_return, rows)
