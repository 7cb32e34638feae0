"""Latency compensation: predicts the state at the moment when the next command takes effect."""

import numpy as np
import torch

from mbrl_ros.errors import PlanningError, ShapeError
from mbrl_ros.types import DynamicsModel


def predict_effect_state(model: DynamicsModel, obs: np.ndarray, previous_action: np.ndarray, latency_s: float,
                         period_s: float) -> np.ndarray:
    """Observation `latency_s` after the measured one, under the previous action.

    Adds the model's mean change, averaged over members, for each whole period, and a proportional part of it for the rest.

    Args:
        model: Dynamics snapshot.
        obs: Measured observation, shape (O,).
        previous_action: Action in effect, shape (A,), normalised to [-1, 1].
        latency_s: Time from the measurement to the command taking effect, 0 or more.
        period_s: Control period, the duration of one model step.

    Returns:
        Shape (O,), float64.

    Raises:
        ShapeError: `obs` or `previous_action` does not fit.
        PlanningError: The model's prediction is not finite.
    """
    obs = np.asarray(obs, dtype=np.float64)
    if obs.shape != (model.obs_size,) or np.shape(previous_action) != (model.action_size,):
        raise ShapeError(f'obs and previous_action need shapes ({model.obs_size},) and ({model.action_size},), '
                         f'got {obs.shape} and {np.shape(previous_action)}')
    left = latency_s / period_s
    while left > 0.0:
        obs = obs + min(left, 1.0) * _mean_change(model, obs, previous_action)
        left -= 1.0
    if not np.isfinite(obs).all():
        raise PlanningError(f'the model predicts a state that is not finite {latency_s:.3f} s ahead')
    return obs


@torch.inference_mode()
def _mean_change(model: DynamicsModel, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Change of obs over one period, mean over members, shape (O,)."""
    device = model.output_scale.device
    start = torch.as_tensor(obs, dtype=torch.float32, device=device)
    held = torch.as_tensor(action, dtype=torch.float32, device=device)
    mean, _ = model.predict(start.expand(model.ensemble_size, 1, -1), held.expand(model.ensemble_size, 1, -1))
    return (mean - start).mean(dim=(0, 1)).double().cpu().numpy()
