"""Boxes aligned with the base frame, as settings list them: six numbers each."""

from collections.abc import Sequence

import numpy as np

from mbrl_ros.errors import ConfigError


def box_corners(boxes_m: Sequence[float], name: str) -> np.ndarray:
    """Lower and upper corner of each box, metres, shape (B, 2, 3).

    Args:
        boxes_m: For each box x, y and z of its lower, then of its upper corner.
        name: Name of the setting, for the error text.

    Raises:
        ConfigError: The numbers are no boxes.
    """
    numbers = np.array(boxes_m, dtype=np.float64)
    boxes = numbers[:numbers.size // 6 * 6].reshape(-1, 2, 3)
    if numbers.size % 6 or not (boxes[:, 0] < boxes[:, 1]).all():
        raise ConfigError(f'{name} needs 6 numbers for each box, x, y and z of its lower and then of its upper corner, '
                          f'got {list(boxes_m)}')
    return boxes
