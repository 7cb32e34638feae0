"""An entry that never comes back is named."""

import numpy as np

from mbrl_ros.models.extrapolation import never_back

EPISODES = np.repeat(np.arange(6), 10)
NAMES = ('place', 'clock', 'battery', 'constant', 'time in the episode')


def observations():
    steps = np.arange(60.0)
    place = np.random.default_rng(0).normal(size=60)
    return np.stack([place, 1.79e9 + 0.05 * steps, 12.0 - 0.001 * steps, np.ones(60), steps % 10], axis=1)


def test_what_only_grows_or_falls_is_named_and_nothing_else():
    told = never_back(observations(), EPISODES, NAMES)
    assert [sentence.split(' from ')[0] for sentence in told] == ['clock only grows', 'battery only falls']


def test_a_few_episodes_tell_nothing():
    few = EPISODES < 4
    assert never_back(observations()[few], EPISODES[few], NAMES) == ()


def test_an_entry_that_once_came_back_is_not_named():
    obs = observations()
    obs[-10:, 1] = obs[:10, 1]
    assert len(never_back(obs, EPISODES, NAMES)) == 1
