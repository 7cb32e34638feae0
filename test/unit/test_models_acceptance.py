"""Which candidate is kept, and how good a model is said to be."""

import numpy as np
import pytest
import torch

from mbrl_ros.models.ensemble.acceptance import AcceptanceConfig, decide
from mbrl_ros.models.ensemble.metrics import Validation, constant_error, validate
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig, typical_change


def validation(rmse, nll=-2.0):
    return Validation(rmse, nll, rmse, nll, 40)


def test_first_model_is_accepted():
    assert decide(validation(0.5), None, 1.0, AcceptanceConfig()) == (
        True, 'accepted: first model, held-out error 0.5000 on 40 transitions')


@pytest.mark.parametrize(('candidate', 'current', 'accepted'), [
    (validation(0.09), validation(0.1), True), (validation(0.105), validation(0.1), True),
    (validation(0.12), validation(0.1), False), (validation(0.0025), validation(0.001), True),
    (validation(0.1, nll=0.0), validation(0.1, nll=-2.0), False), (validation(0.05, nll=0.0), validation(0.1, nll=-2.0), True),
    (validation(float('nan')), validation(0.1), False), (validation(0.1, nll=float('inf')), validation(0.1), False)])
def test_worse_is_rejected_with_figures(candidate, current, accepted):
    is_accepted, reason = decide(candidate, current, 1.0, AcceptanceConfig())
    assert is_accepted is accepted
    verdict = 'accepted, worse by no more than chance' if candidate.rmse > current.rmse else 'accepted'
    assert reason.startswith(f'{verdict if accepted else "rejected"}: ')
    assert 'not finite' in reason or f'{current.rmse:.4f}' in reason


@pytest.mark.parametrize('current', [None, validation(34_656.0), validation(0.3)])
def test_what_is_worse_than_no_model_is_rejected_as_first_model_too(current):
    is_accepted, reason = decide(validation(33_000.0), current, 1.0, AcceptanceConfig())
    assert not is_accepted
    assert reason.startswith('rejected: held-out error 33000.0000 on 40 transitions')
    assert reason.endswith('the mean change alone has 1.0000')


def test_a_first_model_that_is_as_bad_as_none_by_chance_is_accepted():
    assert decide(validation(1.9), None, 1.0, AcceptanceConfig())[0]
    assert not decide(validation(1.9), None, 1.0, AcceptanceConfig(constant_tolerance=0.5))[0]


def test_of_two_that_are_worse_than_no_model_one_that_is_far_better_is_taken():
    assert decide(validation(3.0), validation(5.0), 1.0, AcceptanceConfig()) == (
        True, 'accepted: held-out error 3.0000 on 40 transitions, the model in use has 5.0000, the mean change alone has 1.0000')


@pytest.mark.parametrize('rmse', [34_656.0, float('nan'), float('inf')])
def test_a_model_in_use_that_is_worse_than_none_gives_way_whatever_its_figures(rmse):
    is_accepted, reason = decide(validation(0.9, nll=40.0), validation(rmse, nll=1.0), 1.0, AcceptanceConfig())
    assert is_accepted
    assert reason.startswith('accepted: held-out error 0.9000 on 40 transitions, the model in use has')
    assert reason.endswith('the mean change alone has 1.0000')


def test_where_nothing_moves_no_model_is_worse_than_none():
    obs = np.random.default_rng(0).normal(size=(80, 3)) * 0.0 + [0.3, -20.0, 0.0]
    action = np.random.default_rng(0).uniform(-1, 1, size=(80, 2))
    result = EnsembleTrainer(TrainerConfig(max_steps=50)).fit(obs, action, obs, seed=0)
    unit = typical_change(obs, obs)
    assert constant_error(obs, obs, result.parameters.outputs.mean.numpy(), unit) < 1e-6
    found = validate(Predictor(result.parameters), obs, action, obs, unit)
    assert decide(found, None, 0.0, AcceptanceConfig())[0]


def test_the_mean_change_of_a_clock_and_of_a_reward_is_no_error():
    clock, reward = np.arange(50.0), np.full(50, -100.0)
    obs = np.stack([clock, 0.0 * reward], axis=1)
    next_obs = np.stack([clock + 1.0, reward], axis=1)
    assert constant_error(obs, next_obs, np.array([1.0, -100.0]), np.array([1e-3, 1e-3])) == 0.0
    assert constant_error(obs, next_obs, np.array([1.5, -100.0]), np.array([0.5, 1.0])) == pytest.approx(np.sqrt(0.5))


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
