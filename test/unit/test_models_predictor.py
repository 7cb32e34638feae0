"""Prediction with everything folded in: equal to the plain formula, and strict about shapes."""

import numpy as np
import pytest
import torch
from support.ensembles import random_parameters

from mbrl_ros.errors import ShapeError
from mbrl_ros.models.ensemble.predictor import Predictor


@pytest.fixture
def predictor():
    return Predictor(random_parameters())


@pytest.mark.parametrize('hidden_layers', [1, 2, 3])
def test_folded_prediction_equals_the_plain_formula(hidden_layers):
    parameters = random_parameters(hidden_layers=hidden_layers)
    obs, action = torch.randn(3, 20, 4), torch.randn(3, 20, 1)
    inputs = parameters.inputs.network_inputs(torch.cat([obs, action], dim=-1))
    with torch.no_grad():
        residual, logvar = parameters.ensemble()(inputs)
    scale = parameters.residual_scale
    expected = obs + parameters.outputs.denormalize(parameters.linear(inputs) + scale * residual)
    mean, std = Predictor(parameters).predict(obs, action)
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(std, torch.exp(0.5 * logvar) * scale * parameters.outputs.std, atol=1e-6, rtol=1e-4)


def test_prediction_leaves_its_arguments_alone(predictor):
    obs, action = torch.randn(3, 20, 4), torch.randn(3, 20, 1)
    before = obs.clone(), action.clone()
    first = predictor.predict(obs, action)
    torch.testing.assert_close((obs, action), before, atol=0, rtol=0)
    torch.testing.assert_close(predictor.predict(obs, action), first, atol=0, rtol=0)


@pytest.mark.parametrize(('obs', 'action'), [
    ((3, 5, 3), (3, 5, 1)), ((2, 5, 4), (2, 5, 1)), ((3, 5, 4), (3, 6, 1)), ((5, 4), (5, 1))])
def test_wrong_shapes_are_refused(predictor, obs, action):
    with pytest.raises(ShapeError, match=r'predict needs obs \(3, B, 4\) and action \(3, B, 1\), got'):
        predictor.predict(torch.zeros(obs), torch.zeros(action))


def test_disagreement_is_the_spread_of_the_means_in_output_units(predictor):
    obs, action = torch.randn(7, 4), torch.randn(7, 1)
    means = [predictor.predict(obs.expand(3, 7, 4), action.expand(3, 7, 1))[0][member].numpy() for member in range(3)]
    expected = (np.std(means, axis=0) / random_parameters().outputs.std.numpy()).mean(axis=1)
    np.testing.assert_allclose(predictor.disagreement(obs, action).numpy(), expected, rtol=1e-4)


def test_disagreement_of_one_member_is_zero():
    one = Predictor(random_parameters(members=1))
    assert (one.disagreement(torch.randn(3, 4), torch.randn(3, 1)) == 0).all()
