"""A Gymnasium environment with flat observations and actions in [-1, 1]; others are refused before any work starts."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from gymnasium.spaces.utils import flatten

from mbrl_ros.errors import ConfigError, MeasurementError
from mbrl_ros.modules import first_line, working_directory_modules


class FlatEnvironment:
    """An environment whose observations and actions are vectors.

    A Dict observation is concatenated in Gymnasium's order, sorted by key.

    Args:
        env_id: Id for `gymnasium.make`, such as `Name-v0` or `module:Name-v0`.
        render: Whether `picture` will be called.

    Raises:
        ConfigError: There is no such environment, it needs something that is not installed, or a space is not supported.

    Attributes:
        env_id: Id of the environment.
        obs_names: Names of the O entries of an observation.
        action_names: Names of the A entries of an action.
        low: The environment's actions for -1, shape (A,), float64.
        high: The environment's actions for 1, shape (A,), float64.
        max_steps: Steps after which the environment itself ends an episode; None for no limit.
        period_s: Duration of a step; 1 s if the environment does not define it.
    """

    def __init__(self, env_id: str, *, render: bool = False) -> None:
        self.env_id = env_id
        self._env = _made(env_id, render)
        try:
            self.obs_names = tuple(_names(self._env.observation_space, env_id))
            self._action_space = _checked_actions(self._env.action_space, env_id)
        except ConfigError:
            self._env.close()
            raise
        self.low = np.asarray(self._action_space.low, dtype=np.float64).ravel()
        self.high = np.asarray(self._action_space.high, dtype=np.float64).ravel()
        self.action_names = tuple(f'action[{index}]' for index in range(len(self.low)))
        self.max_steps = self._env.spec.max_episode_steps if self._env.spec else None
        period, rate = getattr(self._env.unwrapped, 'dt', None), self._env.metadata.get('render_fps')
        self.period_s = float(period or (1.0 / rate if rate else 1.0))

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; returns its first observation, shape (O,), float64.

        Raises:
            MeasurementError: The observation is not finite.
        """
        obs, _ = self._env.reset(seed=seed)
        return self._flat(obs)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold an action, shape (A,), in [-1, 1], for a step.

        Returns:
            Observation, shape (O,), float64, reward, and Gymnasium's terminated, truncated and info.

        Raises:
            MeasurementError: Observation or reward is not finite.
        """
        space = self._action_space
        scaled = self.low + 0.5 * (np.clip(action, -1.0, 1.0) + 1.0) * (self.high - self.low)
        # Rounding to the space's type may exceed a bound slightly.
        scaled = np.clip(scaled.reshape(space.shape).astype(space.dtype), space.low, space.high)
        obs, reward, terminated, truncated, info = self._env.step(scaled)
        if not np.isfinite(float(reward)):
            raise MeasurementError(f'{self.env_id} gave the reward {float(reward)}, which is not finite')
        return self._flat(obs), float(reward), bool(terminated), bool(truncated), info

    def picture(self) -> np.ndarray:
        """Render the environment, shape (height, width, 3), uint8.

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
        """Close the environment."""
        self._env.close()

    def _flat(self, obs: Any) -> np.ndarray:
        values = np.asarray(flatten(self._env.observation_space, obs), dtype=np.float64)
        if not np.isfinite(values).all():
            name = self.obs_names[int(np.argmin(np.isfinite(values)))]
            raise MeasurementError(f'{self.env_id} gave an observation that is not finite, in {name}')
        return values


def file_name(env_id: str) -> str:
    """Name of an environment's files: without the module, and with `-` instead of `/`."""
    return env_id.rpartition(':')[2].replace('/', '-')


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
    except Exception as error:  # Environments may raise anything.
        raise ConfigError(f'{env_id} cannot be made: {type(error).__name__}: {first_line(error)}') from None


def _names(space: Space, env_id: str, key: str = '') -> list[str]:
    """Names of the entries in the order of `flatten`."""
    if isinstance(space, Dict):
        return [name for part, inner in space.spaces.items() for name in _names(inner, env_id, f'{key}.{part}')]
    if not isinstance(space, Box) or np.dtype(space.dtype).kind != 'f':
        where = f' at {key[1:]!r}' if key else ''
        raise ConfigError(f'{env_id} has observations {space}{where}; what can be learned is Box of float32 or float64, or a '
                          'Dict of those')
    return [f'obs{key}[{index}]' for index in range(int(np.prod(space.shape)))]


def _checked_actions(space: Space, env_id: str) -> Box:
    if not isinstance(space, Box) or np.dtype(space.dtype).kind != 'f' or np.prod(space.shape) < 1:
        raise ConfigError(f'{env_id} has actions {space}; what can be planned is Box of float32 or float64')
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ConfigError(f'{env_id} has actions {space}, not all of them bounded; what can be planned has finite bounds')
    return space
