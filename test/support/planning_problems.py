"""A linear problem whose best plan is known in closed form, models that diverge, and a clock that a test winds; all for tests."""

import dataclasses
import itertools

import numpy as np
import torch
from scipy.optimize import lsq_linear

from mbrl_ros.models.toys import LinearModel
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.planning.sampling import SamplingPlanner, make_planner

#: A double integrator: position and velocity, one acceleration.
MODEL = LinearModel(torch.tensor([[1.0, 0.2], [0.0, 1.0]]), torch.tensor([[0.0], [0.4]]))
OBS = np.array([1.0, -0.5])
#: Two of them side by side, each with its own action.
TWIN_MODEL = LinearModel(torch.block_diag(MODEL.transition, MODEL.transition), torch.block_diag(MODEL.control, MODEL.control))
TWIN_OBS = np.array([1.0, -0.5, -0.6, 0.2])
CONFIG = PlannerConfig(horizon=6, population_size=40, num_elites=6, num_iterations=4, num_particles=2, device='cpu')
OPTIMISERS = ('icem', 'cem', 'mppi', 'random_shooting')
_ACTION_COST = 0.1


def reward(obs, action):
    """Minus a quadratic cost."""
    return -obs.square().sum(dim=-1) - _ACTION_COST * action.square().sum(dim=-1)


def planner(seed=0, max_change=None, clock=None, action_size=1, **changes) -> SamplingPlanner:
    """Planner with `CONFIG`, changed."""
    extra = {'clock': clock} if clock else {}
    return make_planner(dataclasses.replace(CONFIG, **changes), action_size, max_change, seed=seed, **extra)


def linear_quadratic_optimum(model=MODEL, obs=OBS, horizon=6) -> tuple[np.ndarray, float]:
    """Least-squares solution over all actions at once, within [-1, 1]: actions (H, A) and their return."""
    transition, control = model.transition.double().numpy(), model.control.double().numpy()
    states, size = control.shape
    free = np.concatenate([np.linalg.matrix_power(transition, step + 1) @ obs for step in range(horizon)])
    forced = np.zeros((states * horizon, size * horizon))
    for step, earlier in itertools.product(range(horizon), repeat=2):
        if earlier <= step:
            forced[states * step:states * (step + 1), size * earlier:size * (earlier + 1)] = (
                np.linalg.matrix_power(transition, step - earlier) @ control)
    left = np.vstack([forced, _ACTION_COST**0.5 * np.eye(size * horizon)])
    solution = lsq_linear(left, np.concatenate([-free, np.zeros(size * horizon)]), bounds=(-1.0, 1.0))
    return solution.x.reshape(horizon, size), -2.0 * float(solution.cost)


class Poisoned(LinearModel):
    """Not finite wherever the action is above a threshold."""

    threshold = 0.0

    def predict(self, obs, action):
        """Next observation; see `DynamicsModel.predict`."""
        mean, std = super().predict(obs, action)
        return torch.where(action[..., :1] > self.threshold, torch.nan, mean), std


class HopelessModel(Poisoned):
    """Not finite whatever the action."""

    threshold = -2.0


class TickingClock:
    """Advances by one unit each time it is read."""

    def __init__(self, tick_s=1.0):
        self.now, self.tick_s = 0.0, tick_s

    def __call__(self):
        self.now += self.tick_s
        return self.now
