"""The base of all tasks, with what planner, episode manager and controller need."""

import abc
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch

from mbrl_ros.config import Config
from mbrl_ros.errors import ConfigError
from mbrl_ros.spaces.space import ActionSpace
from mbrl_ros.types import GOAL_SIZE, RobotState

_GOAL_DRAWS = 1000


class Task(abc.ABC):
    """A reward over observations, a weighted sum of named terms; goal and weights may change between any two plans.

    Attributes:
        name: Key of `TASKS`.
        rewards: Terms that are rewards; the others are costs.
        has_goal: As `reward.GoalReward`.
        space: Space of observations and actions.
        state_names: Entries of the observation: their positions, then their velocities.
        action_names: The A entries of an action.
        obs_size: O = 2 * len(state_names).
        action_size: A.
        goal_tolerance_m: Largest distance that counts as reached.
        settle_s: Uninterrupted time within the tolerance that makes a success.
        weights: Weights in use where no others are given; its fields name the terms. Their owner may replace them.
    """

    name: ClassVar[str]
    rewards: ClassVar[tuple[str, ...]] = ()
    has_goal: ClassVar[bool] = True
    goal_tolerance_m: float
    settle_s: float

    def __init__(self, space: ActionSpace, weights: Config) -> None:
        self.space, self.weights = space, weights
        self.state_names, self.action_names = space.state_names, space.action_names
        self.obs_size, self.action_size = 2 * len(space.state_names), len(space.action_names)

    @abc.abstractmethod
    def sample_goal(self, rng: np.random.Generator, state: RobotState) -> np.ndarray:
        """Draw the goal of an episode that begins in a state, shape (3,), metres; raises like `ActionSpace.observe`."""

    @abc.abstractmethod
    def goal_refusal(self, goal_m: np.ndarray) -> str:
        """Why a point, shape (3,), is no goal; empty if it is one."""

    @abc.abstractmethod
    def paths(self, obs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Positions of tool and body by name, in the base frame, metres, shape (..., 3) for obs of shape (..., O)."""

    @abc.abstractmethod
    def achieved(self, obs: torch.Tensor) -> torch.Tensor:
        """Position that should reach the goal, in the base frame, metres, shape (..., 3) for obs of shape (..., O)."""

    @abc.abstractmethod
    def gap(self, achieved: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Distance between achieved positions and goals in the task's measure, metres, shape (...); shapes (..., 3) broadcast."""

    @abc.abstractmethod
    def values(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor) -> dict[str, torch.Tensor]:
        """Terms by name before weighting, in the order of the weights; the goal has the dtype and device of `obs`."""

    def is_over(self, obs: torch.Tensor) -> torch.Tensor:
        """Nothing ends a task for good: a success ends the episode, but the reward would go on; shape (...), bool."""
        return torch.zeros(obs.shape[:-1], dtype=torch.bool, device=obs.device)

    def distance(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """Distance to the goal, metres, shape (...) for obs of shape (..., O)."""
        achieved = self.achieved(obs)
        return self.gap(achieved, torch.as_tensor(goal, dtype=achieved.dtype, device=achieved.device))

    def is_within(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """Whether the distance is within tolerance, bool, shape (...)."""
        return self.distance(obs, goal) <= self.goal_tolerance_m

    def terms(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
              weights: Config | None = None) -> dict[str, torch.Tensor]:
        """Weighted reward terms by name, each of shape (...); their sum is `reward`. Arguments as for `reward`."""
        goal = torch.as_tensor(goal, dtype=obs.dtype, device=obs.device)
        factors = self._factors(weights or self.weights)
        return {name: factor * value for (name, value), factor in zip(self.values(obs, action, goal).items(), factors)}

    def reward(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
               weights: Config | None = None) -> torch.Tensor:
        """Reward of steps, shape (...); leading axes broadcast against each other.

        Args:
            obs: Observations after the actions, shape (..., O).
            action: Shape (..., A), normalised to [-1, 1].
            goal: Positions in the base frame, shape (..., 3), metres.
            weights: Weights of the terms; the task's own by default.
        """
        goal, factors = (torch.as_tensor(numbers, dtype=obs.dtype, device=obs.device)
                         for numbers in (goal, self._factors(weights or self.weights)))
        return self._total(obs, action, goal, factors)

    def objective(self, goal: torch.Tensor | Sequence[float], weights: Config | None = None) -> 'TaskObjective':
        """Bind `reward` to a goal and weights, for a planner."""
        numbers = [*map(float, goal), *self._factors(weights or self.weights)]
        return TaskObjective(self, torch.tensor(numbers, dtype=torch.float64))

    def weights_of(self, values: Mapping[str, float]) -> Config:
        """Weights by term, as a report has them; the task's own if there are none.

        Raises:
            ConfigError: A term is missing or unknown, or a weight does not fit.
        """
        if values and (missing := [name for name in vars(self.weights) if name not in values]):
            raise ConfigError(f'the reward of {self.name!r} needs weights of {", ".join(missing)} too, got {", ".join(values)}')
        return type(self.weights).from_mapping(values) if values else self.weights

    def _factors(self, weights: Config) -> list[float]:
        """Factors of the terms: the weight of a reward, minus the weight of a cost."""
        return [weight if name in self.rewards else -weight for name, weight in vars(weights).items()]

    def _total(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Sum of the weighted terms; one fused operation per term, because planning spends much of its time here."""
        pairs = zip(self.values(obs, action, goal).values(), factors.unbind())
        value, factor = next(pairs)
        total = factor * value
        for value, factor in pairs:
            total = torch.addcmul(total, value, factor)
        return total


class TaskObjective:
    """Reward of a task bound to a goal and weights; implements `planning.captured.ParametricObjective`.

    Args:
        task: The task, which becomes the attribute `kind`.
        parameters: Goal, metres, then the factor of each term: the weight of a reward, minus the weight of a cost.
    """

    def __init__(self, task: Task, parameters: torch.Tensor) -> None:
        self.kind: Hashable = task
        self.parameters = parameters

    def at(self, parameters: torch.Tensor) -> 'TaskObjective':
        """Objective of the same task with other parameters."""
        return TaskObjective(self.kind, parameters)

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """See `Task.reward`."""
        goal, factors = self.parameters.to(obs).split([GOAL_SIZE, self.parameters.shape[0] - GOAL_SIZE])
        return self.kind._total(obs, action, goal, factors)


def draw_goal(propose: Callable[[], np.ndarray], fits: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Return the first proposal that fits, or the last of many if none does, as for a body that fell off the table."""
    for _ in range(_GOAL_DRAWS):
        goal = propose()
        if fits(goal):
            break
    return goal


class SuccessCounter:
    """Detects success: the goal is held for some time without interruption. A success is final.

    Args:
        settle_s: Time to hold the goal; at least one control step.
        period_s: Control period.
    """

    def __init__(self, settle_s: float, period_s: float) -> None:
        self._needed = max(1, round(settle_s / period_s))
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._held = 0
        self.success = False

    def update(self, within: bool, steps: int = 1) -> bool:
        """Count control steps; returns whether the episode has succeeded.

        Args:
            within: Whether the goal is held in the last of the steps.
            steps: Steps since the last call; steps between two calls that both hold the goal count as held.
        """
        self._held = (self._held + steps if self._held else 1) if within else 0
        self.success = self.success or self._held >= self._needed
        return self.success
