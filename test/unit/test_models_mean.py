"""The mean of an ensemble in float64 is the predictor's, and its derivatives are those of finite differences."""

import numpy as np
import pytest
import torch
from support.ensembles import random_parameters

from mbrl_ros.models.ensemble.mean import MeanModel
from mbrl_ros.models.ensemble.predictor import Predictor

ROWS = np.random.default_rng(0).normal(size=(6, 5))
OBS, ACTION = 0.5 * ROWS[:, :4], np.tanh(ROWS[:, 4:])


@pytest.mark.parametrize('hidden_layers', [1, 2, 3])
def test_it_predicts_the_mean_of_the_members(hidden_layers):
    parameters = random_parameters(hidden_layers=hidden_layers)
    expected, _ = Predictor(parameters).predict(*(torch.tensor(values, dtype=torch.float32).expand(3, -1, -1)
                                                  for values in (OBS, ACTION)))
    np.testing.assert_allclose(MeanModel(parameters).predict(OBS, ACTION), expected.mean(dim=0), atol=1e-5)


@pytest.mark.parametrize('hidden_layers', [1, 2, 3])
def test_its_derivatives_are_those_of_finite_differences(hidden_layers):
    model, step = MeanModel(random_parameters(hidden_layers=hidden_layers)), 1e-6
    by_obs, by_action = model.linearise(OBS, ACTION)

    def difference(move_obs, move_action):
        ahead, behind = (model.predict(OBS + sign * move_obs, ACTION + sign * move_action) for sign in (step, -step))
        return (ahead - behind) / (2.0 * step)

    for entry in range(4):
        np.testing.assert_allclose(by_obs[..., entry], difference(np.eye(4)[entry], 0.0), atol=1e-6)
    np.testing.assert_allclose(by_action[..., 0], difference(0.0, 1.0), atol=1e-6)


def test_beyond_the_bound_of_inputs_nothing_changes_with_them():
    model = MeanModel(random_parameters())
    by_obs, _ = model.linearise(OBS + 1e3, ACTION)
    np.testing.assert_array_equal(by_obs, np.broadcast_to(np.eye(4), by_obs.shape))


def test_an_origin_moves_the_observations_alone():
    parameters, origin = random_parameters(), (3.0, 0.0, -2.0, 100.0)
    moved = MeanModel(parameters, origin).predict(OBS + origin, ACTION)
    np.testing.assert_allclose(moved, MeanModel(parameters).predict(OBS, ACTION) + origin, atol=1e-9)


def test_members_that_agree_have_no_disagreement():
    assert (MeanModel(random_parameters()).disagreement(OBS, ACTION) > 0.0).all()
    np.testing.assert_array_equal(MeanModel(random_parameters(members=1)).disagreement(OBS, ACTION), 0.0)
