"""Origins: what is subtracted from observations in float64 before anything becomes float32, which has seven digits.

Metres of a map grid are millions, of which centimetres matter; a Unix time is 1.8e9 s, of which a step is 0.05 s.
"""

import numpy as np

from mbrl_ros.errors import ShapeError

#: Mean of an entry, in its own unit and in standard deviations, from which it has an origin.
_FAR = 30.0
#: A typical change of fewer steps of float32 than this cannot be learned.
_FEWEST_STEPS = 4.0
#: An entry that varies by a smaller share of its magnitude stands still; its changes are a solver's jitter.
_STILL = 1e-6
#: A change by a smaller share of the magnitude is rounding in float64.
_ROUNDING = 1e-12

Origin = tuple[float, ...]


def origin_of(obs: np.ndarray) -> Origin:
    """Whole numbers near the means of entries far from zero, 0 for others; empty if there are no such entries.

    Args:
        obs: Observations, shape (N, O); an entry with a value that is not finite has no origin.
    """
    is_far = _are_far(obs)
    return tuple(np.where(is_far, np.round(np.mean(obs, axis=0, dtype=np.float64)), 0.0).tolist()) if is_far.any() else ()


def from_origin(obs: np.ndarray, origin: Origin) -> np.ndarray:
    """Observations, shape (..., O), seen from the origin; unchanged without one.

    Raises:
        ShapeError: The observations have another size than the origin.
    """
    if origin and np.shape(obs)[-1:] != (len(origin),):
        raise ShapeError(f'obs needs shape (..., {len(origin)}), as the origin has, got {np.shape(obs)}')
    return np.subtract(obs, origin, dtype=np.float64) if origin else obs


def to_absolute(obs: np.ndarray, origin: Origin) -> np.ndarray:
    """Inverse of `from_origin`."""
    return np.add(obs, origin, dtype=np.float64) if origin else obs


def lost_in_float32(obs: np.ndarray, next_obs: np.ndarray, origin: Origin, names: tuple[str, ...]) -> tuple[str, ...]:
    """A sentence for each entry whose changes are too small beside its magnitude to be learned.

    Args:
        obs: Observations seen from the origin, shape (N, O).
        next_obs: Likewise.
        origin: Their origin.
        names: Names of the O entries.
    """
    change, absolute = np.subtract(next_obs, obs, dtype=np.float64), to_absolute(obs, origin)
    typical = np.sqrt(np.square(change).sum(axis=0) / np.maximum((change != 0.0).sum(axis=0), 1))
    distance, magnitude = (np.abs(values).max(axis=0) for values in (obs, absolute))
    step, own_step = _step(distance), _step(magnitude)
    goes_far = (distance > _FAR) & (np.std(obs, axis=0, dtype=np.float64) > _STILL * distance)
    is_lost = goes_far & (typical > _ROUNDING * distance) & (typical < _FEWEST_STEPS * step)
    is_float32 = (absolute == absolute.astype(np.float32)).all(axis=0)
    came_lost = (typical > 0.0) & is_float32 & _are_far(absolute) & (typical < _FEWEST_STEPS * own_step)
    sentences = []
    for index, name in enumerate(names):
        if came_lost[index]:
            sentences.append(f'{name} is about {magnitude[index]:.4g} and comes in float32, in steps of {own_step[index]:.3g}: '
                             'its changes are lost before they arrive; have it come in float64, or less its offset')
        elif is_lost[index]:
            sentences.append(f'{name} typically changes by {typical[index]:.3g}, up to {distance[index]:.4g} from its origin, '
                             f'where float32 has steps of {step[index]:.3g}: its changes cannot be learned')
    return tuple(sentences)


def _are_far(obs: np.ndarray) -> np.ndarray:
    with np.errstate(invalid='ignore'):
        mean, std = (function(obs, axis=0, dtype=np.float64) for function in (np.mean, np.std))
    return np.abs(mean) > _FAR * np.maximum(std, 1.0)


def _step(magnitude: np.ndarray) -> np.ndarray:
    """Difference of neighbouring float32 numbers."""
    return np.spacing(magnitude.astype(np.float32)).astype(np.float64)
