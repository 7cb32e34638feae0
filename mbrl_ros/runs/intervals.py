"""Interquartile means over seeds and tasks, with stratified bootstrap intervals (Agarwal et al. 2021, arXiv:2108.13264).

The statistics are those of rliable, from scipy: `trim_mean` and `bootstrap` are all of it that a comparison needs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
_RESAMPLES = 2000


class Estimate(NamedTuple):
    """Interquartile mean, and the ends of its 95 % interval; NaN where a task has a single seed."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interquartile_mean(*strata: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean of the scores of all strata without the lowest and the highest quarter; with fewer than four scores, of all.

    Args:
        strata: Scores of one task each, of R_m seeds along `axis`.
        axis: Axis of the seeds, which the result does not have.
    """
    from scipy.stats import trim_mean

    return trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)


def estimate(strata: Sequence[ArrayLike]) -> Estimate:
    """Estimate the interquartile mean over seeds and tasks; the seeds of each task are resampled apart from the others'.

    Args:
        strata: Scores of one task each, shape (R_m, ...); R_m seeds may differ, all other axes are resampled together.

    Returns:
        Arrays of shape (...). Equal scores give equal intervals, as the resampling has a fixed seed.
    """
    from scipy.stats import bootstrap

    arrays = [np.asarray(scores, dtype=float) for scores in strata]
    mean = interquartile_mean(*arrays)
    if min(map(len, arrays)) < 2:
        return Estimate(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    interval = bootstrap(arrays, interquartile_mean, axis=0, n_resamples=_RESAMPLES, confidence_level=CONFIDENCE,
                         method='percentile', rng=np.random.default_rng(0)).confidence_interval
    return Estimate(mean, interval.low, interval.high)
