"""Environments so small that they are learned within a test; `gymnasium.make('tiny_environments:tiny/…')` finds them."""

import multiprocessing
import os
import signal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Text


class Slider(gymnasium.Env):
    """A point on a line of length 3 goes as far as it is told; being away from a mark costs the distance squared.

    Where there is a wall, running into it is the end, and until then each step is paid.
    """

    metadata = {'render_modes': ['rgb_array'], 'render_fps': 10}
    mark, step_length = 0.6, 0.5

    def __init__(self, wall=np.inf, render_mode=None):
        self.render_mode, self.wall = render_mode, wall
        self.observation_space = Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = Box(-1.0, 3.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.5, 0.5)
        return self.obs(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.slide(float(action[0]))
        return self.obs(), self.reward(), bool(self.x > self.wall), False, {'is_success': bool(abs(self.x - self.mark) < 0.1)}

    def slide(self, action):
        self.x = float(np.clip(self.x + self.step_length * 0.5 * (action - 1.0), -1.5, 1.5))

    def reward(self):
        return 1.0 if np.isfinite(self.wall) else -(self.x - self.mark)**2

    def obs(self):
        return np.array([self.x], dtype=np.float32)

    def render(self):
        return np.full((40, 60, 3), round(100 + 50 * np.tanh(self.x)), dtype=np.uint8)


class Parts(Slider):
    """The same with its observation in parts, and two actions, of which the second does nothing."""

    def __init__(self):
        super().__init__()
        self.observation_space = Dict({'where': Box(-np.inf, np.inf, (2, 1), np.float64),
                                       'about': Dict({'mark': Box(0.0, 1.0, (1,), np.float32)})})
        self.action_space = Box(np.array([[-1.0, 0.0]]), np.array([[3.0, 10.0]]), dtype=np.float64)

    def step(self, action):
        assert self.action_space.contains(action)
        self.told = action
        self.slide(float(action[0, 0]))
        return self.obs(), self.reward(), False, False, {}

    def render(self):
        return None

    def obs(self):
        return {'where': np.array([[self.x], [2.0 * self.x]]), 'about': {'mark': np.array([self.mark], dtype=np.float32)}}


class Far(Slider):
    """A thousand lengths from the origin, but for the trial."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        return super().reset(seed=seed)

    def obs(self):
        return super().obs() + (1000.0 if self.resets > 1 else 0.0)


class Odd(Slider):
    """With any spaces, and any reward."""

    def __init__(self, actions=None, observations=None, paid=0.0):
        super().__init__()
        self.action_space, self.observation_space = actions or self.action_space, observations or self.observation_space
        self.paid = paid

    def reward(self):
        return self.paid


class Breaking(Slider):
    """Its sensor fails after some time."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps > 20:
            raise RuntimeError('serial port /dev/ttyUSB0 is gone\nsecond line')
        return super().step(action)


class Interrupted(Slider):
    """A person presses Ctrl-C, which all processes of the group are told, when a worker makes it or begins an episode.

    An episode begins with the second reset; the first is for a step of trial.
    """

    def __init__(self, early=False):
        super().__init__()
        self.early, self.resets = early, 0
        if early and multiprocessing.parent_process():
            os.killpg(0, signal.SIGINT)

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        if not self.early and self.resets == 2:
            os.killpg(0, signal.SIGINT)
        return super().reset(seed=seed)


class Terminated(Slider):
    """Somebody ends the command that started this worker."""

    def reset(self, *, seed=None, options=None):
        if multiprocessing.parent_process():
            os.kill(os.getppid(), signal.SIGTERM)
        return super().reset(seed=seed)


class InterruptedLater(Slider):
    """A person presses Ctrl-C when its second episode begins, after a step of trial."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        if self.resets == 3:
            signal.raise_signal(signal.SIGINT)
        return super().reset(seed=seed)


for _name, _kind, _limit, _arguments in (
        ('Slider-v0', Slider, 12, {}), ('Walled-v0', Slider, 12, {'wall': 0.7}), ('Parts-v0', Parts, 12, {}),
        ('Endless-v0', Slider, None, {}), ('Textual-v0', Odd, 12, {'actions': Text(3)}),
        ('Unbounded-v0', Odd, 12, {'actions': Box(-np.inf, 1.0, (2,), np.float32)}),
        ('Pixels-v0', Odd, 12, {'observations': Box(0, 255, (4, 4), np.uint8)}),
        ('Broken-v0', Odd, 12, {'paid': float('nan')}), ('Breaking-v0', Breaking, 12, {}),
        ('Unpaid-v0', Odd, 12, {'paid': -1.0}), ('Long-v0', Slider, 40, {}), ('Far-v0', Far, 12, {}),
        ('Interrupted-v0', Interrupted, 12, {}),
        ('InterruptedLater-v0', InterruptedLater, 12, {}), ('Terminated-v0', Terminated, 12, {}),
        ('InterruptedEarly-v0', Interrupted, 12, {'early': True})):
    gymnasium.register(f'tiny/{_name}', _kind, max_episode_steps=_limit, kwargs=_arguments)
