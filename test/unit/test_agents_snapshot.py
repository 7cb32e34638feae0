"""Snapshots: exact on the way out and back, lean but equal in prediction, and impossible to damage unnoticed."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch

from mbrl_ros.agents.codec import decode, encode
from mbrl_ros.agents.snapshot import ModelCard, ModelSnapshot
from mbrl_ros.errors import ModelMismatchError, ShapeError, SnapshotError
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.linear import LinearPart
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.parameters import DynamicsParameters

CARD = ModelCard(version=3, robot='panda', task='reach', state_names=('a', 'b'), action_names=('a',), period_s=0.05,
                 num_transitions=120, trained_episode=4, holdout_rmse=0.0123, holdout_nll=-3.5, created_ns=1_700_000_000_000,
                 real_steps=150)
LAYOUT = {'robot': 'panda', 'task': 'reach', 'state_names': ('a', 'b'), 'action_names': ('a',), 'period_s': 0.05}


def random_parameters(seed=0, members=3, hidden_layers=2):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    ensemble = Ensemble(5, 4, EnsembleConfig(ensemble_size=members, hidden_layers=hidden_layers, hidden_size=8),
                        generator=generator)
    network = {name: value + 0.3 * draw(*value.shape) for name, value in ensemble.state_dict().items()}
    return DynamicsParameters(Normalizer(draw(5), draw(5).abs() + 0.2), Normalizer(0.1 * draw(4), 0.1 * draw(4).abs() + 0.01),
                              LinearPart(draw(members, 5, 4), draw(members, 1, 4)), draw(4).abs() + 0.1, network)


@pytest.fixture
def snapshot():
    return ModelSnapshot(CARD, random_parameters())


@pytest.mark.parametrize('hidden_layers', [1, 2, 3])
def test_folded_prediction_equals_the_plain_formula(hidden_layers):
    parameters = random_parameters(hidden_layers=hidden_layers)
    obs, action = torch.randn(3, 20, 4), torch.randn(3, 20, 1)
    inputs = parameters.inputs.normalize(torch.cat([obs, action], dim=-1))
    with torch.no_grad():
        residual, logvar = parameters.ensemble()(inputs)
    scale = parameters.residual_scale
    expected = obs + parameters.outputs.denormalize(parameters.linear(inputs) + scale * residual)
    mean, std = ModelSnapshot(CARD, parameters).predict(obs, action)
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(std, torch.exp(0.5 * logvar) * scale * parameters.outputs.std, atol=1e-6, rtol=1e-4)


def test_prediction_leaves_its_arguments_alone(snapshot):
    obs, action = torch.randn(3, 20, 4), torch.randn(3, 20, 1)
    before = obs.clone(), action.clone()
    first = snapshot.predict(obs, action)
    torch.testing.assert_close((obs, action), before, atol=0, rtol=0)
    torch.testing.assert_close(snapshot.predict(obs, action), first, atol=0, rtol=0)


@pytest.mark.parametrize(('obs', 'action'), [
    ((3, 5, 3), (3, 5, 1)), ((2, 5, 4), (2, 5, 1)), ((3, 5, 4), (3, 6, 1)), ((5, 4), (5, 1))])
def test_wrong_shapes_are_refused(snapshot, obs, action):
    with pytest.raises(ShapeError, match=r'predict needs obs \(3, B, 4\) and action \(3, B, 1\), got'):
        snapshot.predict(torch.zeros(obs), torch.zeros(action))


def test_disagreement_is_the_spread_of_the_means_in_output_units(snapshot):
    obs, action = torch.randn(7, 4), torch.randn(7, 1)
    means = [snapshot.predict(obs.expand(3, 7, 4), action.expand(3, 7, 1))[0][member].numpy() for member in range(3)]
    expected = (np.std(means, axis=0) / snapshot.parameters.outputs.std.numpy()).mean(axis=1)
    np.testing.assert_allclose(snapshot.disagreement(obs, action).numpy(), expected, rtol=1e-4)


def test_disagreement_of_one_member_is_zero():
    one = ModelSnapshot(CARD, random_parameters(members=1))
    assert (one.disagreement(torch.randn(3, 4), torch.randn(3, 1)) == 0).all()


def test_bytes_there_and_back_are_exact(snapshot):
    data = snapshot.to_bytes()
    again = ModelSnapshot.from_bytes(data)
    assert again.card == CARD and again.version == 3
    for name, tensor in snapshot.parameters.tensors().items():
        assert torch.equal(again.parameters.tensors()[name], tensor)
    obs, action = torch.randn(3, 6, 4), torch.randn(3, 6, 1)
    torch.testing.assert_close(again.predict(obs, action), snapshot.predict(obs, action), atol=0, rtol=0)
    assert again.to_bytes() == data


def test_safetensors_itself_reads_the_message(snapshot, tmp_path):
    snapshot.save(tmp_path / 'model.safetensors')
    with safetensors.safe_open(tmp_path / 'model.safetensors', 'pt') as file:
        assert json.loads(file.metadata()['robot']) == 'panda'
        assert file.metadata()['format_version'] == '1'
        assert torch.equal(file.get_tensor('linear.weight'), snapshot.parameters.linear.weight)


def test_every_flipped_byte_is_refused(snapshot):
    data = snapshot.to_bytes()
    header = 8 + int.from_bytes(data[:8], 'little')
    rng = np.random.default_rng(0)
    for place in [*range(header), *rng.integers(header, len(data), 300)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(8)
        with pytest.raises(SnapshotError, match='model '):
            ModelSnapshot.from_bytes(bytes(damaged))


def test_every_truncation_and_extension_is_refused(snapshot):
    data = snapshot.to_bytes()
    for size in [*range(0, 200), *range(200, len(data), 97), len(data) - 1]:
        with pytest.raises(SnapshotError, match='truncated|damaged'):
            ModelSnapshot.from_bytes(data[:size])
    with pytest.raises(SnapshotError, match='damaged'):
        ModelSnapshot.from_bytes(data + b'\0')


def test_random_bytes_are_refused():
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, 8, 9, 100, 5000):
        with pytest.raises(SnapshotError):
            ModelSnapshot.from_bytes(rng.bytes(size))
    with pytest.raises(SnapshotError, match='damaged or foreign'):
        ModelSnapshot.from_bytes((5000).to_bytes(8, 'little') + b'[' * 5000)


def test_foreign_safetensors_are_refused_by_name():
    with pytest.raises(SnapshotError, match='damaged or foreign'):
        ModelSnapshot.from_bytes(safetensors.torch.save({'x': torch.ones(2)}))
    with pytest.raises(SnapshotError, match="not a dynamics model: the format is 'pt'"):
        ModelSnapshot.from_bytes(safetensors.torch.save({'x': torch.ones(2)}, metadata={'format': 'pt'}))


def test_unknown_format_version_is_refused_by_number(snapshot):
    data = snapshot.to_bytes().replace(b'"format_version":"1"', b'"format_version":"9"')
    with pytest.raises(SnapshotError, match="unknown format version '9'; this program reads 1"):
        ModelSnapshot.from_bytes(data)


def resealed(snapshot, change):
    """Bytes with a valid digest whose tensors were changed before."""
    tensors, metadata = decode(snapshot.to_bytes())
    change(tensors, metadata)
    return encode(tensors, metadata)


@pytest.mark.parametrize(('change', 'text'), [
    (lambda t, m: t['network.weights.1'].fill_(float('nan')), "'network.weights.1' holds values that are not finite"),
    (lambda t, m: t['inputs.std'].fill_(0.0), "'inputs.std' needs positive values, got 0"),
    (lambda t, m: t.update({'network.weights.1': torch.zeros(3, 8, 9)}), r"'network.weights.1' needs shape \(3, 8, 8\)"),
    (lambda t, m: t.pop('network.biases.2'), 'missing or superfluous tensors: network.biases.2'),
    (lambda t, m: t.pop('inputs.mean'), "lacks a tensor.*inputs.mean"),
    (lambda t, m: t.update({'linear.weight': torch.zeros(4)}), 'without its axes'),
    (lambda t, m: t.update({'extra': torch.zeros(4)}), 'superfluous tensors: extra'),
    (lambda t, m: m.pop('robot'), "metadata lack a readable 'robot'"),
    (lambda t, m: m.update(version='"three"'), "'version' = \"three\", which is no int"),
    (lambda t, m: m.update(state_names='[1, 2]'), "'state_names' = .1, 2., which is no tuple"),
    (lambda t, m: m.update(state_names='["a"]'), 'names 1 states and 1 actions, but its tensors are for 4 observations'),
])
def test_sealed_nonsense_is_refused_by_name(snapshot, change, text):
    with pytest.raises(SnapshotError, match=text):
        ModelSnapshot.from_bytes(resealed(snapshot, change))


def test_a_file_from_before_steps_were_counted_has_made_those_that_it_was_trained_on(snapshot):
    assert ModelSnapshot.from_bytes(resealed(snapshot, lambda t, m: m.pop('real_steps'))).card.real_steps == CARD.num_transitions


def test_a_card_may_name_the_entries_of_observations_themselves(snapshot):
    card = dataclasses.replace(CARD, state_names=('a', 'b', 'c', 'd'), has_velocities=False)
    again = ModelSnapshot.from_bytes(ModelSnapshot(card, snapshot.parameters).to_bytes())
    assert again.card == card
    with pytest.raises(SnapshotError, match='names 2 states'):
        ModelSnapshot(dataclasses.replace(CARD, has_velocities=False), snapshot.parameters)


def test_a_card_from_before_there_were_others_has_velocities(snapshot):
    assert ModelSnapshot.from_bytes(resealed(snapshot, lambda t, m: m.pop('has_velocities'))).card == CARD


def test_a_model_fits_the_reward_that_its_card_names_and_any_where_it_names_none(snapshot):
    again = ModelSnapshot.from_bytes(ModelSnapshot(dataclasses.replace(CARD, reward='own:this'), snapshot.parameters).to_bytes())
    again.check_fits(**LAYOUT, reward='own:this')
    with pytest.raises(ModelMismatchError, match="version 3 was learned with the reward 'own:this', here it is 'built-in'"):
        again.check_fits(**LAYOUT, reward='built-in')
    ModelSnapshot.from_bytes(resealed(snapshot, lambda t, m: m.pop('reward'))).check_fits(**LAYOUT, reward='built-in')


def test_fitting_model_passes(snapshot):
    snapshot.check_fits(**LAYOUT)


@pytest.mark.parametrize(('name', 'value', 'text'), [
    ('robot', 'iiwa', "robot 'panda', here it is 'iiwa'"), ('task', 'push', "task 'reach', here it is 'push'"),
    ('state_names', ('b', 'a'), 'state_names a, b, here it is b, a'), ('action_names', ('b',), 'action_names a, here it is b'),
    ('has_velocities', False, 'takes positions and velocities, here it is the entries alone'),
    ('period_s', 0.1, 'predicts 0.05 s ahead, the control period is 0.1 s')])
def test_model_of_another_setting_is_refused_by_what_differs(snapshot, name, value, text):
    with pytest.raises(ModelMismatchError, match=text):
        snapshot.check_fits(**{**LAYOUT, name: value})


def test_saved_model_loads_and_nothing_else_stays(snapshot, tmp_path):
    path = tmp_path / 'deep' / 'model.safetensors'
    snapshot.save(path)
    ModelSnapshot(dataclasses.replace(CARD, version=4), snapshot.parameters).save(path)
    assert ModelSnapshot.load(path).version == 4
    assert [entry.name for entry in path.parent.iterdir()] == ['model.safetensors']


def test_file_errors_name_the_path(snapshot, tmp_path):
    path = tmp_path / 'model.safetensors'
    with pytest.raises(SnapshotError, match=f'{path}: cannot be read'):
        ModelSnapshot.load(path)
    path.write_bytes(snapshot.to_bytes()[:-5])
    with pytest.raises(SnapshotError, match=f'{path}: .*damaged'):
        ModelSnapshot.load(path)
    with pytest.raises(SnapshotError, match='cannot be written'):
        snapshot.save(path / 'below')
