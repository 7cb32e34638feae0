"""Random shooting: the baseline that learns nothing from one iteration to the next (e.g. Nagabandi et al. 2018)."""

import torch

from mbrl_ros.planning.optimisers.base import Optimiser
from mbrl_ros.planning.planner import PlannerConfig


class RandomShooting(Optimiser):
    """Every action is uniform over what bounds and change limit leave; the best sequence of all iterations is the answer.

    The one memory is the warm start: the last plan's best sequence, shifted (at first the zero action, held), is a candidate
    of the first iteration. Elites are the best of all iterations, and `mean` is the best of them.

    Args:
        config: Settings; those of the distribution have no effect here.
        action_size: A.
        max_change: As for `Optimiser`.
        is_directed: As for `Optimiser`; without effect here.
        generator: As for `Optimiser`.
    """

    def __init__(self, config: PlannerConfig, action_size: int, max_change: torch.Tensor | None = None,
                 is_directed: bool = False, *, generator: torch.Generator) -> None:
        super().__init__(config, action_size, max_change, is_directed, generator=generator)
        self.std.fill_(3.0**-0.5)
        self._shares = torch.zeros((config.num_iterations, config.population_size, *self.mean.shape), device=generator.device)

    def begin(self, previous_action: torch.Tensor) -> None:
        """Start a plan; the distribution is the same in each."""
        super().begin(previous_action)
        self.std.fill_(3.0**-0.5)
        torch.rand(self._shares.shape, generator=self.generator, out=self._shares)

    def ask(self, iteration: int, is_last: bool) -> torch.Tensor:
        """Uniform samples; in the first iteration one of them is the warm start."""
        actions = self._spread(self._shares[iteration])
        if iteration == 0:
            actions[0] = self.limited(self.mean)
        return actions

    def tell(self, actions: torch.Tensor, values: torch.Tensor) -> None:
        """Remember the best so far."""
        elites, best = self._best(torch.cat([actions, self.elites]), torch.cat([values, self.elite_values]))
        self._learn(best[0] > -torch.inf, elites[0], self.std, elites, best)

    def _spread(self, share: torch.Tensor) -> torch.Tensor:
        """Actions that lie at these shares, in [0, 1], of the interval left to each; shape (N, H, A)."""
        if self._max_change is None:
            return 2.0 * share - 1.0
        actions, previous = torch.empty_like(share), self._previous
        for step, part in enumerate(share.unbind(dim=1)):
            low = (previous - self._max_change).clamp(-1.0, 1.0)
            high = (previous + self._max_change).clamp(-1.0, 1.0)
            previous = torch.lerp(low.expand_as(part), high.expand_as(part), part)
            actions[:, step] = previous
        return actions
