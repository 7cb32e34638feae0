"""Search for the weights of the cost by what they earn: evolutionary policy search in the learned model.

The controller with its weights is a policy. A generation draws weights, lets each pursue the same recorded goals in imagination,
and moves the distribution of their logarithms to the best: the cross-entropy method (Rubinstein and Kroese 2004) for the problem
that Gros and Zanon (2020, arXiv:1904.04152) solve by Q-learning and policy gradients.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.planning.solver.cost import CostWeights

#: Gives the returns of weights in each of the trials, shape (K,).
Evaluate = Callable[[CostWeights], np.ndarray]


@dataclasses.dataclass(frozen=True)
class SearchConfig(Config):
    """How the weights of the cost are learned in a round."""

    generations: int = setting(1, 'Generations in each round; 0 leaves the weights as they are.', low=0, high=100)
    population: int = setting(8, 'Weights drawn in each generation.', low=2, high=1000)
    num_elites: int = setting(3, 'The best of them, which the next generation is drawn around.', low=1)
    goals: int = setting(6, 'Recorded goals that all of them pursue.', low=1, high=1000)
    steps: int = setting(30, 'Control steps of each pursuit.', low=1, high=1000)
    init_std: float = setting(1.0, 'Standard deviation of the logarithms in the first generation.', low=1e-3, high=5.0)
    min_std: float = setting(0.1, 'Smallest standard deviation of the logarithms.', low=0.0, high=5.0)

    def check(self) -> None:
        """Raise ConfigError when there are more elites than candidates."""
        if self.num_elites > self.population:
            raise ConfigError(f'SearchConfig.num_elites needs at most population {self.population}, got {self.num_elites}')


@dataclasses.dataclass(frozen=True)
class WeightDistribution:
    """Normal distribution of the logarithms of the weights: `mean` and `std`, shape (5,) each."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def around(cls, weights: CostWeights, std: float) -> 'WeightDistribution':
        """Distribution around given weights."""
        return cls(weights.vector(), np.full(len(weights.vector()), std))

    @property
    def weights(self) -> CostWeights:
        """The weights of the mean."""
        return CostWeights.of_vector(self.mean)


def next_generation(before: WeightDistribution, evaluate: Evaluate, config: SearchConfig,
                    rng: np.random.Generator) -> tuple[WeightDistribution, float, float]:
    """Distribution around the best of a generation, and the mean returns of the weights before and after.

    The mean moves only where it earns no less than before; otherwise the distribution becomes narrower.
    """
    drawn = before.mean + before.std * rng.standard_normal((config.population, len(before.mean)))
    returns = np.array([evaluate(CostWeights.of_vector(candidate)).mean() for candidate in drawn])
    returns = np.where(np.isfinite(returns), returns, -np.inf)
    elites = drawn[np.argsort(-returns, kind='stable')[:config.num_elites]]
    std = np.maximum(np.sqrt(np.square(elites - elites.mean(axis=0)).mean(axis=0)), config.min_std)
    after = WeightDistribution(elites.mean(axis=0), 0.5 * (before.std + std))
    old, new = (float(evaluate(of.weights).mean()) for of in (before, after))
    if new >= old:
        return after, old, new
    return WeightDistribution(before.mean, after.std), old, old
