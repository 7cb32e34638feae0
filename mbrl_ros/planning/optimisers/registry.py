"""The optimisers by name."""

import torch

from mbrl_ros.planning.optimisers.base import Optimiser
from mbrl_ros.planning.optimisers.cem import Cem
from mbrl_ros.planning.optimisers.icem import Icem
from mbrl_ros.planning.optimisers.mppi import Mppi
from mbrl_ros.planning.optimisers.shooting import RandomShooting
from mbrl_ros.planning.planner import PlannerConfig

#: Optimisers by the name that `PlannerConfig.optimiser` gives them.
OPTIMISERS = {'icem': Icem, 'cem': Cem, 'mppi': Mppi, 'random_shooting': RandomShooting}


def make_optimiser(config: PlannerConfig, action_size: int, max_change: torch.Tensor | None = None,
                   is_directed: bool = False, *, generator: torch.Generator) -> Optimiser:
    """The optimiser that a config names. Arguments as for `Optimiser`."""
    return OPTIMISERS[config.optimiser](config, action_size, max_change, is_directed, generator=generator)
