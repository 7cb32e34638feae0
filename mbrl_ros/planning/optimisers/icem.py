"""iCEM: the cross-entropy method made sample-efficient enough for a control loop (Pinneri et al. 2020, arXiv:2008.06389)."""

import torch

from mbrl_ros.planning.noise import ColouredNoise
from mbrl_ros.planning.optimisers.base import Optimiser
from mbrl_ros.planning.planner import PlannerConfig


class Icem(Optimiser):
    """Samples coloured action sequences around a mean that moves to the best of them. Arguments as for `Optimiser`.

    All seven additions of the paper are here: coloured noise, a shrinking population, elites kept within a plan and, shifted,
    for the next plan, the mean as a candidate of the last iteration, clipping to the action bounds, and the best sequence
    of all iterations as the result.

    Note:
        Two departures from the paper. The rollouts of a plan share their random numbers, so a kept elite keeps its value and is
        not rolled out again. And every first iteration tries the zero action, held over the horizon, because an arm at its goal
        should stand still and no random sample does.
    """

    def __init__(self, config: PlannerConfig, action_size: int, max_change: torch.Tensor | None = None,
                 is_directed: bool = False, *, generator: torch.Generator) -> None:
        super().__init__(config, action_size, max_change, is_directed, generator=generator)
        self._colour = ColouredNoise(config.horizon, config.noise_beta, generator.device)
        self._counts = [max(2 * config.num_elites, round(config.population_size * config.population_decay**-iteration))
                        for iteration in range(config.num_iterations)]
        self._noise = torch.zeros((sum(self._counts), *self.mean.shape), device=generator.device)
        self._kept = round(config.keep_elite_fraction * config.num_elites)
        # Added to the samples of the first iteration: inherited elites, and the zero action.
        self._known = torch.zeros((self._kept + 1, *self.mean.shape), device=generator.device)
        # Added to the values of the first iteration: minus infinity at places without an inherited elite, otherwise 0.
        self._handicap = torch.zeros(self._counts[0] + len(self._known), device=generator.device)
        self._is_first = True

    def begin(self, previous_action: torch.Tensor) -> None:
        """Start a plan from the mean and the elites of the last plan."""
        self._known[:-1] = self.elites[:self._kept]
        torch.log(self.elite_values[:self._kept] > -torch.inf, out=self._handicap[self._counts[0]:-1])
        super().begin(previous_action)
        self._colour.sample(self._noise.shape, self.generator, out=self._noise)

    def ask(self, iteration: int, is_last: bool) -> torch.Tensor:
        """Noise around the mean; the first iteration adds inherited elites and the zero action, the last one the mean."""
        actions = self._around_mean(self._noise.split(self._counts)[iteration])
        self._is_first = iteration == 0
        if self._is_first:
            actions = torch.cat([actions, self._known])
        if is_last:
            actions[0] = self.mean
        return self.limited(actions)

    def tell(self, actions: torch.Tensor, values: torch.Tensor) -> None:
        """Move to the best of the candidates and of the elites kept from the iteration before."""
        if self._is_first:
            # The first plan has no inherited elites, but their places are candidates and must not count.
            values = values + self._handicap
        pool = torch.cat([actions, self.elites[:self._kept]])
        elites, best = self._best(pool, torch.cat([values, self.elite_values[:self._kept]]))
        self._learn(values.max() > -torch.inf, *self._moved(elites, best), elites, best)
