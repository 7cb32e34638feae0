"""A Gymnasium environment with flat observations and actions in [-1, 1]; others are refused before any work starts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from gymnasium.spaces.utils import flatdim, flatten, flatten_space, unflatten

from mbrl_ros.environments.actions import CHOICES, Choices, action_map
from mbrl_ros.environments.bounds import Misfit, misfit
from mbrl_ros.environments.foreign import ForeignEnvironment, Stepped
from mbrl_ros.errors import ConfigError, MeasurementError
from mbrl_ros.spaces.numbering import Numbering

#: Keys of an observation of an environment with goals; the goal is the last.
_GOAL_KEYS = ('observation', 'achieved_goal', 'desired_goal')
#: Names under which environments tell success.
SUCCESS = ('is_success', 'success')
#: Seed of the trial.
_TRIAL = 0


class FlatEnvironment:
    """An environment whose observations and actions are vectors.

    A Dict observation is concatenated in the order of its space, which for a plain dictionary is alphabetical. One of choices has
    the chosen options. An episode is begun and a step made at once, as a trial.

    Args:
        env_id: Id for `gymnasium.make`, such as `Name-v0` or `module:Name-v0`.
        render: Whether `picture` will be called.

    Raises:
        ConfigError: There is no such environment, it needs something that is not installed, a space is not supported, the
            trial failed, or it cannot be drawn.

    Attributes:
        env_id: Id of the environment.
        space: Its own space of observations.
        raw_obs: Newest observation as the environment gave it.
        obs_names: Names of the O entries of an observation.
        actions: The map of its actions.
        choices: The choices of an observation; None if it is of real numbers.
        action_names: Names of the A entries of an action.
        is_achieved: Which entries are the achieved goal, shape (O,), bool; all false without goals.
        is_goal: Which entries are the desired goal, likewise.
        tells_success: Whether `success` is known.
        has_reward_of_goals: Whether `compute_reward` agrees with the rewards of its steps.
        takes_many_goals: Whether it takes many goals at once, so that it is fast.
        max_steps: Steps after which the environment itself ends an episode; None for no limit.
        period_s: Duration of a step; 1 s if the environment does not define it.
        trial_obs: An observation, shape (O,).
    """

    def __init__(self, env_id: str, *, render: bool = False) -> None:
        self.env_id = env_id
        self._env = ForeignEnvironment(env_id, render=render)
        try:
            self.space = self._env.observation_space
            self.choices = Choices(self.space, 'obs') if isinstance(self.space, CHOICES) else None
            self.obs_names = tuple(_names(self.space, env_id))
            self.actions = action_map(self._env.action_space, env_id)
            self.action_names = tuple(f'action[{index}]' for index in range(self.actions.size))
            self.is_achieved, self.is_goal = (_entries(self.space, key) for key in _GOAL_KEYS[1:])
            self.max_steps, self.period_s = self._env.max_steps, self._env.period_s
            self._try()
            if render:
                self.picture()
        except (ConfigError, MeasurementError) as error:
            self._env.close()
            raise ConfigError(str(error)) from None

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; returns its first observation, shape (O,), float64.

        Raises:
            MeasurementError: The environment raised an exception, or the observation is not finite or does not fit its space.
        """
        self.raw_obs, _ = self._env.reset(seed)
        return self._flat(self.raw_obs)

    def step(self, action: np.ndarray) -> Stepped:
        """Hold an action, shape (A,), in [-1, 1], for a step; returns what Gymnasium does, the observation as (O,), float64.

        Raises:
            MeasurementError: As for `reset`, or the reward is no finite number.
        """
        stepped = self._env.step(self.actions.of_agent(action))
        self.raw_obs = stepped.obs
        return stepped._replace(obs=self._flat(stepped.obs))

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """The environment's own rewards, shape (B,), of achieved and desired goals, shape (B, G) each.

        Raises:
            MeasurementError: The environment raised an exception, or returned something else.
        """
        if self.takes_many_goals:
            return self._reward_of(achieved, desired)
        return np.array([self._reward_of(*pair) for pair in zip(achieved, desired)])

    def ends(self, terminated: bool, success: bool | None) -> bool:
        """Whether the last step of an episode was an end, which the model learns.

        Where success ends an episode, its place depends on the goal, and to stay there would be as good.
        """
        return terminated and not (success and self.is_goal.any())

    @property
    def numbering(self) -> Numbering | None:
        """Numbers of states and actions; None unless both are choices."""
        if self.choices is None or not isinstance(self.actions, Choices):
            return None
        return Numbering(tuple(self.choices.counts), tuple(self.choices.starts.tolist()), tuple(self.actions.counts))

    def misfit(self, obs: np.ndarray, tolerance: float) -> Misfit | None:
        """The first of observations, shape (N, O), that does not fit the space; see `bounds.misfit`."""
        if self.choices is not None:
            return self.choices.misfit(obs)
        bounds = flatten_space(self.space)
        return misfit(obs, bounds.low, bounds.high, self.obs_names, tolerance=tolerance)

    def picture(self) -> np.ndarray:
        """Render the environment, shape (height, width, 3), uint8.

        Raises:
            ConfigError: The environment cannot render pictures.
        """
        return self._env.render()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _try(self) -> None:
        """Begin an episode, make a step, and note what the environment can; raises MeasurementError."""
        self.reset(_TRIAL)
        stepped = self.step(np.zeros(self.actions.size))
        self.trial_obs, self.tells_success = stepped.obs, success_of(stepped.info) is not None
        self.has_reward_of_goals = self.takes_many_goals = False
        if self.is_goal.any() and self._env.has_compute_reward:
            self._try_goals(stepped)

    def _try_goals(self, stepped: Stepped) -> None:
        """Note whether `compute_reward` gives the reward of a step, and for many goals what it gives for each of them."""
        achieved, desired = stepped.obs[self.is_achieved], stepped.obs[self.is_goal]
        pairs = np.array([achieved, desired, achieved]), np.array([desired, desired, achieved])
        try:
            one_by_one = self.compute_reward(*pairs)
            self.has_reward_of_goals = bool(np.isclose(one_by_one[0], stepped.reward, rtol=1e-4, atol=1e-4))
            self.takes_many_goals = bool(np.allclose(self._reward_of(*pairs), one_by_one, rtol=1e-4, atol=1e-4))
        except MeasurementError:
            pass  # What it cannot do is noted as such.

    def _reward_of(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """Reward of a pair of goals, shape (G,) each, or of batches, shape (B, G) each."""
        parts = (_unflat(self.space[key], values) for key, values in zip(_GOAL_KEYS[1:], (achieved, desired)))
        return self._env.compute_reward(*parts, shape=achieved.shape[:-1])

    def _flat(self, obs: Any) -> np.ndarray:
        try:
            flat = np.ravel(obs) if self.choices else flatten(self.space, obs)
            values = np.asarray(flat, dtype=np.float64)
        except Exception as error:  # Gymnasium's error depends on what the environment returned.
            raise MeasurementError(f'{self.env_id} gave an observation that does not fit its space {self.space} '
                                   f'({type(error).__name__}: {error})') from None
        if values.shape != (len(self.obs_names),):
            raise MeasurementError(f'{self.env_id} gave an observation of {values.size} numbers, its space {self.space} has '
                                   f'{len(self.obs_names)}')
        if not np.isfinite(values).all():
            name = self.obs_names[int(np.argmin(np.isfinite(values)))]
            raise MeasurementError(f'{self.env_id} gave an observation that is not finite, in {name}')
        if self.choices and (found := self.choices.misfit(values[None])):
            raise MeasurementError(f'{self.env_id} gave an observation that does not fit its space {self.space}: {found.text}')
        return values


def has_goals(obs_names: Sequence[str]) -> bool:
    """Whether the environment whose observations have entries of these names has goals."""
    return all(any(name.startswith((f'obs.{key}[', f'obs.{key}.')) for name in obs_names) for key in _GOAL_KEYS)


def success_of(info: dict[str, Any]) -> bool | None:
    """Success by an environment's word; None if it says nothing of it."""
    told = np.asarray(next((info[name] for name in SUCCESS if name in info), None))
    return bool(told.item()) if told.size == 1 and told.dtype.kind in 'biuf' else None


def file_name(env_id: str) -> str:
    """Name of an environment's files: without the module, and with `-` instead of `/`."""
    return env_id.rpartition(':')[2].replace('/', '-')


def _names(space: Space, env_id: str, key: str = '') -> list[str]:
    """Names of the entries in the order of `flatten`."""
    if isinstance(space, Dict):
        return [name for part, inner in space.spaces.items() for name in _names(inner, env_id, f'{key}.{part}')]
    if isinstance(space, CHOICES) and not key:
        return [f'obs[{index}]' for index in range(int(np.prod(space.shape)))]
    if not isinstance(space, Box) or np.dtype(space.dtype).kind != 'f':
        where = f' at {key[1:]!r}' if key else ''
        raise ConfigError(f'{env_id} has observations {space}{where}; what can be learned is Box of float32 or float64, a '
                          'Dict of those, Discrete, MultiDiscrete or MultiBinary')
    return [f'obs{key}[{index}]' for index in range(int(np.prod(space.shape)))]


def _entries(space: Space, key: str) -> np.ndarray:
    """Which entries of the flat observation are those of a key of a space with goals, bool; none of another space."""
    if not isinstance(space, Dict) or not set(_GOAL_KEYS) <= set(space.spaces):
        return np.zeros(len(_names(space, '')), dtype=bool)
    return np.concatenate([np.full(flatdim(part), name == key) for name, part in space.spaces.items()])


def _unflat(space: Space, values: np.ndarray) -> Any:
    """Flat values, shape (G,) or (B, G), in the shape of the space."""
    if not isinstance(space, Dict):
        return values.reshape(*values.shape[:-1], *space.shape)
    if values.ndim == 1:
        return unflatten(space, values)
    rows = [unflatten(space, row) for row in values]
    return {key: np.stack([row[key] for row in rows]) for key in space.spaces}
