"""The one place that calls an environment.

Environments are other people's code. Whatever one of them raises, and whatever it returns amiss, becomes one line with its name.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Space

from mbrl_ros.errors import ConfigError, MeasurementError
from mbrl_ros.modules import first_line, working_directory_modules
from mbrl_ros.signals import Ended

_RESET = 'Gymnasium\'s reset(*, seed=None, options=None) returns observation and info'
_STEP = 'Gymnasium\'s step(action) returns observation, reward, terminated, truncated and info'


class Stepped(NamedTuple):
    """What a step of an environment returned."""

    obs: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class ForeignEnvironment:
    """A Gymnasium environment whose methods raise nothing but `MeasurementError`, except for signals.

    Args:
        env_id: Id for `gymnasium.make`, such as `Name-v0` or `module:Name-v0`.
        render: Whether `render` will be called.

    Raises:
        ConfigError: There is no such environment, it cannot be made, or it needs something that is not installed.

    Attributes:
        env_id: Id of the environment.
        observation_space, action_space: Its spaces.
        max_steps: Steps after which the environment itself ends an episode; None for no limit.
        has_compute_reward: Whether it has a `compute_reward`, as environments with goals do.
    """

    def __init__(self, env_id: str, *, render: bool = False) -> None:
        self.env_id = env_id
        self._env, self._has_worked = _made(env_id, render), set()
        self.observation_space: Space = self._env.observation_space
        self.action_space: Space = self._env.action_space
        self.max_steps: int | None = self._env.spec.max_episode_steps if self._env.spec else None
        self.has_compute_reward = callable(getattr(self._env.unwrapped, 'compute_reward', None))

    @property
    def period_s(self) -> float:
        """Duration of a step: `dt`, else the time of a picture, else 1 s.

        Raises:
            MeasurementError: The environment has a `dt` that is no duration.
        """
        with self._calls('dt'):
            period = getattr(self._env.unwrapped, 'dt', None)
        if period is None:
            rate = (self._env.metadata or {}).get('render_fps')
            period = 1.0 / rate if rate else 1.0
        number = self._number(period, 'dt', 'a number of seconds above 0')
        if number <= 0.0:
            raise MeasurementError(f'{self.env_id} has dt = {period!r}, where a number of seconds above 0 fits')
        return number

    def reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; returns observation and info.

        Raises:
            MeasurementError: The environment raised an exception, or returned something else.
        """
        with self._calls('reset', _RESET):
            returned = self._env.reset(seed=seed)
        if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], dict):
            raise MeasurementError(f'{self.env_id}: reset returned {_kind(returned)}; {_RESET}')
        return returned

    def step(self, action: Any) -> Stepped:
        """Make a step with an action of the action space.

        Raises:
            MeasurementError: The environment raised an exception, or returned something else, or a reward that is not finite.
        """
        with self._calls('step', _STEP):
            returned = self._env.step(action)
        if not isinstance(returned, tuple) or len(returned) != 5 or not isinstance(returned[4], dict):
            raise MeasurementError(f'{self.env_id}: step returned {_kind(returned)}; {_STEP}')
        obs, reward, terminated, truncated, info = returned
        return Stepped(obs, self._number(reward, 'the reward', 'a finite number'),
                       self._flag(terminated, 'terminated'), self._flag(truncated, 'truncated'), info)

    def compute_reward(self, achieved: Any, desired: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Rewards of achieved and desired goals, float64, of a shape: () for one pair of goals, (B,) for batches of them.

        Raises:
            MeasurementError: The environment raised an exception, or returned something else.
        """
        with self._calls('compute_reward'):
            rewards = np.asarray(self._env.unwrapped.compute_reward(achieved, desired, {}), dtype=np.float64)
        if rewards.shape != shape and (shape or rewards.size != 1):
            raise MeasurementError(f'{self.env_id}: compute_reward returned {_kind(rewards)}, where shape {shape} fits')
        return rewards.reshape(shape)

    def render(self) -> np.ndarray:
        """Picture, shape (height, width, 3), uint8.

        Raises:
            ConfigError: The environment cannot render pictures.
        """
        try:
            picture = self._env.render()
        except Exception as error:  # Rendering libraries and drivers raise errors of their own.
            raise ConfigError(f'{self.env_id} cannot be pictured ({first_line(error)})') from None
        if not isinstance(picture, np.ndarray) or picture.ndim != 3:
            raise ConfigError(f'{self.env_id} cannot be pictured: it has no render mode rgb_array')
        return picture

    def close(self) -> None:
        """Close the environment; what it raises then changes nothing any more."""
        with contextlib.suppress(Exception):
            self._env.close()

    def _number(self, value: Any, what: str, fits: str) -> float:
        """A number, or an array of one."""
        try:
            number = float(np.asarray(value).item())
        except (TypeError, ValueError):
            raise MeasurementError(f'{self.env_id} gave {what} {_kind(value)}, where {fits} fits') from None
        if not np.isfinite(number):
            raise MeasurementError(f'{self.env_id} gave {what} {number}, which is not finite')
        return number

    def _flag(self, value: Any, name: str) -> bool:
        flag = np.asarray(value)
        if flag.size != 1 or flag.dtype.kind not in 'biuf':
            raise MeasurementError(f'{self.env_id} gave {name} = {_kind(value)}, where true or false fits')
        return bool(flag.item())

    @contextlib.contextmanager
    def _calls(self, what: str, convention: str = '') -> Iterator[None]:
        """Run the environment's code; an error of the first call may come from another `convention` of calls."""
        try:
            yield
        except Ended:
            raise
        except (Exception, SystemExit) as error:  # Environments may raise anything.
            hint = f'; {convention}' if convention and what not in self._has_worked else ''
            raise MeasurementError(f'{self.env_id}: {what} raised {type(error).__name__}: {first_line(error)}{hint}') from None
        self._has_worked.add(what)


def _made(env_id: str, render: bool) -> gymnasium.Env:
    arguments = {'render_mode': 'rgb_array'} if render else {}
    try:
        with working_directory_modules():
            # Gymnasium's checker only warns of what is an error here.
            return gymnasium.make(env_id, disable_env_checker=True, **arguments)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f'{env_id} needs what is not installed: {first_line(error)}') from None
    except gymnasium.error.Error as error:
        raise ConfigError(first_line(error)) from None
    except Ended:
        raise
    except (Exception, SystemExit) as error:  # Environments may raise anything.
        raise ConfigError(f'{env_id} cannot be made: {type(error).__name__}: {first_line(error)}') from None


def _kind(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, tuple):
        return f'{len(value)} values'
    if isinstance(value, np.ndarray):
        return f'an array of shape {value.shape}'
    return repr(value) if value is None or isinstance(value, (str, bool, int, float)) else type(value).__name__
