"""Training: what it learns, when it stops, and that it repeats."""

import dataclasses

import numpy as np
import pytest
import torch
from support.ensembles import random_parameters

from mbrl_ros.errors import ModelError, ShapeError, TrainingCancelled
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.metrics import validate
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig, typical_change
from mbrl_ros.models.ensemble.warm_start import warm_network

SMALL = EnsembleConfig(ensemble_size=3, hidden_layers=2, hidden_size=32)


def linear_data(count, seed=0):
    rng = np.random.default_rng(seed)
    obs, action = rng.normal(size=(count, 3)), rng.uniform(-1, 1, size=(count, 2))
    mixing = np.array([[0.0, 0.1, 0.0], [-0.1, -0.02, 0.0], [0.0, 0.0, -0.3], [0.2, 0.0, 0.0], [0.0, 0.0, 0.5]])
    return obs, action, obs + np.concatenate([obs, action], axis=1) @ mixing + 0.05


def pendulum_data(count, seed=0, angle=np.pi):
    rng = np.random.default_rng(seed)
    obs = rng.uniform([-angle, -3], [angle, 3], size=(count, 2))
    action = rng.uniform(-1, 1, size=(count, 1))
    speed = obs[:, 1] + 0.05 * (15.0 * np.sin(obs[:, 0]) + 6.0 * action[:, 0])
    return obs, action, np.stack([obs[:, 0] + 0.05 * speed, speed], axis=1)


def fit(data, *, seed=0, **arguments):
    settings = {'ensemble': SMALL, **arguments}
    extra = {name: settings.pop(name) for name in ('initial', 'keys', 'extra', 'is_cancelled') if name in settings}
    return EnsembleTrainer(TrainerConfig(**settings)).fit(*data, seed=seed, **extra)


def judged(result, data):
    return validate(Predictor(result.parameters), *data, typical_change(data[0], data[2]))


def test_linear_system_is_learned_to_a_thousandth():
    assert judged(fit(linear_data(100)), linear_data(500, seed=1)).rmse < 1e-3


def test_extra_transitions_are_trained_on_but_not_judged():
    near, far = pendulum_data(300, angle=0.5), pendulum_data(300, seed=1)
    plain, taught = fit(near), fit(near, extra=far)
    assert judged(taught, pendulum_data(500, seed=2)).rmse < 0.5 * judged(plain, pendulum_data(500, seed=2)).rmse
    np.testing.assert_array_equal(taught.holdout, plain.holdout)


def test_extra_transitions_of_another_size_or_not_finite_are_refused():
    data, extra = pendulum_data(100), pendulum_data(20)
    with pytest.raises(ShapeError):
        fit(data, extra=(extra[0], extra[1][:10], extra[2]))
    with pytest.raises(ModelError, match='not finite'):
        fit(data, extra=(extra[0], extra[1] * np.nan, extra[2]))


def test_nonlinear_system_is_learned_to_five_percent():
    error = judged(fit(pendulum_data(800)), pendulum_data(500, seed=1)).rmse
    assert error < 0.05
    assert judged(fit(pendulum_data(800), max_steps=1), pendulum_data(500, seed=1)).rmse > 4 * error


def test_sigma_recovers_known_heteroscedastic_noise():
    rng = np.random.default_rng(0)
    obs, action = rng.uniform(-1, 1, size=(3000, 1)), np.zeros((3000, 1))
    sigma = 0.02 + 0.18 * (obs > 0)
    result = fit((obs, action, obs + sigma * rng.normal(size=obs.shape)), batch_size=256)
    places = torch.tensor([[-0.7], [-0.3], [0.3], [0.7]]).expand(3, 4, 1)
    _, std = Predictor(result.parameters).predict(places, torch.zeros(3, 4, 1))
    np.testing.assert_allclose(std.mean(dim=0)[:, 0], [0.02, 0.02, 0.2, 0.2], rtol=0.25)


def test_disagreement_is_larger_away_from_the_data():
    model = Predictor(fit(pendulum_data(300, angle=1.0)).parameters)
    action = torch.zeros(50, 1)
    inside, outside = (torch.as_tensor(pendulum_data(50, seed=2, angle=1.0)[0], dtype=torch.float32) * factor
                       for factor in (1.0, 4.0))
    assert model.disagreement(outside, action).mean() > 5 * model.disagreement(inside, action).mean()


def test_each_member_is_restored_to_its_best_validation():
    data = pendulum_data(60)
    result = fit(data, learning_rate=0.05, max_steps=600, steps_per_check=10, patience=60)
    held = [torch.as_tensor(values[result.holdout], dtype=torch.float32) for values in data]
    parameters = result.parameters
    network, inputs = parameters.ensemble(), parameters.inputs.normalize(torch.cat(held[:2], dim=1)).expand(3, -1, -1)
    target = (parameters.outputs.normalize(held[2] - held[0]) - parameters.linear(inputs)) / parameters.residual_scale
    with torch.no_grad():
        mean, logvar = network(inputs)
        loss = (torch.square(mean - target) * torch.exp(-logvar) + logvar).mean(dim=(1, 2)).numpy()
    np.testing.assert_allclose(loss, result.curves.min(axis=0), rtol=1e-3, atol=1e-3)
    assert (result.curves[-1] > result.curves.min(axis=0)).any(), 'no member overfitted, so nothing was restored'


def test_training_stops_when_no_member_gains():
    assert fit(linear_data(40), patience=2, max_steps=5000).steps < 5000


def test_same_seed_same_bytes_and_another_seed_others():
    def blob(seed):
        return b''.join(value.numpy().tobytes() for value in fit(pendulum_data(80), seed=seed, max_steps=100)
                        .parameters.tensors().values())
    assert blob(1) == blob(1) != blob(2)


def test_bfloat16_training_repeats_and_reaches_the_held_out_loss_of_float32():
    def curve(seed, precision):
        wide = EnsembleConfig(ensemble_size=2, hidden_layers=2, hidden_size=128)
        return fit(pendulum_data(800), seed=seed, ensemble=wide, batch_size=128, max_steps=150, precision=precision).curves
    low, full = (np.stack([curve(seed, precision).min(axis=0).mean() for seed in range(3)])
                 for precision in ('bfloat16', 'float32'))
    assert full.max() < curve(0, 'float32')[0].mean() - 2.0, 'float32 learned nothing to compare with'
    assert low.mean() == pytest.approx(full.mean(), abs=0.25)
    np.testing.assert_array_equal(curve(0, 'bfloat16'), curve(0, 'bfloat16'))


def test_training_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    fit(linear_data(40), max_steps=10)
    assert torch.equal(before, torch.get_rng_state())


def test_warm_start_begins_where_the_model_before_ended():
    data, fresh = pendulum_data(800), pendulum_data(300, seed=1)
    first = fit(data, seed=5)
    before, warm, cold = (judged(result, fresh).rmse for result in (
        first, fit(data, initial=first.parameters, max_steps=1), fit(data, max_steps=1)))
    assert warm == pytest.approx(before, rel=0.3)
    assert warm < 0.1 * cold


def test_warm_start_survives_other_normalisers():
    first = fit(pendulum_data(800, angle=2.0))
    wider = pendulum_data(800, seed=5)
    warm, cold = (judged(fit(wider, max_steps=1, **extra), pendulum_data(300, seed=6)).rmse
                  for extra in ({'initial': first.parameters}, {}))
    assert warm < 0.8 * cold


def with_body(count, seed, *, place_m):
    """Transitions of a pendulum beside a body that is moved, or only jitters at rest."""
    rng = np.random.default_rng(seed + 100)
    obs, action, next_obs = pendulum_data(count, seed)
    place = place_m * rng.normal(size=(count, 1)) + 1e-7 * rng.normal(size=(count, 1))
    moved = place - np.tanh(0.1 * place) + 1e-7 * rng.normal(size=(count, 1))
    return np.hstack([obs, place]), action, np.hstack([next_obs, moved])


def test_a_body_that_moves_for_the_first_time_is_learned_as_if_nothing_had_been_learned_before():
    rest, moving = fit(with_body(800, 0, place_m=0.0)), with_body(800, 1, place_m=20.0)
    warm, cold = (judged(fit(moving, **extra), with_body(500, 2, place_m=20.0)).rmse
                  for extra in ({'initial': rest.parameters}, {}))
    assert warm == pytest.approx(cold)
    assert warm < 0.15


def test_an_input_of_another_scale_starts_anew_and_the_rest_of_the_network_goes_on():
    initial, draw = random_parameters(), torch.Generator().manual_seed(9)
    fresh = Ensemble(5, 4, initial.shape, generator=draw)
    inputs = Normalizer(initial.inputs.mean + 0.1, initial.inputs.std * torch.tensor([1.0, 3.0, 300.0, 1.0, 0.01]))
    warm = warm_network(initial, fresh, inputs, initial.outputs, torch.zeros(4))
    assert torch.equal(warm.weights[0][:, [2, 4]], fresh.weights[0][:, [2, 4]])
    raw = torch.randn(3, 50, 5, generator=draw)
    raw[..., [2, 4]] = initial.inputs.mean[[2, 4]]
    with torch.no_grad():
        for network in (warm, fresh):
            network.weights[0][:, [2, 4]] = 0.0
        mean, _ = warm(inputs.normalize(raw))
        before, _ = initial.ensemble()(initial.inputs.normalize(raw))
    torch.testing.assert_close(mean, before * initial.residual_scale, atol=1e-4, rtol=1e-4)


def test_an_input_that_has_gone_beyond_all_that_was_learned_starts_anew():
    initial = random_parameters()
    fresh = Ensemble(5, 4, initial.shape, generator=torch.Generator().manual_seed(9))
    inputs = Normalizer(initial.inputs.mean + initial.inputs.std * torch.tensor([0.0, 25.0, 0.0, 0.0, 0.0]), initial.inputs.std)
    warm = warm_network(initial, fresh, inputs, initial.outputs, torch.zeros(4))
    assert torch.equal(warm.weights[0][:, 1], fresh.weights[0][:, 1])
    assert not torch.equal(warm.weights[0][:, 0], fresh.weights[0][:, 0])


def test_outputs_that_never_vary_are_no_reason_to_begin_anew_when_they_are_seen_farther_away():
    initial, inputs = random_parameters(), random_parameters().inputs
    initial = dataclasses.replace(initial, outputs=Normalizer(torch.zeros(4), torch.tensor([0.1, 0.1, 0.1, 1e-6])))
    fresh = Ensemble(5, 4, initial.shape, generator=torch.Generator().manual_seed(9))
    farther = Normalizer(torch.zeros(4), torch.tensor([0.1, 0.1, 0.1, 1e-3]))
    assert warm_network(initial, fresh, inputs, farther, torch.full((4,), 1e-3)) is not None
    assert warm_network(initial, fresh, inputs, farther, torch.zeros(4)) is None


def test_initial_parameters_of_another_size_are_left_aside():
    first = fit(linear_data(60), ensemble=EnsembleConfig(ensemble_size=2, hidden_size=8))
    assert fit(linear_data(60), initial=first.parameters, max_steps=5).parameters.sizes == (3, 3, 2)


def test_joint_that_never_moved_is_predicted_to_stand():
    obs, action, next_obs = linear_data(60)
    obs, next_obs = (np.concatenate([values, np.full((60, 1), 0.3)], axis=1) for values in (obs, next_obs))
    batch = [torch.as_tensor(values, dtype=torch.float32).expand(3, -1, -1) for values in (obs, action)]
    mean, std = Predictor(fit((obs, action, next_obs)).parameters).predict(*batch)
    assert (mean[..., 3] - 0.3).abs().max() < 1e-5 and std[..., 3].max() < 1e-4


@pytest.mark.parametrize('unit', [1.0, 1e-5, 1e5])
def test_an_entry_in_any_unit_is_learned_and_learned_from(unit):
    def in_unit(data):
        obs, action, next_obs = (values.copy() for values in data)
        obs[:, 1] *= unit
        next_obs[:, 1] *= unit
        return obs, action, next_obs
    data, others = in_unit(linear_data(200)), in_unit(linear_data(500, seed=1))
    assert judged(fit(data), others).rmse < 2e-3


def test_a_flag_that_is_rarely_set_is_learned_from():
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(1000, 2)), rng.uniform(-1, 1, size=(1000, 1))
    obs[:, 1] = np.arange(1000) % 200 == 17
    next_obs = np.stack([obs[:, 0] + action[:, 0] + 5.0 * obs[:, 1], np.roll(obs[:, 1], -1)], axis=1)
    model = Predictor(fit((obs, action, next_obs)).parameters)
    mean, _ = model.predict(torch.tensor([[0.0, 0.0], [0.0, 1.0]]).expand(3, 2, 2), torch.zeros(3, 2, 1))
    np.testing.assert_allclose(mean.mean(dim=0)[:, 0], [0.0, 5.0], atol=0.3)


def test_a_body_that_jittered_at_rest_and_then_moves_is_no_huge_input():
    obs, action, next_obs = linear_data(100)
    jitter = 1e-7 * np.random.default_rng(1).normal(size=(101, 1))
    parameters = fit((np.hstack([obs, jitter[:-1]]), action, np.hstack([next_obs, jitter[1:]]))).parameters
    model = Predictor(parameters)
    at = torch.zeros(3, 2, 4)
    at[:, 1, 3] = 0.05
    mean, _ = model.predict(at, torch.zeros(3, 2, 2))
    assert (mean[:, 0] - mean[:, 1])[:, :3].abs().max() < 0.02
    assert (mean - at)[..., 3].abs().max() < 1e-5


def test_an_entry_that_moved_in_held_out_rows_alone_is_not_measured_by_its_standing():
    obs, next_obs = np.zeros((100, 1)), np.zeros((100, 1))
    next_obs[-10:] = 0.3
    assert typical_change(obs[:90], next_obs[:90])[0] == pytest.approx(1e-6)
    assert typical_change(obs, next_obs)[0] == pytest.approx(0.09)


def test_arrays_of_a_replay_buffer_are_left_as_they_are():
    obs = np.arange(10.0).reshape(-1, 1)
    obs.flags.writeable = False
    assert typical_change(obs, obs)[0] == pytest.approx(16 * 9 * 2.0**-23)


def test_no_scale_is_below_what_float32_can_tell():
    far = np.full((50, 1), 4000.0)
    assert typical_change(far, far + 1e-5 * np.arange(50)[:, None])[0] == pytest.approx(16 * 4000 * 2.0**-23)


@pytest.mark.parametrize(('count', 'change', 'error', 'text'), [
    (9, lambda o, a, n: (o, a, n), ModelError, 'needs at least 10 transitions, got 9'),
    (40, lambda o, a, n: (o, a[:-1], n), ShapeError, r'got \(40, 3\), \(39, 2\), \(40, 3\)'),
    (40, lambda o, a, n: (o, a, n[:, :2]), ShapeError, r'next_obs \(N, O\)'),
    (40, lambda o, a, n: (o, np.where(np.arange(40)[:, None] == 7, np.nan, a), n), ModelError,
     'action that is not finite, at transition 7'),
])
def test_unusable_data_are_one_error(count, change, error, text):
    with pytest.raises(error, match=text):
        fit(change(*linear_data(count)))


def test_fewer_steps_than_between_two_validations_count():
    short = fit(pendulum_data(400), max_steps=20, steps_per_check=50)
    assert short.steps == 20 and len(short.curves) == 2
    assert (short.curves[1] < short.curves[0]).all()


def test_training_can_be_cancelled():
    with pytest.raises(TrainingCancelled):
        fit(linear_data(40), is_cancelled=lambda: True)
