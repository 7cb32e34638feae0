"""Which candidate is kept, and how good a model is said to be."""

import numpy as np
import pytest
import torch

from mbrl_ros.models.ensemble.acceptance import AcceptanceConfig, decide
from mbrl_ros.models.ensemble.metrics import Validation, validate


def validation(rmse, nll=-2.0):
    return Validation(rmse, nll, rmse, nll, 40)


def test_first_model_is_accepted():
    assert decide(validation(0.5), None, AcceptanceConfig()) == (
        True, 'accepted: first model, held-out error 0.5000 on 40 transitions')


@pytest.mark.parametrize(('candidate', 'current', 'accepted'), [
    (validation(0.09), validation(0.1), True), (validation(0.105), validation(0.1), True),
    (validation(0.12), validation(0.1), False), (validation(0.0025), validation(0.001), True),
    (validation(0.1, nll=0.0), validation(0.1, nll=-2.0), False), (validation(0.05, nll=0.0), validation(0.1, nll=-2.0), True),
    (validation(float('nan')), validation(0.1), False), (validation(0.1, nll=float('inf')), validation(0.1), False)])
def test_worse_is_rejected_with_figures(candidate, current, accepted):
    is_accepted, reason = decide(candidate, current, AcceptanceConfig())
    assert is_accepted is accepted
    verdict = 'accepted, worse by no more than chance' if candidate.rmse > current.rmse else 'accepted'
    assert reason.startswith(f'{verdict if accepted else "rejected"}: ')
    assert 'not finite' in reason or f'{current.rmse:.4f}' in reason


def test_validation_of_a_perfect_model_is_perfect():
    class Perfect:
        ensemble_size, obs_size, action_size = 2, 2, 1

        def predict(self, obs, action):
            return obs + action, torch.full_like(obs, 0.1)

    obs, action = np.random.default_rng(0).normal(size=(50, 2)), np.ones((50, 1))
    exact = validate(Perfect(), obs, action, obs + 1.0, np.ones(2))
    off = validate(Perfect(), obs, action, obs + 1.1, np.ones(2))
    assert exact.rmse < 1e-6
    assert exact.nll == pytest.approx(0.5 * np.log(2 * np.pi * 0.01), abs=1e-4)
    assert off.nll == pytest.approx(exact.nll + 0.5, abs=1e-4)
    np.testing.assert_allclose([off.rmse, off.typical_error], 0.1, rtol=1e-5)


def test_rounding_an_observation_is_no_error():
    class Still:
        ensemble_size = 2

        def predict(self, obs, action):
            return obs, torch.full_like(obs, 1e-6)

    obs = np.full((20, 1), 1234.567891)
    assert validate(Still(), obs, np.zeros((20, 1)), obs, np.array([1e-6])).rmse == 0.0


def test_an_error_of_a_last_digit_is_none_however_sure_the_model_is():
    """An entry that never varies, as a goal that stays, has a unit and a spread far below what float32 can tell apart."""
    class Sure:
        ensemble_size = 2

        def predict(self, obs, action):
            return obs * (1.0 + 1e-7), torch.full_like(obs, 1e-12)

    obs = np.full((20, 1), 0.1)
    result = validate(Sure(), obs, np.zeros((20, 1)), obs, np.array([1e-6]))
    assert result.nll < 2.0
