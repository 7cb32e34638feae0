"""Latency compensation: exact where the model is linear in time, harmless at zero latency."""

import numpy as np
import pytest
import torch

from mbrl_ros.errors import PlanningError, ShapeError
from mbrl_ros.models.delay import predict_effect_state
from mbrl_ros.models.toys import LinearModel, NamingModel, VelocityArm

ARM = VelocityArm(torch.tensor([1.5, 1.0]), 0.05, ensemble_size=3)
OBS = np.array([0.2, -0.3, 0.6, 0.5])
ACTION = np.array([0.4, 0.5])  # Equals the velocity in OBS, so that the arm goes on as it does.


@pytest.mark.parametrize('latency_s', [0.0, 0.01, 0.05, 0.12])
def test_steady_motion_is_continued(latency_s):
    effect = predict_effect_state(ARM, OBS, ACTION, latency_s, 0.05)
    assert effect == pytest.approx([0.2 + 0.6 * latency_s, -0.3 + 0.5 * latency_s, 0.6, 0.5], abs=1e-6)


def test_a_model_knows_that_the_previous_action_is_still_in_effect():
    effect = predict_effect_state(ARM, OBS, np.zeros(2), 0.025, 0.05)
    assert effect == pytest.approx([0.2, -0.3, 0.3, 0.25], abs=1e-6)


def test_the_members_are_averaged():
    assert predict_effect_state(NamingModel(3), np.zeros(1), np.zeros(1), 0.05, 0.05) == pytest.approx([2.0])


def test_a_prediction_that_is_not_finite_is_refused():
    broken = LinearModel(torch.full((2, 2), torch.nan), torch.zeros(2, 1))
    with pytest.raises(PlanningError, match='not finite 0.010 s ahead'):
        predict_effect_state(broken, np.zeros(2), np.zeros(1), 0.01, 0.05)


def test_an_observation_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r'got \(3,\)'):
        predict_effect_state(ARM, np.zeros(3), ACTION, 0.01, 0.05)
