"""A Gymnasium environment as flat observations and actions in [-1, 1]; what does not fit is refused before any work starts."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from gymnasium.spaces.utils import flatten

from mbrl_ros.errors import ConfigError, MeasurementError
from mbrl_ros.modules import first_line, working_directory_modules


class FlatEnvironment:
    """An environment with vectors.

    An observation of a Dict space is the entries of its keys one after the other, in the space's own order (sorted by key, as
    Gymnasium has it).

    Args:
        env_id: As `gymnasium.make` takes it, `module:Name-v0` included.
        render: Whether pictures will be asked for.

    Raises:
        ConfigError: There is no such environment, what it needs is not installed, or its spaces are others than the ones above.

    Attributes:
        env_id: As given.
        obs_names: Of the O entries of an observation.
        action_names: Of the A entries of an action.
        low: Actions that -1 stands for, shape (A,), float64.
        high: Actions that 1 stands for.
        max_steps: Steps after which the environment itself ends an episode; None for never.
        period_s: Time that a step stands for; 1 s where the environment does not say.
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
        self.low, self.high = (np.asarray(bound, dtype=np.float64).ravel() for bound in (self._action_space.low,
                                                                                        self._action_space.high))
        self.action_names = tuple(f'action[{index}]' for index in range(len(self.low)))
        self.max_steps = self._env.spec.max_episode_steps if self._env.spec else None
        self.period_s = _period_s(self._env)

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; its first observation, shape (O,), float64.

        Raises:
            MeasurementError: The observation is not finite.
        """
        obs, _ = self._env.reset(seed=seed)
        return self._flat(obs)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold an action, shape (A,), in [-1, 1], for a step.

        Returns:
            Observation, shape (O,), float64, reward, and terminated, truncated and info as Gymnasium has them.

        Raises:
            MeasurementError: Observation or reward is not finite.
        """
        space = self._action_space
        scaled = self.low + 0.5 * (np.clip(action, -1.0, 1.0) + 1.0) * (self.high - self.low)
        # Rounded to the space's type, a bound may be passed by a trifle.
        scaled = np.clip(scaled.reshape(space.shape).astype(space.dtype), space.low, space.high)
        obs, reward, terminated, truncated, info = self._env.step(scaled)
        if not np.isfinite(float(reward)):
            raise MeasurementError(f'{self.env_id} gave the reward {float(reward)}, which is not finite')
        return self._flat(obs), float(reward), bool(terminated), bool(truncated), info

    def picture(self) -> np.ndarray:
        """What it looks like, shape (height, width, 3), uint8.

        Raises:
            ConfigError: It has no pictures, or what they need is not there.
        """
        try:
            picture = self._env.render()
        except Exception as error:  # Pictures are made by libraries and drivers that fail in ways of their own.
            raise ConfigError(f'{self.env_id} cannot be pictured ({first_line(error)})') from None
        if not isinstance(picture, np.ndarray) or picture.ndim != 3:
            raise ConfigError(f'{self.env_id} cannot be pictured: it has no render mode rgb_array')
        return picture

    def close(self) -> None:
        """Leave it."""
        self._env.close()

    def _flat(self, obs: Any) -> np.ndarray:
        values = np.asarray(flatten(self._env.observation_space, obs), dtype=np.float64)
        if not np.isfinite(values).all():
            name = self.obs_names[int(np.argmin(np.isfinite(values)))]
            raise MeasurementError(f'{self.env_id} gave an observation that is not finite, in {name}')
        return values


def file_name(env_id: str) -> str:
    """An environment's name as that of a file or folder: without its module, and its namespace after a dash."""
    return env_id.rpartition(':')[2].replace('/', '-')


def _made(env_id: str, render: bool) -> gymnasium.Env:
    arguments = {'render_mode': 'rgb_array'} if render else {}
    try:
        with working_directory_modules():
            # Gymnasium's checker warns of what is an error here.
            return gymnasium.make(env_id, disable_env_checker=True, **arguments)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f'{env_id} needs what is not installed: {first_line(error)}') from None
    except gymnasium.error.Error as error:
        raise ConfigError(first_line(error)) from None
    except Exception as error:  # Whatever an environment may raise while it is made.
        raise ConfigError(f'{env_id} cannot be made: {type(error).__name__}: {first_line(error)}') from None


def _names(space: Space, env_id: str, key: str = '') -> list[str]:
    """Names of the entries in the order in which `flatten` has them."""
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


def _period_s(env: gymnasium.Env) -> float:
    period, rate = getattr(env.unwrapped, 'dt', None), env.metadata.get('render_fps')
    return float(period or (1.0 / rate if rate else 1.0))
