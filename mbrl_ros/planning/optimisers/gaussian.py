"""Common part of CEM and MPPI: a normal distribution over sequences whose mean is the answer."""

import torch

from mbrl_ros.planning.noise import ColouredNoise
from mbrl_ros.planning.optimisers.base import Optimiser
from mbrl_ros.planning.planner import PlannerConfig


class GaussianOptimiser(Optimiser):
    """Samples the same number of candidates in every iteration; subclasses define `tell`. Arguments as for `Optimiser`.

    The noise has the colour `noise_beta`; the papers use white noise, which is 0.
    """

    solution_is_mean = True

    def __init__(self, config: PlannerConfig, action_size: int, max_change: torch.Tensor | None = None,
                 is_directed: bool = False, *, generator: torch.Generator) -> None:
        super().__init__(config, action_size, max_change, is_directed, generator=generator)
        self._colour = ColouredNoise(config.horizon, config.noise_beta, generator.device)
        shape = config.num_iterations, config.population_size, *self.mean.shape
        self._noise = torch.zeros(shape, device=generator.device)

    def begin(self, previous_action: torch.Tensor) -> None:
        """Start from the last mean, clipped to the limits. The limits are convex, so later means keep to them too."""
        super().begin(previous_action)
        self._colour.sample(self._noise.shape, self.generator, out=self._noise)
        self.mean.copy_(self.limited(self.mean))

    def ask(self, iteration: int, is_last: bool) -> torch.Tensor:
        """Noise around the mean."""
        return self.limited(self._around_mean(self._noise[iteration]))
