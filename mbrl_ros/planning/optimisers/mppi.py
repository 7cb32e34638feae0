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
        """Move to the weighted average."""
        elites, best = self._best(actions, values)
        weights = torch.softmax((values - best[0]) / self.config.temperature, dim=0)
        mean = torch.tensordot(weights, actions, dims=1).clamp_(-1.0, 1.0)
        self._learn(best[0] > -torch.inf, mean, self.std, elites, best)
