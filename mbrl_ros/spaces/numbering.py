"""Numbers of states and actions, for agents with tables."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Numbering:
    """Numbers the states and actions of a space in which both are choices among finitely many.

    An observation begins with the chosen option of each of K choices. An action has a number for each option, and the largest
    number of each choice chooses.

    Attributes:
        state_counts: Options of each choice of an observation, K numbers.
        state_starts: First option of each of them.
        action_counts: Options of each choice of an action.
    """

    state_counts: tuple[int, ...]
    state_starts: tuple[int, ...]
    action_counts: tuple[int, ...]

    @property
    def num_states(self) -> int:
        """S, number of states."""
        return math.prod(self.state_counts)

    @property
    def num_actions(self) -> int:
        """C, number of different actions."""
        return math.prod(self.action_counts)

    def states(self, obs: np.ndarray) -> np.ndarray:
        """Numbers of states, shape (N,), from 0, of observations, shape (N, O)."""
        options = obs[:, :len(self.state_counts)].astype(np.int64) - self.state_starts
        return np.ravel_multi_index(tuple(options.T), self.state_counts)

    def choices(self, action: np.ndarray) -> np.ndarray:
        """Numbers of actions, shape (N,), from 0, of an agent's actions, shape (N, A)."""
        parts = np.split(action, np.cumsum(self.action_counts)[:-1], axis=1)
        return np.ravel_multi_index(tuple(part.argmax(axis=1) for part in parts), self.action_counts)

    def action(self, choice: int) -> np.ndarray:
        """The agent's action of a number, shape (A,): 1 for what is chosen, -1 for the rest."""
        options = np.unravel_index(choice, self.action_counts)
        return np.concatenate([np.where(np.arange(count) == option, 1.0, -1.0)
                               for option, count in zip(options, self.action_counts)])
