"""Aggregation of a candidate's particle returns into one value; the strategy sets the planner's attitude to risk.

Returns have shape (P, N), values (N,). With any strategy, one non-finite return makes the candidate's value non-finite, and
`Aggregation` replaces a non-finite value by minus infinity.
"""

from collections.abc import Callable

import torch

from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.types import DynamicsModel


def mean(returns: torch.Tensor) -> torch.Tensor:
    """Mean over particles."""
    return returns.mean(dim=0)


def mean_minus_std(returns: torch.Tensor, k: float) -> torch.Tensor:
    """Mean less `k` standard deviations over particles, where the variance is divided by P."""
    return returns.mean(dim=0) - k * returns.std(dim=0, correction=0)


def cvar(returns: torch.Tensor, fraction: float) -> torch.Tensor:
    """Conditional value at risk: mean of the worst `fraction` of the particles, rounded to at least one particle."""
    count = max(1, round(fraction * len(returns)))
    return finite_or_worst(returns).topk(count, dim=0, largest=False, sorted=False).values.mean(dim=0)


def worst_case(returns: torch.Tensor) -> torch.Tensor:
    """Minimum over particles."""
    return finite_or_worst(returns).amin(dim=0)


def finite_or_worst(values: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Replace NaN and infinity by minus infinity."""
    return torch.nan_to_num(values, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf, out=out)


def path_disagreement(path: torch.Tensor, output_scale: torch.Tensor, groups: int) -> torch.Tensor:
    """Spread of the groups' mean observations along each candidate's path, shape (N,).

    The spread is the standard deviation over groups in units of `output_scale`, its root mean square over the entries of the
    observation, and the mean of that over steps. The path has shape (H, P, N, O). The P particles are in `groups` groups of equal
    size, and those of a group are adjacent.
    """
    centres = path.unflatten(1, (groups, -1)).mean(dim=2)  # (H, groups, N, O)
    spread = centres.std(dim=1, correction=0) / output_scale
    return spread.square().mean(dim=-1).sqrt().mean(dim=0)


class Aggregation:
    """The strategy that a config names, with the penalty or bonus for disagreement of the ensemble.

    A value loses `disagreement_penalty` times the `path_disagreement`, or gains `disagreement_bonus` times it. Under TS-infinity
    the particles of one member form a group, so the spread is the members' disagreement. Under other propagations a particle
    belongs to no member and is a group of its own, so the spread also includes the predicted noise.
    """

    def __init__(self, config: PlannerConfig) -> None:
        self._penalty = config.disagreement_penalty - config.disagreement_bonus
        self._by_member = config.propagation == 'tsinf'
        strategies: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            'mean': mean,
            'mean_minus_std': lambda returns: mean_minus_std(returns, config.risk_aversion),
            'cvar': lambda returns: cvar(returns, config.cvar_fraction),
            'worst_case': worst_case,
        }
        self._strategy = strategies[config.aggregation]

    def __call__(self, returns: torch.Tensor, path: torch.Tensor, model: DynamicsModel,
                 out: torch.Tensor | None = None) -> torch.Tensor:
        """Value of each candidate, shape (N,); minus infinity where a particle's return or the value is not finite.

        Args:
            returns: Shape (P, N).
            path: Rollouts, shape (H, P, N, O).
            model: Its number of members and its output scale are used.
            out: Tensor to write the values to; a new one by default.
        """
        values = self._strategy(returns)
        if self._penalty:
            groups = model.ensemble_size if self._by_member else len(returns)
            values = values - self._penalty * path_disagreement(path, model.output_scale, groups)
        return finite_or_worst(values, out)
