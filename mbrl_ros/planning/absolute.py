"""Objectives of absolute observations for a model of observations that are seen from an origin."""

from collections.abc import Hashable, Sequence

import torch

from mbrl_ros.planning.planner import Objective


class AbsoluteObjective:
    """An objective of observations seen from an origin; implements `Objective`, and what else the inner one does.

    The inner objective is given absolute observations, float64, since float32 has too few digits for them.

    Args:
        inner: Objective of absolute observations.
        origin: O numbers.
        device: Device of the planning.

    Attributes:
        discount: As for the inner objective, which may lack it.
        kind, parameters: As for `captured.ParametricObjective`; likewise.
    """

    def __init__(self, inner: Objective, origin: Sequence[float], device: torch.device | str = 'cpu') -> None:
        self._inner, self._origin = inner, tuple(origin)
        self._shift = torch.tensor(self._origin, dtype=torch.float64, device=device)
        for name in ('discount', 'parameters'):
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    @property
    def kind(self) -> Hashable:
        """None where the inner objective has none."""
        inner = getattr(self._inner, 'kind', None)
        return None if inner is None else ('absolute', self._origin, inner)

    def at(self, parameters: torch.Tensor) -> 'AbsoluteObjective':
        """See `captured.ParametricObjective.at`."""
        return AbsoluteObjective(self._inner.at(parameters), self._origin, parameters.device)

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Rewards, shape (...), of observations seen from the origin, shape (..., O), and actions, shape (..., A)."""
        return self._inner(obs.double() + self._shift, action).to(obs.dtype)

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """Value of last observations seen from the origin, shape (...), if the inner objective has a `discount`."""
        return self._inner.value(obs.double() + self._shift).to(obs.dtype)
