"""Recorded episodes of an environment: arrays with a row for each step, and what is checked before anybody learns from them.

The arrays are `observations`, `actions`, `rewards`, `next_observations`, `terminations` and `truncations`, all in the
environment's units; further ones are left alone. A Dict observation has an array for each of its parts, such as
`observations/achieved_goal`. `is_success` or `success` has a value for each step or for each episode. Where the environment
computes rewards of goals, those are taken, and `rewards` may be left out.
"""

import dataclasses
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gymnasium.spaces import Dict, Space

from mbrl_ros.environments.adapter import SUCCESS, FlatEnvironment
from mbrl_ros.environments.goals import RewardOfGoals
from mbrl_ros.errors import DemonstrationError
from mbrl_ros.modules import first_line

_OBS, _NEXT = 'observations', 'next_observations'
#: By how much an observation may be beyond its bounds, as a share of the range: bounds are often rough, and other units far off.
_TOLERANCE = 0.1
#: Relative and absolute difference up to which an observation and the next one of the step before it count as the same.
_ALIKE = {'rtol': 1e-4, 'atol': 1e-5}


@dataclasses.dataclass(frozen=True)
class RecordedEpisode:
    """An episode of T steps.

    Attributes:
        obs: Observations, the last one included, shape (T + 1, O).
        action: The agent's actions, shape (T, A).
        reward: Shape (T,).
        terminated: Whether the environment ended it for good; otherwise a limit did.
        success: Whether it succeeded at its last step; None if that is not known.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    success: bool | None


def array_names(space: Space, name: str) -> dict[str, tuple[int, ...] | None]:
    """Names of the arrays that have the values of a space, in the order of `flatten`, and the shape of a value in each."""
    if isinstance(space, Dict):
        return {part: shape for key, inner in space.spaces.items() for part, shape in array_names(inner, f'{name}/{key}').items()}
    return {name: space.shape}


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz` file; nothing is ever unpickled.

    Raises:
        DemonstrationError: There is no such file, or it is something else, damaged or pickled.
    """
    try:
        file = path.open('rb')
    except OSError as error:
        raise DemonstrationError(f'{path}: {(error.strerror or "cannot be read").lower()}') from None
    with file:
        begins = file.read(2)
        if begins != b'PK':
            what = 'is a pickle, which is never loaded, as it may run any program' if begins[:1] == b'\x80' else 'is no .npz file'
            raise DemonstrationError(f'{path}: {what}; numpy.savez makes one')
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return {name: _member(path, arrays, name) for name in arrays.files}
        except (OSError, zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, MemoryError, RuntimeError) as error:
            raise DemonstrationError(f'{path}: is damaged ({type(error).__name__}: {first_line(error)})') from None


def recorded_episodes(arrays: Mapping[str, np.ndarray], source: str, env: FlatEnvironment,
                      max_steps: int) -> list[RecordedEpisode]:
    """The episodes of a recording.

    Args:
        arrays: As described above.
        source: Where they are from; errors begin with it.
        env: The environment that they have to be of.
        max_steps: Steps of the longest episode.

    Raises:
        DemonstrationError: An array is missing, or has another size, type or number of rows; a number is not finite or out of
            bounds; an episode has no end or too many steps; or the rows are not steps one after another.
    """
    try:
        return _Recording(arrays, env).episodes(max_steps)
    except DemonstrationError as error:
        raise DemonstrationError(f'{source}: {error}') from None


class _Recording:
    """A recording of T steps of which all arrays that are needed are there and fit the environment's spaces."""

    def __init__(self, arrays: Mapping[str, np.ndarray], env: FlatEnvironment) -> None:
        self._env = env
        shapes = {name: shape for kind in (_OBS, _NEXT) for name, shape in array_names(env.space, kind).items()}
        flags = ['terminations', 'truncations', *([] if env.has_reward_of_goals else ['rewards'])]
        shapes |= {'actions': env.actions.space.shape, **dict.fromkeys(flags, ())}
        if missing := [name for name in shapes if name not in arrays]:
            raise DemonstrationError(f'lacks {", ".join(missing)}{self._why(missing)}; it has {", ".join(arrays) or "no array"}')
        self._told = next((name for name in SUCCESS if name in arrays), None) if env.tells_success else None
        wanted = {**shapes, **({self._told: ()} if self._told else {})}
        rows = {name: _numbers(arrays[name], name, is_single=shape == ()) for name, shape in wanted.items()}
        self._count = len(rows['actions'])
        if wrong := [name for name in shapes if len(rows[name]) != self._count]:
            raise DemonstrationError(f'{wrong[0]} has {len(rows[wrong[0]])} rows, actions has {self._count}; each array has a '
                                     'row for each step')
        if self._count == 0:
            raise DemonstrationError('holds no steps')
        if wrong := [name for name, shape in shapes.items() if rows[name].shape[1:] != shape]:
            raise DemonstrationError(f'{wrong[0]} has the shape {rows[wrong[0]].shape}, where {(self._count, *shapes[wrong[0]])} '
                                     f'fits {env.env_id}')
        self._obs, self._next_obs = self._flat(rows, _OBS), self._flat(rows, _NEXT)
        if found := env.actions.misfit(rows['actions']):
            raise DemonstrationError(f'at step {found.row} {found.text}')
        self._action = env.actions.to_agent(rows['actions'])
        self._reward = self._rewards(rows)
        self._terminated, self._success = rows['terminations'] != 0, rows.get(self._told)
        self._is_end = self._terminated | (rows['truncations'] != 0)

    def episodes(self, max_steps: int) -> list[RecordedEpisode]:
        """See `recorded_episodes`."""
        ends = np.flatnonzero(self._is_end)
        begins = np.concatenate([[0], ends + 1])
        if begins[-1] < self._count:
            raise DemonstrationError(f'the last {self._count - begins[-1]} of its {self._count} steps are of an episode without '
                                     'an end; terminations or truncations is true at the last step of each')
        lengths = np.diff(begins)
        if lengths.max() > max_steps:
            raise DemonstrationError(f'episode {lengths.argmax()} has {lengths.max()} steps, where one of {self._env.env_id} '
                                     f'has at most {max_steps}')
        self._check_sequence()
        return [RecordedEpisode(np.concatenate([self._obs[begin:end + 1], self._next_obs[[end]]]), self._action[begin:end + 1],
                                self._reward[begin:end + 1], bool(self._terminated[end]), success)
                for begin, end, success in zip(begins, ends, self._successes(ends))]

    def _why(self, missing: list[str]) -> str:
        """What is to be known about arrays that are missing."""
        if any(name.startswith((f'{_OBS}/', f'{_NEXT}/')) for name in missing):
            return f', as an observation of {self._env.env_id} is a Dict with an array for each part'
        return ', which the returns and a learned reward need' if missing == ['rewards'] else ''

    def _flat(self, rows: Mapping[str, np.ndarray], kind: str) -> np.ndarray:
        """Observations as the agent's, shape (T, O), after a look at their bounds."""
        env = self._env
        values = np.concatenate([rows[name].reshape(self._count, -1) for name in array_names(env.space, kind)], axis=1)
        if found := env.misfit(values, _TOLERANCE):
            raise DemonstrationError(f'in {kind} at step {found.row} {found.text}')
        return values.astype(np.float64)

    def _rewards(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """Rewards, shape (T,): computed of goals if the environment does that, else those of the recording."""
        if self._env.has_reward_of_goals:
            return self._env.compute_reward(self._next_obs[:, self._env.is_achieved], self._next_obs[:, self._env.is_goal])
        rewards = rows['rewards'].astype(np.float64)
        if not np.isfinite(rewards).all():
            step = int(np.argmin(np.isfinite(rewards)))
            raise DemonstrationError(f'in rewards at step {step} there is {rewards[step]}, which is not finite')
        return rewards

    def _check_sequence(self) -> None:
        """Check that within an episode each step begins where the one before it ended."""
        before, after = self._next_obs[:-1], self._obs[1:]
        jumps = np.argwhere(~np.isclose(before, after, **_ALIKE) & ~self._is_end[:-1, None])
        if len(jumps):
            step, entry = jumps[0]
            raise DemonstrationError(
                f'step {step + 1} does not begin where step {step} of its episode ended: {self._env.obs_names[entry]} is '
                f'{after[step, entry]:g} in {_OBS}, and was {before[step, entry]:g} in {_NEXT}')

    def _successes(self, ends: np.ndarray) -> list[bool | None]:
        """Success of each episode at its last step: by the recording, else by a sparse reward of goals."""
        env, told = self._env, self._success
        if not env.tells_success:
            return [None] * len(ends)
        if told is None:
            told = self._reached()
        elif told.shape not in ((self._count,), (len(ends),)):
            raise DemonstrationError(f'{self._told} has the shape {told.shape}, where a value for each of {self._count} steps or '
                                     f'for each of {len(ends)} episodes, fits')
        if told is None and env.is_goal.any() and self._terminated.any():
            raise DemonstrationError(f'lacks {SUCCESS[0]}, without which an end at a goal of {env.env_id} looks like a failure')
        if told is None:
            return [None] * len(ends)
        return [bool(value) for value in (told[ends] if len(told) == self._count else told)]

    def _reached(self) -> np.ndarray | None:
        """Whether the sparse reward of each step is that of being at the goal, shape (T,); None if that tells nothing."""
        reached = RewardOfGoals(self._env).are_reached(self._next_obs) if self._env.has_reward_of_goals else None
        return None if reached is None or reached.all() else reached


def _member(path: Path, arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    try:
        return np.asarray(arrays[name])
    except ValueError as error:
        if 'allow_pickle' not in str(error):
            raise
        raise DemonstrationError(f'{path}: {name} is pickled, which is never loaded, as it may run any program; save numbers '
                                 'only') from None


def _numbers(values: np.ndarray, name: str, *, is_single: bool) -> np.ndarray:
    """An array after a check that it has rows of numbers; rows of one number become that number if they are `is_single`."""
    if values.dtype.kind not in 'biuf' or values.ndim == 0:
        kind = 'a single value' if values.ndim == 0 else f'of type {values.dtype}'
        raise DemonstrationError(f'{name} is {kind}, where numbers with a row for each step fit')
    return values[:, 0] if is_single and values.shape[1:] == (1,) else values
