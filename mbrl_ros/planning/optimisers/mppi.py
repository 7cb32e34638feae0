"""MPPI: model predictive path integral control (Williams et al. 2017, ICRA; 2018, arXiv:1707.02342)."""

import torch

from mbrl_ros.planning.optimisers.gaussian import GaussianOptimiser


class Mppi(GaussianOptimiser):
    """Moves the mean to the average of the candidates, weighted by exp(value / temperature).

    `num_elites` only sets how many candidates are reported. The deviation stays `init_std`. Each iteration samples around the
    mean of the one before.

    Note:
        The papers add the control cost temperature * (1 - alpha) * mean' std^-2 noise to each sample. Here alpha is 1, which
        leaves the cost of actions to the objective. Candidates are clipped before they are averaged, so the mean keeps to the
        limits too.
    """

    def tell(self, actions: torch.Tensor, values: torch.Tensor) -> None:
        """Move to the weighted average."""
        elites, best = self._best(actions, values)
        weights = torch.softmax((values - best[0]) / self.config.temperature, dim=0)
        mean = torch.tensordot(weights, actions, dims=1).clamp_(-1.0, 1.0)
        self._learn(best[0] > -torch.inf, mean, self.std, elites, best)
