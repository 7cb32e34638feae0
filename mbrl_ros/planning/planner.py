"""Protocols of planner and objective, and the settings of planners.

A planner needs a `DynamicsModel`, which is any object that predicts, and an `Objective`, which is any function that scores.
The model is an argument of each plan, so a newer model can take over between two control ticks.
"""

import dataclasses
import math
from typing import Protocol

import numpy as np
import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.planning.propagation import PROPAGATIONS
from mbrl_ros.types import DynamicsModel, Plan


class Objective(Protocol):
    """Reward of single steps for one goal and one set of weights; see `tasks.Task.objective`."""

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Rewards, shape (...); leading axes broadcast against each other.

        Args:
            obs: Observations that the actions led to, shape (..., O).
            action: Shape (..., A), normalised to [-1, 1].
        """


class DiscountedObjective(Objective, Protocol):
    """An objective that discounts later rewards and may have a value at the end of the horizon.

    Attributes:
        discount: Factor by which a reward shrinks with each step, 0 to 1.
    """

    discount: float

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """Value of the last observations, shape (...) for observations of shape (..., O)."""


class Planner(Protocol):
    """Searches for the best action sequence from an observation; starts each search from its last plan.

    Attributes:
        device: Device of the planning; models must be on it.
    """

    device: torch.device

    def plan(self, model: DynamicsModel, obs: np.ndarray, objective: Objective, *, previous_action: np.ndarray | None = None,
             directions: np.ndarray | None = None, proposals: np.ndarray | None = None, deadline_s: float | None = None) -> Plan:
        """Plan one control tick.

        Args:
            model: Dynamics snapshot on the planner's device; never modified.
            obs: Observation at the moment the first action takes effect, shape (O,).
            objective: Reward of a step; its sum over the horizon is maximised.
            previous_action: Action in effect until then, shape (A,), zeros by default; limits the change to the first action.
            directions: Columns along which samples differ from their mean, in this plan and later ones, shape (A, A), invertible;
                a column is the change by one standard deviation of 1. The default keeps those of the last plan.
            proposals: Sequences to try in the first iteration, e.g. of a learned policy, shape (M, H, A), where M is below the
                number of candidates of that iteration. None by default.
            deadline_s: Planning time allowed from the call on. None plans all configured iterations, which is repeatable.

        Raises:
            PlanningError: No candidate has a finite return, or an input is not finite.
            ShapeError: `obs`, `previous_action`, `directions`, `proposals`, the model or the objective's rewards do not fit.
            ConfigError: The plan would need more memory than is allowed.
        """

    def reset(self, seed: int) -> None:
        """Forget the warm start and seed all randomness anew."""

    def prepare(self, model: DynamicsModel, obs: np.ndarray, objective: Objective) -> None:
        """Warm up, so that the first plan is as fast as later ones; does not change later plans. Arguments as for `plan`.

        Raises:
            PlanningError, ShapeError, ConfigError: As for `plan`.
        """

    def check_memory(self, obs_size: int, ensemble_size: int, hidden_units: int) -> None:
        """Check the memory that plans would need with a model of these sizes, before there is a model.

        Args:
            obs_size: O.
            ensemble_size: E.
            hidden_units: Units of two hidden layers.

        Raises:
            ConfigError: A plan would need more memory than is allowed.
        """


@dataclasses.dataclass(frozen=True)
class PlannerConfig(Config):
    """Settings of a sampling planner. The defaults plan a 7-joint reach at 20 Hz on one CPU thread."""

    optimiser: str = setting('icem', 'How action sequences are searched for.', choices=('icem', 'cem', 'mppi', 'random_shooting'))
    horizon: int = setting(7, 'Control steps looked ahead (H).', low=1, high=200)
    population_size: int = setting(48, 'Candidates in the first iteration (N).', low=2, high=100_000)
    num_elites: int = setting(6, 'Best candidates that the next iteration samples around (K).', low=1, high=10_000)
    num_iterations: int = setting(3, 'Iterations of a plan; fewer when a deadline comes first.', low=1, high=100)
    num_particles: int = setting(5, 'Rollouts of each candidate (P), rounded up to a multiple of the ensemble size.',
                                 low=1, high=1000)
    propagation: str = setting('tsinf', 'How uncertainty spreads over the steps: a particle keeps its ensemble member (tsinf), '
                                        'changes it each step (ts1), is drawn anew from the particles\' normal distribution '
                                        '(moment_matching), or is the ensemble\'s mean alone (expectation).',
                               choices=PROPAGATIONS)
    aggregation: str = setting('mean', 'How a candidate\'s particles become its value: their mean, the mean less risk_aversion '
                                       'standard deviations, the mean of the worst cvar_fraction, or the worst.',
                               choices=('mean', 'mean_minus_std', 'cvar', 'worst_case'))
    risk_aversion: float = setting(0.0, 'Standard deviations over particles that mean_minus_std takes off.', low=0.0, high=100.0)
    cvar_fraction: float = setting(0.2, 'Share of the particles, the worst, that cvar averages; at least one.', low=0.0, high=1.0)
    disagreement_penalty: float = setting(0.0, 'Return taken off for each output scale that the ensemble disagrees by along '
                                               'the path.', low=0.0, high=1e6)
    disagreement_bonus: float = setting(0.0, 'Return added for each output scale that the ensemble disagrees by along the '
                                             'path, so that what is not known yet is tried; evaluations plan without it.',
                                        low=0.0, high=1e6)
    noise_beta: float = setting(2.0, 'Exponent of the candidates\' coloured noise; 0 is white.', low=0.0, high=10.0)
    population_decay: float = setting(1.25, 'Factor by which the population shrinks each iteration (icem).', low=1.0, high=10.0)
    keep_elite_fraction: float = setting(0.5, 'Share of the elites kept for the next iteration and the next plan (icem).',
                                         low=0.0, high=1.0)
    momentum: float = setting(0.1, 'Weight of the old mean and deviation when they move to the elites\' (icem, cem).',
                              low=0.0, high=0.99)
    init_std: float = setting(0.3, 'Standard deviation of the first iteration, normalised action.', low=1e-3, high=10.0)
    min_std: float = setting(0.02, 'Smallest standard deviation later, normalised action (icem, cem).', low=0.0, high=1.0)
    temperature: float = setting(1.0, 'Difference in value that makes a candidate count e times as much (mppi).',
                                 low=1e-6, high=1e6)
    max_memory_mb: int = setting(2048, 'Most memory a plan may need; a larger request is refused.', unit='MB',
                                 low=1, high=1_000_000)
    device: str = setting('auto', 'Where to plan; auto takes the GPU when there is one.', choices=('auto', 'cpu', 'cuda'))
    precision: str = setting('auto', 'Arithmetic of predictions; auto measures which is fastest, and in lockstep takes float32.',
                             choices=('auto', 'float32', 'bfloat16', 'float16', 'tf32'))

    def check(self) -> None:
        """Raise ConfigError when there are more elites than candidates, or settings of risk or disagreement contradict."""
        if self.num_elites > self.population_size:
            raise ConfigError(f'PlannerConfig.num_elites needs at most population_size {self.population_size}, '
                              f'got {self.num_elites}')
        if bool(self.risk_aversion) != (self.aggregation == 'mean_minus_std'):
            raise ConfigError('PlannerConfig.risk_aversion needs a value above 0 with aggregation mean_minus_std, and 0 with any '
                              f'other, got {self.risk_aversion} with {self.aggregation}')
        if self.disagreement_penalty and self.disagreement_bonus:
            raise ConfigError('PlannerConfig.disagreement_bonus needs 0 where there is a disagreement_penalty, '
                              f'got {self.disagreement_bonus} and {self.disagreement_penalty}')
        weight = self.disagreement_penalty or self.disagreement_bonus
        if self.propagation == 'expectation' and (self.aggregation != 'mean' or weight):
            raise ConfigError('PlannerConfig.propagation expectation rolls out one future, so that aggregation needs to be mean '
                              f'and disagreement_penalty and disagreement_bonus 0, got {self.aggregation} and {weight}')

    def without_exploring(self) -> 'PlannerConfig':
        """The same settings without a bonus for disagreement, for evaluations."""
        return dataclasses.replace(self, disagreement_bonus=0.0)


#: Temporaries of the objective, as a multiple of the path that it scores; the reach task's kinematics take up to eight.
_OBJECTIVE_PATHS = 8
#: Hidden units a row that a prediction holds in memory, where the model does not say: two layers of 256.
HIDDEN_UNITS = 512


def most_candidates(config: PlannerConfig) -> int:
    """Largest number of candidates of an iteration, with iCEM's inherited elites and zero action."""
    if config.optimiser != 'icem':
        return config.population_size
    kept = round(config.keep_elite_fraction * config.num_elites)
    return max(config.population_size, 2 * config.num_elites) + kept + 1


def plan_bytes(config: PlannerConfig, obs_size: int, action_size: int, ensemble_size: int,
               hidden_units: int = HIDDEN_UNITS) -> int:
    """Upper estimate of the memory that one plan needs, in bytes.

    With N the largest number of candidates of an iteration and P the particles after rounding up, these numbers of float32 are
    counted:

    - the path, H P N O, and the particles' noise, H P O;
    - action sequences, N H A each for candidates and their limited form, and in each iteration for white and coloured noise;
    - the larger of the objective's temporaries, 8 H P N O, and those of one prediction, P N (4 O + A + hidden_units), which
      holds inputs, outputs and the units of two hidden layers.

    Path and objective are by far the largest, and linear in each of H, P, N and O.
    """
    candidates = most_candidates(config)
    particles = ensemble_size * math.ceil(config.num_particles / ensemble_size)
    if config.propagation == 'expectation':
        particles = 1
    path = config.horizon * particles * candidates * obs_size
    noise = config.horizon * particles * obs_size
    actions = 2 * (1 + config.num_iterations) * candidates * config.horizon * action_size
    prediction = max(particles, ensemble_size) * candidates * (4 * obs_size + action_size + hidden_units)
    return 4 * (path + noise + actions + max(_OBJECTIVE_PATHS * path, prediction))


def resolve_device(name: str) -> torch.device:
    """Device that a `device` setting names.

    Raises:
        ConfigError: The setting is `cuda` and there is no GPU that torch can use.
    """
    if name == 'cuda' and not torch.cuda.is_available():
        raise ConfigError('device \'cuda\' needs a GPU that torch can use, and there is none; use \'auto\' or \'cpu\'')
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    return torch.device(name)
