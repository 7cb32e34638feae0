"""Environments with goals and discrete actions, so small that they are learned within a test; `goal_environments:goal/…`."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

_ANYWHERE = Box(-np.inf, np.inf, (2,), np.float64)


class Point(gymnasium.Env):
    """A point in the plane goes up to 0.2 along each axis towards a goal; `reward` is sparse, dense or something else."""

    metadata = {'render_modes': []}
    tolerance = 0.1

    def __init__(self, kind='sparse', ends=False):
        self.kind, self.ends = kind, ends
        self.observation_space = Dict({'observation': Box(-np.inf, np.inf, (1,), np.float64), 'achieved_goal': _ANYWHERE,
                                       'desired_goal': _ANYWHERE})
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = np.zeros(2), self.np_random.uniform(0.4, 0.8, 2) * self.np_random.choice([-1.0, 1.0], 2)
        return self.obs(), {'is_success': False}

    def step(self, action):
        self.place = np.clip(self.place + 0.2 * action, -1.0, 1.0)
        is_there = bool(np.linalg.norm(self.place - self.goal) < self.tolerance)
        reward = self.compute_reward(self.place, self.goal, {})
        return self.obs(), reward, self.ends and is_there, False, {'is_success': is_there}

    def compute_reward(self, achieved, desired, info):
        distance = np.linalg.norm(achieved - desired, axis=-1)
        return {'sparse': -(distance > self.tolerance).astype(np.float32), 'dense': -distance}.get(self.kind, 0.0 * distance)

    def obs(self):
        return {'observation': np.array([1.0]), 'achieved_goal': self.place.copy(), 'desired_goal': self.goal.copy()}


class Table(Point):
    """A hand that the actions move, and a thing at rest."""

    def __init__(self):
        super().__init__()
        self.observation_space = Dict({**self.observation_space.spaces, 'observation': _ANYWHERE})

    def obs(self):
        return {**super().obs(), 'observation': self.place.copy(), 'achieved_goal': np.zeros(2)}

    def step(self, action):
        obs, *_ = super().step(action)
        return obs, self.compute_reward(obs['achieved_goal'], self.goal, {}), False, False, {'is_success': False}


class Elsewhere(Point):
    """What it computes is not what a step pays."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 7.0, *rest


class OneByOne(Point):
    """Computes the reward of one goal only."""

    def compute_reward(self, achieved, desired, info):
        assert achieved.ndim == 1
        return super().compute_reward(achieved, desired, info)


class Plain(Point):
    """Has goals, but computes nothing."""

    compute_reward = None

    def step(self, action):
        self.place = np.clip(self.place + 0.2 * action, -1.0, 1.0)
        return self.obs(), -float(np.linalg.norm(self.place - self.goal)), False, False, {}


class Keys(gymnasium.Env):
    """A point on a line goes left, stays or goes right by a key, and is paid for being at 0.6."""

    metadata = {'render_modes': []}

    def __init__(self, actions=None):
        self.observation_space, self.action_space = Box(-np.inf, np.inf, (1,), np.float64), actions or Discrete(3, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.5, 0.0)
        return np.array([self.x]), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.told = action
        self.x += 0.1 * float(np.sum(action))
        return np.array([self.x]), -(self.x - 0.6)**2, False, False, {'success': np.array([abs(self.x - 0.6) < 0.1])}


for _name, _kind, _arguments in (
        ('Sparse-v0', Point, {'ends': True}), ('Dense-v0', Point, {'kind': 'dense'}), ('Table-v0', Table, {}),
        ('Elsewhere-v0', Elsewhere, {}), ('OneByOne-v0', OneByOne, {}), ('Plain-v0', Plain, {}), ('Keys-v0', Keys, {}),
        ('Chords-v0', Keys, {'actions': MultiDiscrete([3, 2], start=[-1, 0])}),
        ('Switches-v0', Keys, {'actions': MultiBinary(2)})):
    gymnasium.register(f'goal/{_name}', _kind, max_episode_steps=10, kwargs=_arguments)
