"""A model of finitely many states and actions: the last outcome of each (Sutton 1990; Sutton and Barto 2018, section 8.2)."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from mbrl_ros.errors import BundleError

if TYPE_CHECKING:
    from typing import Self  # Python 3.10 has none.

_KINDS = {'next_state': np.int64, 'reward': np.float64, 'ended': np.uint8, 'tried_at': np.int64}


@dataclasses.dataclass(frozen=True)
class TabularModel:
    """The last outcome of each of C actions in each of S states; an action never tried stays in its state, for a reward of 0.

    Attributes:
        next_state: Next state, shape (S, C), int64.
        reward: Reward, shape (S, C).
        ended: Whether the episode was terminated, shape (S, C), uint8.
        tried_at: Number of the step, from 1, in which the action was last tried, shape (S, C), int64; 0 for never.
    """

    next_state: np.ndarray
    reward: np.ndarray
    ended: np.ndarray
    tried_at: np.ndarray

    @classmethod
    def untried(cls, num_states: int, num_actions: int) -> 'Self':
        """The model before the first step."""
        shape = num_states, num_actions
        stay = np.repeat(np.arange(num_states, dtype=np.int64)[:, None], num_actions, axis=1)
        return cls(stay, np.zeros(shape), np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.int64))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], num_states: int, num_actions: int) -> 'Self':
        """Inverse of `tensors`.

        Raises:
            BundleError: The tensors are no model of so many states and actions.
        """
        tables = {name: table_of(tensors, name, (num_states, num_actions), kind) for name, kind in _KINDS.items()}
        if ((tables['next_state'] < 0) | (tables['next_state'] >= num_states)).any():
            raise BundleError(f'next_state leads out of the {num_states} states')
        return cls(**tables)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tables as tensors, which share their memory."""
        return {name: torch.from_numpy(getattr(self, name)) for name in _KINDS}

    def copy(self) -> 'Self':
        """A model with tables of its own."""
        return type(self)(*(getattr(self, name).copy() for name in _KINDS))

    def learn(self, state: int, choice: int, reward: float, next_state: int, ended: bool, step: int) -> None:
        """Take over the outcome of an action in a step with this number, from 1."""
        at = state, choice
        self.next_state[at], self.reward[at], self.ended[at], self.tried_at[at] = next_state, reward, ended, step

    def foresees_otherwise(self, state: np.ndarray, choice: np.ndarray, reward: np.ndarray, next_state: np.ndarray,
                           ended: np.ndarray) -> np.ndarray:
        """Whether other outcomes than these were the last ones, shape (N,), of arrays (N,); false where none is known."""
        at = state, choice
        same = (self.next_state[at] == next_state) & (self.reward[at] == reward) & (self.ended[at] == ended)
        return (self.tried_at[at] > 0) & ~same

    def sample(self, count: int, rng: np.random.Generator, *, tries_all: bool) -> tuple[np.ndarray, np.ndarray]:
        """Draw visited states, then one action of each: of those tried there, or with `tries_all` of all; shape (count,) each."""
        tried = self.tried_at > 0
        states = rng.choice(np.flatnonzero(tried.any(axis=1)), count)
        may = np.ones_like(tried[states]) if tries_all else tried[states]
        return states, np.where(may, rng.random(may.shape), -1.0).argmax(axis=1)


def table_of(tensors: Mapping[str, torch.Tensor], name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
    """A table among a bundle's tensors, which shares its memory.

    Raises:
        BundleError: It is missing, has another shape or type, or a number of it is not finite.
    """
    if name not in tensors:
        raise BundleError(f'there is no table {name}')
    table = tensors[name].numpy()
    if table.shape != shape or table.dtype != kind or not np.isfinite(table).all():
        raise BundleError(f'{name} needs finite {np.dtype(kind).name} of shape {shape}, '
                          f'got {table.dtype.name} of shape {table.shape}')
    return table
