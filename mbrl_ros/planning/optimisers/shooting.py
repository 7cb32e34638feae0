"""Random shooting: the baseline that learns nothing between iterations (e.g. Nagabandi et al. 2018)."""

import torch

from mbrl_ros.planning.optimisers.base import Optimiser
from mbrl_ros.planning.planner import PlannerConfig


class RandomShooting(Optimiser):
    """Draws every action uniformly within bounds and change limit; the best sequence of all iterations is the answer.

    The first iteration also tries the best sequence of the last plan, shifted; in the first plan it tries the zero action, held.
    Elites are the best of all iterations, and `mean` is the best of them. Arguments as for `Optimiser`; `is_directed` and the
    settings of a distribution have no effect.
    """

    def __init__(self, config: PlannerConfig, action_size: int, max_change: torch.Tensor | None = None,
                 is_directed: bool = False, *, generator: torch.Generator) -> None:
        super().__init__(config, action_size, max_change, is_directed, generator=generator)
        self.std.fill_(3.0**-0.5)
        self._shares = torch.zeros((config.num_iterations, config.population_size, *self.mean.shape), device=generator.device)

    def begin(self, previous_action: torch.Tensor) -> None:
        """Start a plan from the same distribution as every plan."""
        super().begin(previous_action)
        self.std.fill_(3.0**-0.5)
        torch.rand(self._shares.shape, generator=self.generator, out=self._shares)

    def ask(self, iteration: int, is_last: bool) -> torch.Tensor:
        """Uniform samples; the first iteration replaces one of them by the warm start."""
        actions = self._spread(self._shares[iteration])
        if iteration == 0:
            actions[0] = self.limited(self.mean)
        return actions

    def tell(self, actions: torch.Tensor, values: torch.Tensor) -> None:
        """Keep the best of all iterations."""
        elites, best = self._best(torch.cat([actions, self.elites]), torch.cat([values, self.elite_values]))
        self._learn(best[0] > -torch.inf, elites[0], self.std, elites, best)

    def _spread(self, share: torch.Tensor) -> torch.Tensor:
        """Actions at these shares, in [0, 1], of the interval that limits leave for each; shape (N, H, A)."""
        if self._max_change is None:
            return 2.0 * share - 1.0
        actions, previous = torch.empty_like(share), self._previous
        for step, part in enumerate(share.unbind(dim=1)):
            low = (previous - self._max_change).clamp(-1.0, 1.0)
            high = (previous + self._max_change).clamp(-1.0, 1.0)
            previous = torch.lerp(low.expand_as(part), high.expand_as(part), part)
            actions[:, step] = previous
        return actions
