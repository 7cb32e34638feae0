"""Entries of an observation, such as a clock, that are in every episode where they never were before."""

import numpy as np

#: Fewest episodes that show that an entry never comes back.
_FEWEST_EPISODES = 5


def never_back(obs: np.ndarray, episodes: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
    """A sentence for each entry that each episode begins beyond all values of the one before, always in one direction.

    Args:
        obs: Observations, shape (N, O), oldest first.
        episodes: Numbers of their episodes, shape (N,).
        names: Names of the O entries.
    """
    begins = np.flatnonzero(np.diff(episodes, prepend=episodes[:1] - 1))
    if len(begins) < _FEWEST_EPISODES:
        return ()
    lowest, highest = (function.reduceat(obs, begins, axis=0) for function in (np.minimum, np.maximum))
    grows, falls = (lowest[1:] > highest[:-1]).all(axis=0), (highest[1:] < lowest[:-1]).all(axis=0)
    return tuple(f'{name} only {"grows" if grows[index] else "falls"} from episode to episode, so that a model has to '
                 'extrapolate it in each; leave it out of the observation, or have it begin anew with each episode'
                 for index, name in enumerate(names) if grows[index] or falls[index])
