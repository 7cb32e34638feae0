"""Objectives that are given other observations than the planner's: absolute ones, or no better ones than have been seen."""

import abc
import copy
from collections.abc import Hashable, Sequence

import torch

from mbrl_ros.planning.planner import Objective


class WrappedObjective(abc.ABC):
    """An objective of other observations; implements `Objective`, and what else the inner one does.

    Args:
        inner: Objective of the other observations.
        key: What tells wrappers of one inner objective apart.

    Attributes:
        discount: As for the inner objective, which may lack it.
        kind, parameters: As for `captured.ParametricObjective`; likewise.
    """

    def __init__(self, inner: Objective, key: Hashable) -> None:
        self._inner, self._key = inner, key
        for name in ('discount', 'parameters'):
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    @abc.abstractmethod
    def seen(self, obs: torch.Tensor) -> torch.Tensor:
        """What the inner objective is given of observations, each (..., O)."""

    @property
    def kind(self) -> Hashable:
        """None where the inner objective has none."""
        inner = getattr(self._inner, 'kind', None)
        return None if inner is None else (type(self).__name__, self._key, inner)

    def at(self, parameters: torch.Tensor) -> 'WrappedObjective':
        """See `captured.ParametricObjective.at`."""
        other = copy.copy(self)
        other._inner = self._inner.at(parameters)
        return other

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Rewards, shape (...), of the planner's observations, shape (..., O), and actions, shape (..., A)."""
        return self._inner(self.seen(obs), action).to(obs.dtype)

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """Value of the planner's last observations, shape (...), if the inner objective has a `discount`."""
        return self._inner.value(self.seen(obs)).to(obs.dtype)


class AbsoluteObjective(WrappedObjective):
    """An objective of absolute observations, for a model of observations that are seen from an origin.

    The inner objective is given float64, since float32 has too few digits for absolute observations.

    Args:
        inner: Objective of absolute observations.
        origin: O numbers.
        device: Device of the planning.
    """

    def __init__(self, inner: Objective, origin: Sequence[float], device: torch.device | str = 'cpu') -> None:
        super().__init__(inner, tuple(origin))
        self._shift = torch.tensor(origin, dtype=torch.float64, device=device)

    def seen(self, obs: torch.Tensor) -> torch.Tensor:
        """See `WrappedObjective.seen`."""
        return obs.double() + self._shift


class BoundedObjective(WrappedObjective):
    """An objective that counts on no more than the largest value that was experienced of some entries, such as a learned reward.

    A regression promises most where it has seen nothing, and a planner looks for just that.

    Args:
        inner: Objective.
        largest: Largest value of each entry of an observation, O numbers; infinity leaves the entry as it is.
        device: Device of the planning.
    """

    def __init__(self, inner: Objective, largest: Sequence[float], device: torch.device | str = 'cpu') -> None:
        super().__init__(inner, tuple(largest))
        self._largest = torch.tensor(largest, device=device)

    def seen(self, obs: torch.Tensor) -> torch.Tensor:
        """See `WrappedObjective.seen`."""
        return torch.minimum(obs, self._largest)
