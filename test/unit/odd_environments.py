"""Environments that break Gymnasium's conventions, each in one way; `odd_environments:odd/…`."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from mbrl_ros.signals import Ended


class Even(gymnasium.Env):
    """Keeps them all."""

    metadata = {'render_modes': []}
    observation_space, action_space = Box(-np.inf, np.inf, (2,), np.float32), Box(0.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 1.0, False, False, {}


def _returning(name, method, value):
    return type(name, (Even,), {method: lambda self, *_, **__: value})


def _raising(name, method, error):
    def fail(self, *_, **__):
        raise error
    return type(name, (Even,), {method: fail})


_OBS = np.zeros(2, np.float32)
KINDS = [
    Even,
    _returning('FourValues', 'step', (_OBS, 0.0, False, {})),
    _returning('ObsOnly', 'reset', _OBS),
    _returning('NoObs', 'reset', None),
    _returning('ThreeEntries', 'step', (np.zeros(3, np.float32), 0.0, False, False, {})),
    _returning('TextObs', 'step', ('here', 0.0, False, False, {})),
    _returning('TwoRewards', 'step', (_OBS, np.zeros(2), False, False, {})),
    _returning('NoReward', 'step', (_OBS, None, False, False, {})),
    _returning('InfiniteReward', 'step', (_OBS, float('inf'), False, False, {})),
    _returning('NoEnd', 'step', (_OBS, 0.0, None, False, {})),
    _returning('NoInfo', 'step', (_OBS, 0.0, False, False, None)),
    _returning('NanObs', 'reset', (np.array([0.0, np.nan]), {})),
    _returning('ArraysOfOne', 'step', (_OBS, np.array([2.5], np.float32), np.array([False]), np.bool_(False), {})),
    _raising('Raising', 'step', RuntimeError('the bench is off\nsecond line')),
    _raising('Exiting', 'reset', SystemExit(3)),
    _raising('EndedAtReset', 'reset', Ended(143)), _raising('EndedAtStep', 'step', Ended(143)),
    _raising('EndedAtMake', '__init__', Ended(143)),
    type('NoSeed', (Even,), {'reset': lambda self: (_OBS, {})}),
    *(type(f'Dt{name}', (Even,), {'dt': value}) for name, value in (
        ('Zero', 0.0), ('Negative', -0.1), ('Nan', float('nan')), ('Text', 'fast'), ('Pair', np.zeros(2)),
        ('Property', property(lambda self: 1 / 0)), ('ArrayOfOne', np.array([0.25])))),
]
for _kind in KINDS:
    gymnasium.register(f'odd/{_kind.__name__}-v0', _kind, max_episode_steps=5)
