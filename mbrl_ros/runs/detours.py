"""Detours: a few random actions of learning among the planned ones."""

import numpy as np

#: Steps of the longest detour.
_LONGEST = 5


class Detours:
    """Random actions, each held for a few steps, in place of some planned ones.

    A planner tries only what its model promises. If the model is wrong about the rest, for example that a pushed body goes on by
    itself when the arm lets go, planned steps alone do not show it.
    """

    def __init__(self, probability: float, rng: np.random.Generator) -> None:
        self._probability, self._rng = probability, rng
        self._left, self._action = 0, np.empty(0)

    def instead_of(self, action: np.ndarray) -> np.ndarray:
        """The action of a detour under way or begun now, else the planned one, shape (A,)."""
        if not self._left and self._rng.random() < self._probability:
            self._left = int(self._rng.integers(1, _LONGEST, endpoint=True))
            self._action = self._rng.uniform(-1.0, 1.0, len(action))
        if not self._left:
            return action
        self._left -= 1
        return self._action
