"""Held-out transitions and bootstraps.

Both depend on a transition's key (its stamp) alone. A held-out transition therefore stays held out in every later round, after
a restart and when it is read from a bag, and no model is validated on transitions that an earlier one was trained on.
"""

import numpy as np

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MAX_COPIES = 10


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
