"""Actions of environments as vectors within [-1, 1], which agents choose."""

from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from torch.nn import functional

from mbrl_ros.environments.bounds import Misfit, misfit
from mbrl_ros.errors import ConfigError

#: Spaces of choices.
CHOICES = (Discrete, MultiDiscrete, MultiBinary)
#: By how much an action of a recording or of a user's expert may be beyond its bounds, as a share of the range.
_TOLERANCE = 1e-3


class ActionMap(Protocol):
    """Maps an agent's actions, shape (A,), to those of an environment, and back.

    Attributes:
        size: A.
        num_units: U, numbers of an action in the environment's units.
        space: The environment's space of actions.
    """

    size: int
    num_units: int
    space: Space

    def of_agent(self, action: np.ndarray) -> Any:
        """The environment's action for an agent's, shape (A,); values beyond [-1, 1] count as -1 or 1."""

    def to_agent(self, actions: np.ndarray) -> np.ndarray:
        """The agent's actions, shape (N, A), for the environment's, shape (N, ...)."""

    def misfit(self, actions: np.ndarray) -> Misfit | None:
        """The first of actions in the environment's units, shape (N, ...), that is not one of the space; None if all are."""

    def features(self, action: torch.Tensor) -> torch.Tensor:
        """What the dynamics depend on, shape (..., A), of the agent's actions (..., A)."""

    def units(self, action: torch.Tensor) -> torch.Tensor:
        """Actions in the environment's units, shape (..., U), of the agent's actions (..., A)."""


class BoxActions:
    """Bounded real numbers; -1 and 1 are the bounds. Implements `ActionMap`."""

    def __init__(self, space: Box) -> None:
        self.space, self.size = space, int(np.prod(space.shape))
        self.num_units = self.size
        low, high = (np.asarray(bound, dtype=np.float64).ravel() for bound in (space.low, space.high))
        self._middle, self._half = 0.5 * (low + high), 0.5 * (high - low)

    def of_agent(self, action: np.ndarray) -> np.ndarray:
        """See `ActionMap.of_agent`; shape and type are the space's."""
        space, scaled = self.space, self._middle + self._half * np.clip(action, -1.0, 1.0)
        # Rounding to the space's type may exceed a bound slightly.
        return np.clip(scaled.reshape(space.shape).astype(space.dtype), space.low, space.high)

    def to_agent(self, actions: np.ndarray) -> np.ndarray:
        """See `ActionMap.to_agent`; an entry whose bounds are equal becomes 0."""
        from_middle = np.reshape(actions, (len(actions), -1)) - self._middle
        return np.clip(from_middle / np.where(self._half > 0.0, self._half, 1.0), -1.0, 1.0)

    def misfit(self, actions: np.ndarray) -> Misfit | None:
        """See `ActionMap.misfit`."""
        values = np.reshape(actions, (len(actions), -1)).astype(np.float64)
        return misfit(values, self.space.low.ravel(), self.space.high.ravel(), _names(self.size), tolerance=_TOLERANCE)

    def features(self, action: torch.Tensor) -> torch.Tensor:
        """See `ActionMap.features`."""
        return action

    def units(self, action: torch.Tensor) -> torch.Tensor:
        """See `ActionMap.units`."""
        middle, half = (torch.from_numpy(values).to(action) for values in (self._middle, self._half))
        return middle + half * action


class Choices:
    """One or several choices among a finite number each; an agent has a number for each option, and the largest is chosen.

    An action in the environment's units has the index of each choice. Implements `ActionMap`.

    Args:
        space: The space.
        noun: What a choice is called in `misfit`.

    Attributes:
        counts: Number of options of each choice.
        starts: First index of each choice.
    """

    def __init__(self, space: Discrete | MultiDiscrete | MultiBinary, noun: str = 'action') -> None:
        self.space, self._noun = space, noun
        if isinstance(space, Discrete):
            self.counts, starts = [int(space.n)], [int(space.start)]
        elif isinstance(space, MultiBinary):
            self.counts = [2] * int(np.prod(space.shape))
            starts = [0] * len(self.counts)
        else:
            self.counts = [int(count) for count in np.ravel(space.nvec)]
            starts = [int(start) for start in np.ravel(space.start)]
        self.starts = np.array(starts)
        self.size, self.num_units = sum(self.counts), len(self.counts)

    def of_agent(self, action: np.ndarray) -> Any:
        """See `ActionMap.of_agent`."""
        parts = np.split(np.asarray(action), np.cumsum(self.counts)[:-1])
        chosen = self.starts + [int(np.argmax(part)) for part in parts]
        if isinstance(self.space, Discrete):
            return self.space.dtype.type(chosen[0])
        return chosen.reshape(self.space.shape).astype(self.space.dtype)

    def to_agent(self, actions: np.ndarray) -> np.ndarray:
        """See `ActionMap.to_agent`; the chosen option is 1, the others are -1."""
        indices = np.reshape(actions, (len(actions), -1)).astype(np.int64) - self.starts
        return np.concatenate([np.where(np.arange(count) == indices[:, [place]], 1.0, -1.0)
                               for place, count in enumerate(self.counts)], axis=1)

    def misfit(self, actions: np.ndarray) -> Misfit | None:
        """See `ActionMap.misfit`."""
        values, names = np.reshape(actions, (len(actions), -1)).astype(np.float64), _names(self.num_units, self._noun)
        if found := misfit(values, self.starts, self.starts + np.array(self.counts) - 1, names):
            return found
        if len(between := np.argwhere(values != np.round(values))):
            row, column = between[0]
            return Misfit(int(row), f'{names[column]} is {values[row, column]:g}, which is no whole number')
        return None

    def features(self, action: torch.Tensor) -> torch.Tensor:
        """See `ActionMap.features`: 1 for the chosen option, 0 for the others."""
        return torch.cat([functional.one_hot(part.argmax(dim=-1), part.shape[-1]) for part in action.split(self.counts, dim=-1)],
                         dim=-1).to(action)

    def units(self, action: torch.Tensor) -> torch.Tensor:
        """See `ActionMap.units`."""
        chosen = torch.stack([part.argmax(dim=-1) for part in action.split(self.counts, dim=-1)], dim=-1)
        return chosen.to(action) + torch.from_numpy(self.starts).to(action)


def action_map(space: Space, env_id: str) -> ActionMap:
    """The map for an environment's action space.

    Raises:
        ConfigError: Nothing can be planned in such a space.
    """
    if isinstance(space, CHOICES):
        return Choices(space)
    if not isinstance(space, Box) or np.dtype(space.dtype).kind != 'f' or np.prod(space.shape) < 1:
        raise ConfigError(f'{env_id} has actions {space}; what can be planned is Box of float32 or float64, Discrete, '
                          'MultiDiscrete or MultiBinary')
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ConfigError(f'{env_id} has actions {space}, not all of them bounded; what can be planned has finite bounds')
    return BoxActions(space)


def _names(count: int, noun: str = 'action') -> list[str]:
    return [f'{noun}[{index}]' for index in range(count)]
