"""Transitions as arrays, and the replay buffer that every learner trains from."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.types import GOAL_SIZE, Tag, Transition

_FIRST_ALLOCATION = 1024
#: Type of each column.
_KINDS = {'obs': np.float64, 'action': np.float64, 'next_obs': np.float64, 'stamp_ns': np.int64, 'episode': np.int64,
          'goal': np.float64, 'reward': np.float64, 'terminated': np.bool_, 'truncated': np.bool_, 'tags': np.uint8}
#: Values of columns that are not given, as in files from before these columns existed.
_UNKNOWN = {'goal': np.nan, 'reward': np.nan, 'terminated': False, 'truncated': False, 'tags': 0}

if TYPE_CHECKING:
    from typing import Self  # Python 3.10 has none.


@dataclasses.dataclass(frozen=True)
class Transitions:
    """N transitions, oldest first; `types.Transition` explains each column.

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
    def of(cls, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, stamp_ns: np.ndarray, **columns: np.ndarray) -> 'Self':
        """Transitions from some columns; each of `columns` may be one value for all rows, and the rest are unknown.

        Raises:
            ShapeError: A column has another number of rows.
        """
        count = len(obs)
        made = {name: np.array(np.broadcast_to(value, (count, GOAL_SIZE) if name == 'goal' else count), dtype=_KINDS[name])
                for name, value in {'episode': 0, **_UNKNOWN, **columns}.items()}
        rows = {'obs': obs, 'action': action, 'next_obs': next_obs, 'stamp_ns': np.asarray(stamp_ns, dtype=np.int64)}
        if wrong := [name for name, value in rows.items() if len(value) != count]:
            raise ShapeError(f'{wrong[0]} has {len(rows[wrong[0]])} rows, obs has {count}')
        return cls(**rows, **made)

    @classmethod
    def gathered(cls, transitions: Sequence[Transition]) -> 'Self':
        """At least one transition, each as one row; all have the same sizes."""
        return cls(**{name: np.array([getattr(transition, name) for transition in transitions], dtype=kind)
                      for name, kind in _KINDS.items()})

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def dynamics(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations, actions and next observations."""
        return self.obs, self.action, self.next_obs

    @property
    def chosen(self) -> 'Self':
        """Transitions that can be learned from: those in which the arm was not held."""
        return self.take(self.tags & Tag.HELD == 0)

    def columns(self) -> dict[str, np.ndarray]:
        """Columns by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def take(self, rows: slice | np.ndarray) -> 'Self':
        """Transitions chosen by a slice, a mask or indices."""
        return type(self)(**{name: values[rows] for name, values in self.columns().items()})

    @classmethod
    def joined(cls, parts: Sequence['Transitions']) -> 'Self':
        """At least one part, one after another."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _KINDS})


class ReplayBuffer:
    """First in, first out store of the newest `capacity` transitions; appending costs amortised constant time.

    Written rows are never overwritten: full memory is replaced, not reused. So arrays that another thread holds never change.

    Args:
        obs_size: O.
        action_size: A.
        capacity: Most transitions kept.

    Raises:
        ConfigError: The capacity is below 1.

    Attributes:
        num_dropped: Transitions that newer ones have displaced.
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
        """Transitions ever added, including dropped ones."""
        return len(self) + self.num_dropped

    def append(self, transition: Transition) -> None:
        """Add one transition; a full buffer drops the oldest.

        Raises:
            ShapeError: Observation, action or goal has another size than the buffer's.
        """
        self.extend(Transitions.gathered([transition]))

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
            kept = self.arrays().columns()
            # Twice the rows in use: the next move is at least as many appends away.
            self._memory = self._allocate(2 * (len(self) + len(transitions)))
            self._start, self._end = 0, len(self)
            for name, values in kept.items():
                self._memory[name][:self._end] = values
        for name, values in columns.items():
            self._memory[name][self._end:self._end + len(transitions)] = values
        self._end += len(transitions)
        surplus = max(len(self) - self._capacity, 0)
        self._start += surplus
        self.num_dropped += surplus

    def missing(self, transitions: Sequence[Transition], newest: int) -> list[Transition]:
        """Transitions whose stamps are not in the newest `newest` rows of the buffer."""
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

    def _allocate(self, rows: int) -> dict[str, np.ndarray]:
        return {name: np.empty((rows, *shape), _KINDS[name]) for name, shape in self._shapes.items()}
