"""Held-out transitions and bootstraps.

Both depend on a transition's key (its stamp) alone, or also on its episode. A held-out transition therefore stays held out in
every later round, after a restart and when it is read from a bag, and no model is validated on transitions that an earlier one
was trained on.
"""

import numpy as np

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MAX_COPIES = 10
#: Number of episodes, from the first on, of which parts are held out, and steps of a part; two episodes are too few to lose one.
_FIRST_EPISODES, _PART_STEPS = 7, 10


def holdout_mask(keys: np.ndarray, fraction: float, minimum: int = 0) -> np.ndarray:
    """Transitions for validation only, shape (N,), bool.

    Args:
        keys: Integers that identify the transitions, shape (N,).
        fraction: Share held out.
        minimum: Fewest held out, for small data sets. Transitions held out beyond the share may become training data later.
    """
    draws = uniform(keys, stream=0)
    mask = draws < fraction
    if mask.sum() < minimum:
        mask[np.argsort(draws, kind='stable')[:minimum]] = True
    return mask


def episode_holdout_mask(stamps_ns: np.ndarray, episodes: np.ndarray, period_ns: int, fraction: float,
                         minimum: int = 0) -> np.ndarray:
    """Whole episodes for validation only, and parts of the first ones; shape (N,), bool.

    Transitions beside each other are nearly the same, so one that is held out between others hides how a model errs in the next
    episode. Of each `1 / fraction` episodes in a row, or parts in a row, one that a hash chooses is held out.

    Args:
        stamps_ns: Stamps of the transitions, shape (N,).
        episodes: Numbers of their episodes from 0, shape (N,).
        period_ns: Time from one transition to the next.
        fraction: Share held out.
        minimum: As for `holdout_mask`; these are of one part, or of few.
    """
    parts, episodes = np.asarray(stamps_ns) // (_PART_STEPS * period_ns), np.asarray(episodes)
    mask = np.where(episodes < _FIRST_EPISODES, _one_of_each(parts, fraction), _one_of_each(episodes, fraction))
    if mask.sum() < minimum:
        mask[np.argsort(uniform(parts, stream=0) - mask, kind='stable')[:minimum]] = True
    return mask


def _one_of_each(numbers: np.ndarray, fraction: float) -> np.ndarray:
    """Choose one of each `1 / fraction` successive numbers at random, shape (N,), bool."""
    place, group = np.modf(numbers * fraction)
    draws = uniform(group.astype(np.int64), stream=0)
    return (place <= draws) & (draws < place + fraction)


def bootstrap_counts(keys: np.ndarray, ensemble_size: int, seed: int) -> np.ndarray:
    """How often each transition is in each member's bootstrap, shape (E, N), int64.

    Note:
        Counts are Poisson(1), the online bootstrap of Oza and Russell (2001): the limit of drawing N of N with replacement.
        Counts of old transitions do not change when new ones arrive.
    """
    draws = np.stack([uniform(keys, stream=1 + member + seed * 1009) for member in range(ensemble_size)])
    masses = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, _MAX_COPIES)]))
    return np.searchsorted(masses, draws, side='right')


def uniform(keys: np.ndarray, stream: int) -> np.ndarray:
    """Repeatable draws in [0, 1), one a key, shape (N,): SplitMix64 (Steele et al. 2014) as a hash."""
    with np.errstate(over='ignore'):
        offset = _mix(np.array([stream & (2**64 - 1)], dtype=np.uint64) * _INCREMENT)
        mixed = _mix(_mix(np.asarray(keys).astype(np.uint64) * _INCREMENT) + offset)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _mix(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
