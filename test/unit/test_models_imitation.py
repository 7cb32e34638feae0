"""A policy imitates few demonstrations by relations between entries, and is the same for equal seeds."""

import numpy as np
import pytest
import torch

from mbrl_ros.errors import BundleError, TrainingCancelled
from mbrl_ros.models.imitation import ImitationConfig, Policy, imitate

CONFIG = ImitationConfig(max_steps=200, ensemble_size=2, hidden_size=16)
#: Of (hand, thing): the way from one to the other, with one number each.
WAY = np.array([[[0]], [[1]]])


def shown(count=40, seed=0):
    """Steps of somebody who reaches for a thing: half of the way, wherever hand and thing are."""
    obs = np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 2))
    return obs, np.clip(0.5 * (obs[:, 1:] - obs[:, :1]), -1.0, 1.0)


def error(policy, shift=0.0):
    obs, action = shown(200, seed=1)
    found = policy.actions(torch.tensor(obs + shift, dtype=torch.float32)).mean(dim=0).numpy()
    return np.sqrt(np.square(found - action).mean())


def test_a_relation_shows_what_few_demonstrations_mean():
    with_way, without = (imitate(*shown(), CONFIG, relations=relations, seed=0) for relations in (WAY, None))
    assert error(with_way) < 0.1
    assert error(with_way, shift=3.0) < 0.5 * error(without, shift=3.0)


def test_a_relation_is_that_of_observations_with_their_origin():
    obs, action = shown()
    plain = imitate(obs, action, CONFIG, relations=WAY, seed=0)
    shifted = imitate(obs - [3.0, 7.0], action, CONFIG, relations=WAY, origin=(3.0, 7.0), seed=0)
    torch.testing.assert_close(shifted.actions(torch.tensor(obs - [3.0, 7.0]).float()), plain.actions(torch.tensor(obs).float()),
                               atol=0.02, rtol=0.0)


def test_the_same_seed_gives_the_same_bytes_and_tensors_give_the_same_policy():
    first, again, other = (imitate(*shown(), CONFIG, relations=WAY, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, again.tensors()[name]) for name, value in first.tensors().items())
    obs = torch.tensor(shown(5)[0]).float()
    assert not torch.equal(first.actions(obs), other.actions(obs))
    read = Policy.from_tensors(first.tensors(), 2, 1)
    assert torch.equal(read.actions(obs), first.actions(obs)) and read.num_steps == 40


def test_what_is_no_policy_of_these_sizes_is_refused():
    tensors = imitate(*shown(), CONFIG, relations=WAY, seed=0).tensors()
    with pytest.raises(BundleError, match='actions of 1 numbers, here they have 2'):
        Policy.from_tensors(tensors, 2, 2)
    for broken, size in ((tensors, 5), ({**tensors, 'inputs.mean': torch.zeros(7)}, 2), ({}, 2)):
        with pytest.raises(BundleError, match='no policy that imitates'):
            Policy.from_tensors(broken, size, 1)


def test_imitation_can_be_cancelled():
    with pytest.raises(TrainingCancelled):
        imitate(*shown(), CONFIG, seed=0, is_cancelled=lambda: True)
