"""Angles that are known up to whole turns."""

import numpy as np


def nearest_turn(angles: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Add whole turns to angles, so that each differs from its reference by at most half a turn.

    Args:
        angles: Any shape, rad.
        reference: A shape that broadcasts with it, rad.
    """
    return angles + 2.0 * np.pi * np.round((reference - angles) / (2.0 * np.pi))
