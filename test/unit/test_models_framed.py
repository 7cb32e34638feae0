"""Learning in a frame: what is learned in one direction holds in every other."""

import numpy as np
import pytest
import torch
from support.asserts import some

from mbrl_ros.errors import ShapeError
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig
from mbrl_ros.models.framed import FramedModel
from mbrl_ros.planning.propagation import ParticleDraws, rollout
from mbrl_ros.spaces.frame import framed_transitions

SMALL = TrainerConfig(ensemble=EnsembleConfig(ensemble_size=3, hidden_size=32), max_steps=400)
OBS_SIZE, ACTION_SIZE, FEATURES = 4, 2, 3


class BoatFrame:
    """Of a boat with observation (x, y, heading, speed) and action (rudder, thrust); it adds a feature to the action."""

    is_shiftable = False

    def encode(self, obs, action):
        still = torch.zeros_like(obs[..., :3])
        return torch.cat([still, obs[..., 3:]], dim=-1), torch.cat([action, action.prod(dim=-1, keepdim=True)], dim=-1)

    def change(self, obs, next_obs):
        return turned(next_obs - obs, -obs[..., 2])

    def moved(self, obs, change):
        return obs + turned(change, obs[..., 2])


class Probe:
    """A model that answers with its inputs, keeps them, and is certain."""

    ensemble_size, obs_size, action_size = 2, OBS_SIZE, FEATURES
    output_scale = torch.arange(1.0, 5.0)

    def __init__(self, step=0.0):
        self.step, self.seen = step, ()

    def predict(self, obs, action):
        self.seen = obs, action
        return obs + self.step, self.output_scale.expand_as(obs)


def turned(values, angle):
    """x and y, the first two of the last axis, turned by an angle."""
    x, y, cos, sin = values[..., 0], values[..., 1], torch.cos(torch.as_tensor(angle)), torch.sin(torch.as_tensor(angle))
    return torch.cat([torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1), values[..., 2:]], dim=-1)


def elsewhere(obs, angle=2.0, shift=(0.7, -0.3)):
    """The same boat at another place and in another direction."""
    return turned(obs, angle) + torch.tensor([*shift, angle, 0.0])


def boats(count, seed=0):
    """Transitions that all head about along x, and drag and drift that depend on speed and rudder."""
    rng = np.random.default_rng(seed)
    obs = rng.uniform([-1, -1, -0.3, 0], [1, 1, 0.3, 1], size=(count, OBS_SIZE))
    action = rng.uniform(-1, 1, size=(count, ACTION_SIZE))
    ahead, aside, rudder = 0.1 * obs[:, 3], 0.05 * obs[:, 3] * action[:, 0], 0.2 * action[:, 0] * obs[:, 3]
    change = np.stack([ahead, aside, rudder, 0.1 * action[:, 1] - 0.1 * obs[:, 3] ** 2], axis=1)
    return obs, action, BoatFrame().moved(*map(torch.from_numpy, (obs, change))).numpy()


def batches(count=5, members=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(members, count, OBS_SIZE, generator=generator),
            torch.rand(members, count, ACTION_SIZE, generator=generator))


@pytest.fixture(scope='module')
def predictor():
    return Predictor(EnsembleTrainer(SMALL).fit(*framed_transitions(BoatFrame(), *boats(400)), seed=0).parameters)


@pytest.fixture(scope='module')
def model(predictor):
    return FramedModel(BoatFrame(), predictor, ACTION_SIZE)


def error(model, obs, action, next_obs):
    """Root mean squared error of the ensemble's mean, in units of how far the boats go."""
    far = float((next_obs - obs).square().mean().sqrt())
    mean, _ = model.predict(*(values.float().expand(model.ensemble_size, -1, -1) for values in (obs, action)))
    return float((mean.mean(dim=0) - next_obs).square().mean().sqrt()) / far


def test_difference_of_framed_transitions_is_the_change_and_moves_back():
    obs, action, next_obs = boats(50)
    features, inner_action, after = framed_transitions(BoatFrame(), obs, action, next_obs)
    assert (features.shape, inner_action.shape, after.shape) == ((50, OBS_SIZE), (50, FEATURES), (50, OBS_SIZE))
    moved = BoatFrame().moved(torch.from_numpy(obs), torch.from_numpy(after - features))
    np.testing.assert_allclose(moved, next_obs, atol=1e-12)


def test_framed_transitions_take_what_a_data_set_holds_and_leave_it_as_it_was():
    data = [values.astype(np.float32) for values in boats(5)]
    kept = [values.copy() for values in data]
    for values in data:
        values.setflags(write=False)
    framed = framed_transitions(BoatFrame(), *data)
    assert all(values.dtype == np.float64 for values in some(framed))
    assert all(np.array_equal(values, before) for values, before in some(zip(data, kept, strict=True)))


@pytest.mark.parametrize('part', range(3))
def test_framed_transitions_that_do_not_belong_together_are_refused(part):
    data = list(boats(5))
    data[part] = data[part][:1]
    with pytest.raises(ShapeError, match=r'obs \(N, O\), action \(N, A\), next_obs \(N, O\), got .*\(1, '):
        framed_transitions(BoatFrame(), *data)


def test_a_model_that_foresees_no_change_in_the_frame_foresees_none_outside():
    obs, action = batches()
    mean, std = FramedModel(BoatFrame(), Probe(), ACTION_SIZE).predict(obs, action)
    assert torch.equal(mean, obs)
    assert torch.equal(std, Probe.output_scale.expand(2, 5, OBS_SIZE)), 'the deviation is passed on as it is'


def test_a_change_in_the_frame_is_a_move_along_its_axes():
    obs, action = batches()
    mean, _ = FramedModel(BoatFrame(), Probe(torch.tensor([0.5, 0.0, 0.0, 0.0])), ACTION_SIZE).predict(obs, action)
    ahead = torch.stack([torch.cos(obs[..., 2]), torch.sin(obs[..., 2])], dim=-1)
    torch.testing.assert_close(mean[..., :2] - obs[..., :2], 0.5 * ahead)


def test_the_inner_model_gets_contiguous_features_without_gradients():
    probe = Probe()
    obs, action = (values[:1].requires_grad_().expand(2, -1, -1) for values in batches())
    mean, std = FramedModel(BoatFrame(), probe, ACTION_SIZE).predict(obs, action)
    assert all(values.is_contiguous() and values.dtype is torch.float32 for values in some(probe.seen))
    assert mean.is_contiguous()
    assert not any(values.requires_grad for values in (*probe.seen, mean, std))


def test_sizes_are_those_outside_of_the_frame(model, predictor):
    assert (model.ensemble_size, model.obs_size, model.action_size) == (3, OBS_SIZE, ACTION_SIZE)
    assert model.hidden_units == predictor.hidden_units
    assert torch.equal(model.output_scale, predictor.output_scale)
    assert not hasattr(FramedModel(BoatFrame(), Probe(), ACTION_SIZE), 'hidden_units')


def test_a_frame_of_other_sizes_than_the_inner_model_is_refused():
    with pytest.raises(ShapeError, match=r'takes obs and action of sizes \(4, 3\), the frame encodes to \(4, 4\)'):
        FramedModel(BoatFrame(), Probe(), ACTION_SIZE + 1)


def test_batched_predictions_equal_predictions_one_by_one(model):
    obs, action = batches(members=3)
    mean, std = model.predict(obs, action)
    assert mean.shape == std.shape == obs.shape
    singles = [model.predict(obs[:, [row]], action[:, [row]]) for row in range(obs.shape[1])]
    torch.testing.assert_close((mean, std), tuple(torch.cat(parts, dim=1) for parts in zip(*singles)))


@pytest.mark.parametrize('obs, action', [((3, 5, 3), (3, 5, 2)), ((3, 5, 4), (3, 5, 3)), ((2, 5, 4), (2, 5, 2)), ((5, 4), (5, 2)),
                                         ((3, 5, 4), (3, 1, 2))])
def test_predictions_for_other_shapes_are_refused(model, obs, action):
    with pytest.raises(ShapeError, match=r'needs obs \(3, B, 4\) and action \(3, B, 2\), got'):
        model.predict(torch.zeros(obs), torch.zeros(action))


def test_predictions_in_another_type_are_refused(model):
    with pytest.raises(ShapeError, match='of float32, got float64 and float32'):
        model.predict(torch.zeros(3, 5, OBS_SIZE, dtype=torch.float64), torch.zeros(3, 5, ACTION_SIZE))


def test_what_was_learned_holds_in_every_direction(model):
    obs, action, next_obs = map(torch.from_numpy, boats(300, seed=1))
    before, after = error(model, obs, action, next_obs), error(model, elsewhere(obs), action, elsewhere(next_obs))
    assert before < 0.05
    assert after == pytest.approx(before, rel=1e-3)


def test_without_the_frame_it_does_not():
    plain = Predictor(EnsembleTrainer(SMALL).fit(*boats(400), seed=0).parameters)
    obs, action, next_obs = map(torch.from_numpy, boats(300, seed=1))
    assert error(plain, obs, action, next_obs) < 0.1
    assert error(plain, elsewhere(obs), action, elsewhere(next_obs)) > 0.5


@pytest.mark.parametrize('propagation', ['tsinf', 'ts1', 'expectation', 'moment_matching'])
def test_rollouts_of_a_framed_model_are_finite_and_of_their_shape(model, propagation):
    draws = ParticleDraws.undrawn(model, 4, 3, propagation).draw(torch.Generator().manual_seed(0))
    path = rollout(model, batches()[0][0, 0], torch.zeros(6, 4, ACTION_SIZE), draws)
    assert path.shape == (*draws.members.shape, 6, OBS_SIZE)
    assert torch.isfinite(path).all()
