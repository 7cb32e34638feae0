"""Transitions as arrays, and the replay buffer that all learning takes them from."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.types import GOAL_SIZE, Transition

_FIRST_ALLOCATION = 1024
#: What each column is of, and the sizes of its rows where they are the same for all.
_KINDS = {'obs': np.float64, 'action': np.float64, 'next_obs': np.float64, 'stamp_ns': np.int64, 'episode': np.int64,
          'goal': np.float64, 'reward': np.float64, 'terminated': np.bool_, 'truncated': np.bool_, 'tags': np.uint8}
#: What a transition of before there were these columns has in them.
_UNKNOWN = {'goal': np.nan, 'reward': np.nan, 'terminated': False, 'truncated': False, 'tags': 0}


@dataclasses.dataclass(frozen=True)
class Transitions:
    """N transitions, oldest first; see `types.Transition` for what each column is.

    Attributes:
        obs: Shape (N, O).
        action: Shape (N, A).
        next_obs: Shape (N, O).
        stamp_ns: Shape (N,), int64; identifies a transition.
        episode: Shape (N,), int64.
        goal: Shape (N, 3); NaN where there is none.
        reward: Shape (N,); NaN where it is not known.
        terminated: Shape (N,), bool.
        truncated: Shape (N,), bool.
        tags: Shape (N,), uint8, of `types.Tag`.
    """

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    stamp_ns: np.ndarray
    episode: np.ndarray
    goal: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    tags: np.ndarray

    @classmethod
    def of(cls, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, stamp_ns: np.ndarray, **columns: np.ndarray) -> Self:
        """Transitions of whose other columns only some are given, or one value for all; the others are not known.

        Raises:
            ShapeError: A column has another number of rows.
        """
        count = len(obs)
        given = {'episode': 0, **_UNKNOWN, **columns}
        made = {name: np.array(np.broadcast_to(value, (count, GOAL_SIZE) if name == 'goal' else count), dtype=_KINDS[name])
                for name, value in given.items()}
        rows = {'obs': obs, 'action': action, 'next_obs': next_obs, 'stamp_ns': np.asarray(stamp_ns, dtype=np.int64)}
        if wrong := [name for name, value in rows.items() if len(value) != count]:
            raise ShapeError(f'{wrong[0]} has {len(rows[wrong[0]])} rows, obs has {count}')
        return cls(**rows, **made)

    @classmethod
    def gathered(cls, transitions: Sequence[Transition]) -> Self:
        """Single transitions of the same sizes as rows; at least one."""
        return cls(**{name: np.array([getattr(transition, name) for transition in transitions], dtype=kind)
                      for name, kind in _KINDS.items()})

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def dynamics(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations, actions and next observations."""
        return self.obs, self.action, self.next_obs

    def columns(self) -> dict[str, np.ndarray]:
        """Columns by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def take(self, rows: slice | np.ndarray) -> Self:
        """Some of them, by a slice, a mask or indices."""
        return type(self)(**{name: values[rows] for name, values in self.columns().items()})

    @classmethod
    def joined(cls, parts: Sequence['Transitions']) -> Self:
        """One after another; at least one part."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _KINDS})


class ReplayBuffer:
    """First in, first out store of the newest `capacity` transitions; appending costs amortised constant time.

    Rows once written are never overwritten: full memory is replaced, not reused. So arrays handed to another thread stay what
    they were.

    Args:
        obs_size: O.
        action_size: A.
        capacity: Most transitions kept.

    Raises:
        ConfigError: The capacity is below 1.

    Attributes:
        num_dropped: Transitions that had to go for newer ones.
    """

    def __init__(self, obs_size: int, action_size: int, capacity: int = 100_000) -> None:
        if capacity < 1:
            raise ConfigError(f'a replay buffer needs a capacity of at least 1, got {capacity}')
        sizes = {'obs': (obs_size,), 'action': (action_size,), 'next_obs': (obs_size,), 'goal': (GOAL_SIZE,)}
        self._shapes = {name: sizes.get(name, ()) for name in _KINDS}
        self._capacity = capacity
        self._memory = self._allocate(min(_FIRST_ALLOCATION, 2 * capacity))
        self._start = self._end = 0
        self.num_dropped = 0

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def num_seen(self) -> int:
        """Transitions that were ever added."""
        return len(self) + self.num_dropped

    def append(self, transition: Transition) -> None:
        """Add one transition; the oldest goes when the buffer is full.

        Raises:
            ShapeError: Observation, action or goal of another size.
        """
        row = {name: np.asarray(getattr(transition, name)) for name in _KINDS}
        shapes = {name: value.shape for name, value in row.items()}
        if wrong := [name for name in _KINDS if shapes[name] != self._shapes[name]]:
            raise ShapeError(f'transition has {wrong[0]} of shape {shapes[wrong[0]]}, the buffer holds {self._shapes[wrong[0]]}')
        if self._end == len(self._memory['obs']):
            self._move(len(self) + 1)
        for name, value in row.items():
            self._memory[name][self._end] = value
        self._end += 1
        self._drop()

    def extend(self, transitions: Iterable[Transition] | Transitions) -> None:
        """Append each in order.

        Raises:
            ShapeError: As for `append`.
        """
        if not isinstance(transitions, Transitions):
            for transition in transitions:
                self.append(transition)
            return
        columns = transitions.columns()
        if wrong := [name for name in _KINDS if columns[name].shape[1:] != self._shapes[name]]:
            raise ShapeError(f'transitions have {wrong[0]} of shape {columns[wrong[0]].shape[1:]}, '
                             f'the buffer holds {self._shapes[wrong[0]]}')
        if self._end + len(transitions) > len(self._memory['obs']):
            self._move(len(self) + len(transitions))
        for name, values in columns.items():
            self._memory[name][self._end:self._end + len(transitions)] = values
        self._end += len(transitions)
        self._drop()

    def missing(self, transitions: Sequence[Transition], newest: int) -> list[Transition]:
        """Those that the newest so many do not hold, by their stamps."""
        held = self.arrays().stamp_ns
        known = set(held[max(len(held) - newest, 0):].tolist())
        return [transition for transition in transitions if transition.stamp_ns not in known]

    def insert(self, transitions: Sequence[Transition], before: int) -> None:
        """Put older transitions in front of the newest `before` ones.

        Raises:
            ShapeError: As for `append`.
        """
        held = self.arrays()
        place = max(len(held) - before, 0)
        self._start = self._end = 0
        self._memory = self._allocate(2 * max(len(held) + len(transitions), 1))
        for part in (held.take(slice(place)), transitions, held.take(slice(place, None))):
            self.extend(part)

    def arrays(self) -> Transitions:
        """All transitions as read-only views; later appends do not change them."""
        views = {name: values[self._start:self._end] for name, values in self._memory.items()}
        for view in views.values():
            view.flags.writeable = False
        return Transitions(**views)

    def _drop(self) -> None:
        surplus = max(len(self) - self._capacity, 0)
        self._start += surplus
        self.num_dropped += surplus

    def _allocate(self, rows: int) -> dict[str, np.ndarray]:
        return {name: np.empty((rows, *shape), _KINDS[name]) for name, shape in self._shapes.items()}

    def _move(self, needed: int) -> None:
        # Twice the rows in use: the next move is at least as many appends away.
        kept = self.arrays().columns()
        self._memory = self._allocate(2 * needed)
        self._start, self._end = 0, len(kept['obs'])
        for name, values in kept.items():
            self._memory[name][:self._end] = values
