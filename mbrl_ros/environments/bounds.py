"""Others' numbers compared with the bounds of a space."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Share of a bound that rounding may exceed it by.
_ROUNDING = 1e-6


class Misfit(NamedTuple):
    """The first of N rows that does not fit: its index, and what is wrong with it in words."""

    row: int
    text: str


def misfit(values: np.ndarray, low: np.ndarray, high: np.ndarray, names: Sequence[str], *,
           tolerance: float = 0.0) -> Misfit | None:
    """The first row with a number that is not finite or not within its bounds; None if all rows fit.

    Args:
        values: Shape (N, D).
        low, high: Bounds, shape (D,), which may be infinite.
        names: Names of the D entries.
        tolerance: By how much a number may be beyond its bounds, as a share of the range between them, or absolutely where
            the range is infinite.
    """
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        return Misfit(int(row), f'{names[column]} is {values[row, column]}, which is not finite')
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    slack = tolerance * np.where(np.isfinite(high - low), high - low, 1.0)
    beyond = np.maximum(low - values - _ROUNDING * np.abs(low), values - high - _ROUNDING * np.abs(high)) > slack
    if not beyond.any():
        return None
    row, column = np.argwhere(beyond)[0]
    value = values[row, column]
    bound = low[column] if value < low[column] else high[column]
    return Misfit(int(row), f'{names[column]} is {value:g}, {abs(value - bound):g} beyond the bound {bound:g}')
