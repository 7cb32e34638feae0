"""CEM: the cross-entropy method as PETS plans with it (Chua et al. 2018, arXiv:1805.12114; Rubinstein 1999)."""

import torch

from mbrl_ros.planning.optimisers.gaussian import GaussianOptimiser


class Cem(GaussianOptimiser):
    """Moves mean and deviation to the best K samples.

    The population keeps its size, and no elite is kept after its iteration. Each plan starts with the deviation `init_std`;
    deviations of later iterations are at least `min_std`.

    Note:
        PETS draws from a normal distribution truncated at two deviations and keeps the deviation below half the distance to
        the bounds; here samples are clipped.
    """

    def tell(self, actions: torch.Tensor, values: torch.Tensor) -> None:
        """Move to the best K."""
        elites, best = self._best(actions, values)
        self._learn(best[0] > -torch.inf, *self._moved(elites, best), elites, best)
