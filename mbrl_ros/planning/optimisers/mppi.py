"""MPPI: model predictive path integral control (Williams et al. 2017, ICRA; 2018, arXiv:1707.02342)."""

import torch

from mbrl_ros.planning.optimisers.gaussian import GaussianOptimiser


class Mppi(GaussianOptimiser):
    """Moves the mean to the samples' average, weighted by exp(value / temperature).

    Every candidate counts, the better the more; `num_elites` only says how many are reported. The deviation stays `init_std`.
    Further iterations of a plan sample around the mean that the one before ended with.

    Note:
        The papers add the control cost temperature * (1 - alpha) * mean' std^-2 noise to each sample; this is alpha = 1, which
        leaves the cost of actions to the objective. Averages are taken of candidates after clipping, so that the mean keeps
        to the limits too.
    """

    def tell(self, actions: torch.Tensor, values: torch.Tensor) -> None:
        """Move to the weighted average; the best candidate's weight, before they are scaled to sum to one, is one."""
        alive = self._select_elites(actions, values)
        below_best = torch.where(torch.isfinite(values), values - values.max(), -torch.inf)
        weights = torch.exp(below_best / self.config.temperature)
        mean = torch.tensordot(weights / weights.sum().clamp(min=1.0), actions, dims=1)
        torch.where(alive, mean.clamp(-1.0, 1.0), self.mean, out=self.mean)
