"""Validation of a model on transitions that it was not trained on."""

import dataclasses
import math

import numpy as np
import torch

from mbrl_ros.types import DynamicsModel

_SMALLEST_VARIANCE = 1e-12
#: Observations are float32, so a smaller predicted variance than that of their last digit is replaced by it.
_RESOLUTION = torch.finfo(torch.float32).eps
#: Upper bound of a transition's negative log-likelihood a dimension in `surprise`, so that one collision is no drift.
_MOST_SURPRISING = 1.0


@dataclasses.dataclass(frozen=True)
class Validation:
    """Errors of one-step predictions.

    Attributes:
        rmse: Root mean squared error of the ensemble's mean, in units of `scale`.
        nll: Negative log-likelihood a dimension of the members' mixture, matched by one Gaussian, same units.
        typical_error: Median over transitions of their root mean squared errors, same units. A single collision with a joint
            stop changes `rmse`, but not this.
        surprise: As `nll`, with each transition's limited to 1.
        num_transitions: Number of transitions.
    """

    rmse: float
    nll: float
    typical_error: float
    surprise: float
    num_transitions: int


def validate(model: DynamicsModel, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, scale: np.ndarray) -> Validation:
    """Compare one-step predictions with the observed transitions.

    Args:
        model: Model to validate.
        obs: Shape (N, O).
        action: Shape (N, A).
        next_obs: Shape (N, O).
        scale: Unit of an error in each dimension, shape (O,); models are compared in the same units.
    """
    start, held = (torch.as_tensor(values, dtype=torch.float32) for values in (obs, action))
    # Rounding the observation to float32 is no error of the model.
    truth = start.double() + torch.as_tensor(np.subtract(next_obs, obs, dtype=np.float64))
    mean, std = model.predict(*(values.expand(model.ensemble_size, -1, -1) for values in (start, held)))
    unit = torch.as_tensor(scale, dtype=torch.float64)
    errors, spread = (mean.double() - truth) / unit, std.double() / unit  # (E, N, O)
    error = errors.mean(dim=0)
    least = torch.square(_RESOLUTION * truth / unit).clamp(min=_SMALLEST_VARIANCE)
    variance = (torch.square(spread).mean(dim=0) + errors.var(dim=0, unbiased=False)).maximum(least)
    nll = 0.5 * (torch.square(error) / variance + torch.log(2.0 * math.pi * variance))
    return Validation(
        rmse=float(torch.square(error).mean().sqrt()),
        nll=float(nll.mean()),
        typical_error=float(torch.square(error).mean(dim=1).median().sqrt()),
        surprise=float(nll.mean(dim=1).clamp(max=_MOST_SURPRISING).mean()),
        num_transitions=len(truth),
    )


def constant_error(obs: np.ndarray, next_obs: np.ndarray, change: np.ndarray, scale: np.ndarray) -> float:
    """Root mean squared error, in units of `scale`, of always predicting one change, shape (O,), in float32 as a model does.

    The mean change of the transitions trained on is a fair measure for an entry whose value a frame predicts, such as a
    reward, and for a clock, which always moves on.
    """
    start = np.asarray(obs, dtype=np.float32)
    predicted = (start + np.asarray(change, dtype=np.float32)).astype(np.float64) - start
    return float(np.sqrt(np.square((predicted - np.subtract(next_obs, obs)) / scale).mean()))
