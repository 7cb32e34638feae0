"""From many possible futures of a candidate to its one value: which attitude to risk the planner takes.

Returns have shape (P, N), values (N,). The value of a candidate with one particle whose return is not finite is not finite
under each of them; `Aggregation` makes minus infinity of it.
"""

from collections.abc import Callable

import torch

from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.types import DynamicsModel


def mean(returns: torch.Tensor) -> torch.Tensor:
    """Mean over particles."""
    return returns.mean(dim=0)


def mean_minus_std(returns: torch.Tensor, k: float) -> torch.Tensor:
    """Mean less `k` standard deviations over particles (of the P there are: divided by P)."""
    return returns.mean(dim=0) - k * returns.std(dim=0, correction=0)


def cvar(returns: torch.Tensor, fraction: float) -> torch.Tensor:
    """Conditional value at risk: mean of the worst `fraction` of the particles, rounded, at least one."""
    count = max(1, round(fraction * len(returns)))
    return finite_or_worst(returns).topk(count, dim=0, largest=False, sorted=False).values.mean(dim=0)


def worst_case(returns: torch.Tensor) -> torch.Tensor:
    """Smallest over particles."""
    return finite_or_worst(returns).amin(dim=0)


def finite_or_worst(values: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Minus infinity in place of what is not finite."""
    return torch.nan_to_num(values, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf, out=out)


def path_disagreement(path: torch.Tensor, output_scale: torch.Tensor, groups: int) -> torch.Tensor:
    """How far groups of particles drift apart along each candidate's path, shape (N,).

    Args:
        path: Observations, shape (H, P, N, O); particles of a group lie side by side.
        output_scale: Unit of each entry, shape (O,).
        groups: Number of groups, a divisor of P.

    Returns:
        Standard deviation over groups of their particles' mean observation, in units of `output_scale`, root mean square
        over the entries of the observation, mean over steps.
    """
    centres = path.unflatten(1, (groups, -1)).mean(dim=2)  # (H, groups, N, O)
    spread = centres.std(dim=1, correction=0) / output_scale
    return spread.square().mean(dim=-1).sqrt().mean(dim=0)


class Aggregation:
    """The strategy that a config names, and what ensemble disagreement costs or is worth.

    `path_disagreement` times `disagreement_penalty` is taken off a value, times `disagreement_bonus` it is added. Under
    TS-infinity particles of one member form a group, so that it is the members' disagreement. Under other propagations
    particles belong to no member; there each is a group of its own, and the spread includes the noise that the members agree on.

    Args:
        config: Settings.
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
        """Value of each candidate, shape (N,); minus infinity as soon as one particle is, or the value is not finite.

        Args:
            returns: Shape (P, N).
            path: Rollouts, shape (H, P, N, O).
            model: Gives the number of members and the unit of their disagreement.
            out: Written to; a new tensor when left out.
        """
        values = self._strategy(returns)
        if self._penalty:
            groups = model.ensemble_size if self._by_member else len(returns)
            values = values - self._penalty * path_disagreement(path, model.output_scale, groups)
        return finite_or_worst(values, out)
