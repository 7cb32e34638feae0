"""Bundles: exact on the way out and back, impossible to damage unnoticed, and refused by whatever does not fit."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from support.ensembles import random_parameters
from support.toy_rounds import ToySpace

from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.agents.codec import AGENT, DYNAMICS, decode, encode
from mbrl_ros.agents.pets import PetsLearner, PetsLearnerConfig
from mbrl_ros.errors import BundleError, ModelMismatchError
from mbrl_ros.spaces.joint_tool import JointToolSpace

CONTRACT = Contract(agent='pets', robot='panda', task='reach', space='joint', space_version=1, state_names=('a', 'b'),
                    action_names=('a',), period_s=0.05)
CARD = Card(version=3, contract=CONTRACT, num_transitions=120, trained_episode=4,
            figures={'holdout_rmse': 0.0123, 'holdout_nll': -3.5}, created_ns=1_700_000_000_000, real_steps=150)
LEARNER = PetsLearner(CONTRACT, ToySpace(), PetsLearnerConfig())


@pytest.fixture
def bundle():
    return AgentBundle(CARD, {'model': random_parameters().tensors()})


def test_bytes_there_and_back_are_exact(bundle):
    data = bundle.to_bytes()
    again = AgentBundle.from_bytes(data)
    assert again.card == CARD and again.version == 3
    assert list(again.groups) == ['model'] and set(again.group('model')) == set(bundle.group('model'))
    for name, tensor in bundle.group('model').items():
        assert torch.equal(again.group('model')[name], tensor)
    assert again.to_bytes() == data


def test_an_origin_is_kept_to_the_last_digit_and_files_without_one_have_none(bundle):
    card = dataclasses.replace(CARD, origin=(5_300_000.123456789, 0.0, 1.79e9, -4.0))
    assert AgentBundle.from_bytes(AgentBundle(card, bundle.groups).to_bytes()).card == card
    assert AgentBundle.from_bytes(resealed(bundle, lambda tensors, metadata: metadata.pop('origin'))).card == CARD
    for wrong in ('["1.0"]', '1.0', '[null]', '{}'):
        with pytest.raises(BundleError, match="metadata have 'origin' = .*, which is no tuple"):
            AgentBundle.from_bytes(resealed(bundle, lambda tensors, metadata, wrong=wrong: metadata.update(origin=wrong)))


def test_safetensors_itself_reads_the_message(bundle, tmp_path):
    bundle.save(tmp_path / 'model.safetensors')
    with safetensors.safe_open(tmp_path / 'model.safetensors', 'pt') as file:
        assert json.loads(file.metadata()['robot']) == 'panda'
        assert file.metadata()['format_version'] == '1'
        assert torch.equal(file.get_tensor('model.linear.weight'), bundle.group('model')['linear.weight'])


def test_groups_may_hold_tensors_of_several_kinds_and_names_with_dots():
    groups = {'policy': {'layers.0.weight': torch.rand(2, 3), 'mask': torch.tensor([1, 0, 1], dtype=torch.uint8)},
              'table': {'counts': torch.arange(5), 'values': torch.rand(5, dtype=torch.float64)}}
    again = AgentBundle.from_bytes(AgentBundle(CARD, groups).to_bytes())
    assert {group: set(members) for group, members in again.groups.items()} == {name: set(own) for name, own in groups.items()}
    for group, members in groups.items():
        for name, tensor in members.items():
            assert torch.equal(again.group(group)[name], tensor) and again.group(group)[name].dtype == tensor.dtype
    with pytest.raises(BundleError, match="has no tensors of 'model', only of policy, table"):
        again.group('model')
    with pytest.raises(BundleError, match="'policy.half' needs to be of .*got torch.float16"):
        AgentBundle(CARD, {'policy': {'half': torch.zeros(1, dtype=torch.float16)}}).to_bytes()


def test_every_flipped_byte_is_refused(bundle):
    data = bundle.to_bytes()
    header = 8 + int.from_bytes(data[:8], 'little')
    rng = np.random.default_rng(0)
    for place in [*range(header), *rng.integers(header, len(data), 300)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(8)
        with pytest.raises(BundleError, match='model '):
            AgentBundle.from_bytes(bytes(damaged))


def test_a_header_that_is_too_long_is_neither_read_nor_written():
    header = b'[' * 70_000
    with pytest.raises(BundleError, match='a header of 70000 bytes; at most 65536'):
        decode(len(header).to_bytes(8, 'little') + header)
    with pytest.raises(BundleError, match='a header of 7.... bytes; at most 65536'):
        encode({}, {'format': AGENT, 'notes': 'x' * 70_000})


def test_every_truncation_and_extension_is_refused(bundle):
    data = bundle.to_bytes()
    for size in [*range(0, 200), *range(200, len(data), 97), len(data) - 1]:
        with pytest.raises(BundleError, match='truncated|damaged'):
            AgentBundle.from_bytes(data[:size])
    with pytest.raises(BundleError, match='damaged'):
        AgentBundle.from_bytes(data + b'\0')


def test_random_bytes_are_refused():
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, 8, 9, 100, 5000):
        with pytest.raises(BundleError):
            AgentBundle.from_bytes(rng.bytes(size))
    with pytest.raises(BundleError, match='damaged or foreign'):
        AgentBundle.from_bytes((5000).to_bytes(8, 'little') + b'[' * 5000)


def test_foreign_safetensors_are_refused_by_name():
    with pytest.raises(BundleError, match='damaged or foreign'):
        AgentBundle.from_bytes(safetensors.torch.save({'x': torch.ones(2)}))
    with pytest.raises(BundleError, match="not an agent bundle: the format is 'pt'"):
        AgentBundle.from_bytes(safetensors.torch.save({'x': torch.ones(2)}, metadata={'format': 'pt'}))


def test_unknown_format_version_is_refused_by_number(bundle):
    data = bundle.to_bytes().replace(b'"format_version":"1"', b'"format_version":"9"')
    with pytest.raises(BundleError, match="unknown format version '9'; this program reads 1"):
        AgentBundle.from_bytes(data)


def resealed(bundle, change):
    """Bytes with a valid digest whose tensors were changed before."""
    tensors, metadata = decode(bundle.to_bytes())
    change(tensors, metadata)
    return encode(tensors, metadata)


@pytest.mark.parametrize(('change', 'text'), [
    (lambda t, m: t['model.network.weights.1'].fill_(float('nan')), "'network.weights.1' holds values that are not finite"),
    (lambda t, m: t['model.inputs.std'].fill_(0.0), "'inputs.std' needs positive values, got 0"),
    (lambda t, m: t.update({'model.network.weights.1': torch.zeros(3, 8, 9)}), r"'network.weights.1' needs shape \(3, 8, 8\)"),
    (lambda t, m: t.pop('model.network.biases.2'), 'missing or superfluous tensors: network.biases.2'),
    (lambda t, m: t.pop('model.inputs.mean'), 'lacks a tensor.*inputs.mean'),
    (lambda t, m: t.update({'model.linear.weight': torch.zeros(4)}), 'without its axes'),
    (lambda t, m: t.update({'model.extra': torch.zeros(4)}), 'superfluous tensors: extra'),
    (lambda t, m: t.clear(), "has no tensors of 'model', only of none"),
    (lambda t, m: m.pop('robot'), "metadata lack a readable 'robot'"),
    (lambda t, m: m.update(version='"three"'), "'version' = \"three\", which is no int"),
    (lambda t, m: m.update(state_names='[1, 2]'), "'state_names' = .1, 2., which is no tuple"),
    (lambda t, m: m.update(figures='{"rmse": "small"}'), "'figures' = .*, which is no Mapping"),
    (lambda t, m: m.update(state_names='["a"]'), 'names 1 states and 1 actions, but its tensors are for 4 observations'),
])
def test_sealed_nonsense_is_refused_by_name(bundle, change, text):
    with pytest.raises(BundleError, match=text):
        LEARNER.resume(AgentBundle.from_bytes(resealed(bundle, change)))


def test_a_card_may_name_the_entries_of_observations_themselves(bundle):
    contract = dataclasses.replace(CONTRACT, state_names=('a', 'b', 'c', 'd'), has_velocities=False)
    again = AgentBundle.from_bytes(dataclasses.replace(bundle, card=dataclasses.replace(CARD, contract=contract)).to_bytes())
    assert again.card.contract == contract and contract.obs_size == 4
    LEARNER.resume(again)


@pytest.mark.parametrize(('own', 'here', 'text'), [
    ({}, {}, ''), ({}, {'reward': 'built-in'}, ''), ({'reward': 'own:this'}, {'reward': 'own:this'}, ''),
    ({'reward': 'own:this'}, {'reward': 'built-in'}, "was learned with the reward 'own:this', here it is 'built-in'"),
    ({}, {'agent': 'dyna'}, "agent 'pets', here it is 'dyna'"),
    ({}, {'robot': 'iiwa'}, "robot 'panda', here it is 'iiwa'"), ({}, {'task': 'push'}, "task 'reach', here it is 'push'"),
    ({}, {'space': 'tool'}, "space 'joint', here it is 'tool'"),
    ({}, {'space_version': 2}, "learned in version 1 of the space 'joint', here it is version 2, whose features differ"),
    ({}, {'state_names': ('b', 'a')}, 'state_names a, b, here it is b, a'),
    ({}, {'action_names': ('b',)}, 'action_names a, here it is b'),
    ({}, {'has_velocities': False}, 'takes positions and velocities, here it is the entries alone'),
    ({}, {'period_s': 0.1}, 'predicts 0.05 s ahead, the control period is 0.1 s')])
def test_a_bundle_fits_its_contract_and_is_refused_elsewhere_by_what_differs(own, here, text):
    card = dataclasses.replace(CARD, contract=dataclasses.replace(CONTRACT, **own))
    wanted = dataclasses.replace(CONTRACT, **here)
    if not text:
        card.check_fits(wanted)
        return
    with pytest.raises(ModelMismatchError, match=f'model version 3 .*{text}'):
        card.check_fits(wanted)


def of_before(**changes):
    """A dynamics model as it was written before there were bundles; metadata that are None are left out."""
    metadata = {'version': 3, 'robot': 'panda', 'task': 'reach', 'state_names': ['a', 'b'], 'action_names': ['a'],
                'period_s': 0.05, 'num_transitions': 120, 'trained_episode': 4, 'holdout_rmse': 0.0123, 'holdout_nll': -3.5,
                'created_ns': 1_700_000_000_000, 'real_steps': 150, 'has_velocities': True, 'reward': '', **changes}
    texts = {name: json.dumps(value) for name, value in metadata.items() if value is not None}
    return encode(random_parameters().tensors(), {**texts, 'format': DYNAMICS})


def test_a_model_of_before_there_were_bundles_is_a_bundle_of_pets(bundle):
    again = AgentBundle.from_bytes(of_before())
    assert again.card == CARD and again.to_bytes() == bundle.to_bytes()
    oldest = AgentBundle.from_bytes(of_before(real_steps=None, has_velocities=None, reward=None))
    assert oldest.card == dataclasses.replace(CARD, real_steps=CARD.num_transitions)
    with pytest.raises(BundleError, match='lack readable state names or figures'):
        AgentBundle.from_bytes(of_before(holdout_rmse=None))


@pytest.mark.parametrize(('names', 'has_velocities', 'space'), [
    (('panda_joint1',), True, 'joint'), (('tool_x', 'object_x'), True, 'tool'),
    (('tool_x', 'tool_tilt_x'), True, 'joint_tool'), (('obs[0]', 'ended'), False, 'outcome')])
def test_the_space_of_a_model_of_before_is_told_by_its_names(names, has_velocities, space):
    contract = AgentBundle.from_bytes(of_before(state_names=names, has_velocities=has_velocities)).card.contract
    assert (contract.space, contract.space_version) == (space, 1)


def test_a_model_of_before_in_a_space_that_has_changed_since_is_refused():
    bundle = AgentBundle.from_bytes(of_before(state_names=['tool_x', 'tool_tilt_x']))
    now = dataclasses.replace(bundle.card.contract, space_version=JointToolSpace.version)
    with pytest.raises(ModelMismatchError, match="version 1 of the space 'joint_tool', here it is version 2.*learn it anew"):
        bundle.card.check_fits(now)


def test_saved_model_loads_and_nothing_else_stays(bundle, tmp_path):
    path = tmp_path / 'deep' / 'model.safetensors'
    bundle.save(path)
    dataclasses.replace(bundle, card=dataclasses.replace(CARD, version=4)).save(path)
    assert AgentBundle.load(path).version == 4
    assert [entry.name for entry in path.parent.iterdir()] == ['model.safetensors']


def test_file_errors_name_the_path(bundle, tmp_path):
    path = tmp_path / 'model.safetensors'
    with pytest.raises(BundleError, match=f'{path}: cannot be read'):
        AgentBundle.load(path)
    path.write_bytes(bundle.to_bytes()[:-5])
    with pytest.raises(BundleError, match=f'{path}: .*damaged'):
        AgentBundle.load(path)
    with pytest.raises(BundleError, match='cannot be written'):
        bundle.save(path / 'below')
