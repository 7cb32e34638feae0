"""The experience beside a model: what is read is what was kept, and nothing else is taken for it."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file

from mbrl_ros.errors import BagError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.experience.saved import SavedExperience, saved_experience_path
from mbrl_ros.models.ensemble.split import holdout_mask

OBS_SIZE, ACTION_SIZE, PERIOD_NS = 4, 2, 50_000_000


def rows(count: int, seed: int = 0) -> Transitions:
    rng = np.random.default_rng(seed)
    obs, action, next_obs = (rng.normal(size=(count, size)) for size in (OBS_SIZE, ACTION_SIZE, OBS_SIZE))
    return Transitions.of(obs, action, next_obs, np.arange(count) * PERIOD_NS, episode=np.arange(count) // 10)


def load(path):
    return SavedExperience.load(path, OBS_SIZE, ACTION_SIZE)


def test_what_is_read_is_what_was_kept_to_the_last_digit(tmp_path):
    kept = SavedExperience(rows(30), np.arange(20) * PERIOD_NS)
    kept.save(tmp_path / 'lift.safetensors')
    read = load(tmp_path / 'lift.safetensors')
    for name, values in kept.transitions.columns().items():
        np.testing.assert_array_equal(getattr(read.transitions, name), values)
    np.testing.assert_array_equal(read.learned_stamp_ns, kept.learned_stamp_ns)
    assert saved_experience_path(tmp_path / 'lift.safetensors').name == 'lift.experience.safetensors'


def test_files_of_before_have_single_precision_and_are_read(tmp_path):
    before = rows(30)
    short = dataclasses.replace(before, obs=before.obs.astype(np.float32), next_obs=before.next_obs.astype(np.float32))
    SavedExperience(short, before.stamp_ns).save(tmp_path / 'lift.safetensors')
    joined = load(tmp_path / 'lift.safetensors').followed_by(rows(10, seed=1))
    np.testing.assert_allclose(joined.obs[:30], before.obs, rtol=1e-6)
    np.testing.assert_array_equal(joined.obs[30:], rows(10, seed=1).obs)


def test_a_model_without_experience_beside_it_has_none(tmp_path):
    assert load(tmp_path / 'lift.safetensors') is None


def test_others_follow_with_stamps_of_their_own_and_what_was_held_out_stays_so():
    before, others = rows(40), rows(15, seed=1)
    joined = SavedExperience(before, before.stamp_ns).followed_by(others)
    assert len(np.unique(joined.stamp_ns)) == 55
    np.testing.assert_array_equal(np.diff(joined.stamp_ns[40:]), np.diff(others.stamp_ns))
    np.testing.assert_array_equal(joined.obs[40:], others.obs)
    np.testing.assert_array_equal(holdout_mask(joined.stamp_ns, 0.2)[:40], holdout_mask(before.stamp_ns, 0.2))


def test_nothing_may_follow():
    before = rows(40)
    assert len(SavedExperience(before, before.stamp_ns).followed_by(rows(0)).obs) == 40


@pytest.mark.parametrize(('damage', 'text'), [
    (lambda path: path.write_bytes(path.read_bytes()[:-5]), 'cannot be read'),
    (lambda path: save_file({'obs': np.zeros((3, OBS_SIZE))}, path), 'is not experience that this package has written'),
    (lambda path: SavedExperience(dataclasses.replace(rows(5), action=np.zeros((5, 3))), np.arange(5)).save(
        path.with_name('lift.safetensors')),
     r'action has the shape \(5, 3\), needed is \(5, 2\)'),
], ids=['truncated', 'foreign', 'other sizes'])
def test_what_cannot_be_used_is_refused_with_its_path(tmp_path, damage, text):
    SavedExperience(rows(5), np.arange(5)).save(tmp_path / 'lift.safetensors')
    damage(tmp_path / 'lift.experience.safetensors')
    with pytest.raises(BagError, match=f'lift.experience.safetensors: {text}'):
        load(tmp_path / 'lift.safetensors')
