"""Whatever an environment does amiss is one line with its name, before any work; an array of one number is a number."""

import contextlib

import numpy as np
import pytest

from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.errors import ConfigError
from mbrl_ros.signals import Ended

_RESET = 'Gymnasium\'s reset(*, seed=None, options=None) returns observation and info'
_STEP = 'Gymnasium\'s step(action) returns observation, reward, terminated, truncated and info'


def made(name):
    return contextlib.closing(FlatEnvironment(f'odd_environments:odd/{name}-v0'))


@pytest.mark.parametrize(('name', 'texts'), [
    ('FourValues', ['step raised ValueError: not enough values to unpack', _STEP]),
    ('ObsOnly', ['reset returned an array of shape (2,)', _RESET]),
    ('NoObs', ['reset', _RESET]),
    ('NoSeed', ['reset raised TypeError', 'seed', _RESET]),
    ('ThreeEntries', ['gave an observation of 3 numbers, its space', 'has 2']),
    ('TextObs', ['gave an observation that does not fit its space']),
    ('TwoRewards', ['gave the reward an array of shape (2,), where a finite number fits']),
    ('NoReward', ['gave the reward None, where a finite number fits']),
    ('InfiniteReward', ['gave the reward inf, which is not finite']),
    ('NoEnd', ['gave terminated = None, where true or false fits']),
    ('NoInfo', ['step returned 5 values', _STEP]),
    ('NanObs', ['gave an observation that is not finite, in obs[1]']),
    ('Raising', ['step raised RuntimeError: the bench is off']),
    ('Exiting', ['reset raised SystemExit: 3']),
    ('DtZero', ['has dt = 0.0, where a number of seconds above 0 fits']),
    ('DtNegative', ['has dt = -0.1, where']), ('DtNan', ['gave dt nan, which is not finite']),
    ('DtText', ["gave dt 'fast', where a number of seconds above 0 fits"]),
    ('DtPair', ['gave dt an array of shape (2,), where']), ('DtProperty', ['dt raised ZeroDivisionError']),
])
def test_a_broken_convention_is_one_line(name, texts):
    with pytest.raises(ConfigError) as refusal, made(name):
        pass
    assert f'odd/{name}-v0' in str(refusal.value) and '\n' not in str(refusal.value)
    for text in texts:
        assert text in str(refusal.value)


@pytest.mark.parametrize('call', ['Make', 'Reset', 'Step'])
def test_a_signal_ends_the_program_whatever_it_interrupts(call):
    with pytest.raises(Ended), made(f'EndedAt{call}'):
        pass


def test_arrays_of_one_are_numbers():
    with made('ArraysOfOne') as env:
        env.reset(0)
        stepped = env.step(np.zeros(1))
        assert stepped[1:4] == (2.5, False, False)
        assert [type(value) for value in stepped[1:4]] == [float, bool, bool]
    with made('DtArrayOfOne') as env:
        assert env.period_s == 0.25
