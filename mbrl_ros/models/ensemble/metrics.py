"""How good a model is on transitions that it has not seen."""

import dataclasses
import math

import numpy as np
import torch

from mbrl_ros.types import DynamicsModel

_SMALLEST_VARIANCE = 1e-12
#: Observations are float32: an error of less than its last digit says nothing, however sure the model is.
_RESOLUTION = torch.finfo(torch.float32).eps
#: Negative log-likelihood a dimension beyond which a transition counts as no more surprising, so that one collision is no drift.
_MOST_SURPRISING = 1.0


@dataclasses.dataclass(frozen=True)
class Validation:
    """Errors of one-step predictions.

    Attributes:
        rmse: Root mean squared error of the ensemble's mean, in units of `scale`.
        nll: Negative log-likelihood a dimension of the members' mixture, matched by one Gaussian, same units.
        coverage: Share of values within one predicted standard deviation; 0.683 when calibrated.
        typical_error: Median over transitions of each one's root mean squared error, same units; one collision with a
            joint stop moves `rmse`, but not this.
        surprise: As `nll`, but of no transition more than 1.
        member_rmse: Error of each member's mean, shape (E,).
        dimension_rmse: Error of the ensemble's mean in each dimension, in the observation's own units, shape (O,).
        num_transitions: How many were predicted.
    """

    rmse: float
    nll: float
    coverage: float
    typical_error: float
    surprise: float
    member_rmse: np.ndarray
    dimension_rmse: np.ndarray
    num_transitions: int


def validate(model: DynamicsModel, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, scale: np.ndarray) -> Validation:
    """Compare one-step predictions with what happened.

    Args:
        model: Model to judge.
        obs: Shape (N, O).
        action: Shape (N, A).
        next_obs: Shape (N, O).
        scale: What an error of one means in each dimension, shape (O,); the same for models that are to be compared.
    """
    members = model.ensemble_size
    truth = torch.as_tensor(next_obs, dtype=torch.float64)
    mean, std = model.predict(*(_batch(values, members) for values in (obs, action)))
    unit = torch.as_tensor(scale, dtype=torch.float64)
    errors, spread = (mean.double() - truth) / unit, std.double() / unit  # (E, N, O)
    error = errors.mean(dim=0)
    least = torch.square(_RESOLUTION * truth / unit).clamp(min=_SMALLEST_VARIANCE)
    variance = (torch.square(spread).mean(dim=0) + errors.var(dim=0, unbiased=False)).maximum(least)
    nll = 0.5 * (torch.square(error) / variance + torch.log(2.0 * math.pi * variance))
    return Validation(
        rmse=float(torch.square(error).mean().sqrt()),
        nll=float(nll.mean()),
        coverage=float((torch.square(error) <= variance).double().mean()),
        typical_error=float(torch.square(error).mean(dim=1).median().sqrt()),
        surprise=float(nll.mean(dim=1).clamp(max=_MOST_SURPRISING).mean()),
        member_rmse=torch.square(errors).mean(dim=(1, 2)).sqrt().numpy(),
        dimension_rmse=(torch.square(error).mean(dim=0).sqrt() * unit).numpy(),
        num_transitions=len(truth),
    )


def _batch(values: np.ndarray, members: int) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float32).expand(members, -1, -1)
