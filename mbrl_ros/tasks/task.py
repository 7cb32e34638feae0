"""What every task provides to the planner, the episode manager and the controller."""

import abc
import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, Protocol

import numpy as np
import torch

from mbrl_ros.config import Config
from mbrl_ros.spaces.space import ActionSpace
from mbrl_ros.types import RobotState

_GOAL_SIZE = 3
_GOAL_DRAWS = 1000


class Task(Protocol):
    """A reward over observations, with a goal and weights that may change between any two plans.

    Attributes:
        name: Key in the registry.
        space: What observations and actions are.
        state_names: Entries of the observation: their positions, then their velocities.
        action_names: The A entries of an action.
        obs_size: O = 2 * len(state_names).
        action_size: A.
        goal_tolerance_m: Largest distance that counts as being there.
        settle_s: Time within tolerance on end that makes a success.
        weights: Weights in use when none are given.
    """

    name: str
    space: ActionSpace
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    obs_size: int
    action_size: int
    goal_tolerance_m: float
    settle_s: float
    weights: Config

    def terms(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
              weights: Config | None = None) -> dict[str, torch.Tensor]:
        """Weighted reward terms by name, each of shape (...); their sum is `reward`. Arguments as for `reward`."""

    def reward(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
               weights: Config | None = None) -> torch.Tensor:
        """Reward of steps; leading axes broadcast against each other.

        Args:
            obs: Observations that the actions led to, shape (..., O).
            action: Shape (..., A), normalised to [-1, 1].
            goal: Position in the base frame, shape (3,), metres.
            weights: Weights of the terms; the task's own when left out.

        Returns:
            Shape (...).
        """

    def objective(self, goal: torch.Tensor | Sequence[float],
                  weights: Config | None = None) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """`reward` bound to a goal and weights, as a planner takes it.

        To be planned with on a GPU without launch gaps it needs `kind`, `parameters` and `at` as well, as
        `planning.captured.ParametricObjective` has them.
        """

    def sample_goal(self, rng: np.random.Generator, state: RobotState) -> np.ndarray:
        """Draw the goal of an episode that begins in a state, shape (3,), metres."""

    def goal_refusal(self, goal_m: np.ndarray) -> str:
        """Why a point, shape (3,), is no goal; empty when it is one."""

    def paths(self, obs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Where the things that the task is about are, in the base frame: by name, metres, shape (..., 3) for obs (..., O)."""

    def achieved(self, obs: torch.Tensor) -> torch.Tensor:
        """The position that is to get to the goal, in the base frame, metres, shape (..., 3) for obs of shape (..., O)."""

    def gap(self, achieved: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Distance between positions achieved and goals, as far as it matters; shapes (..., 3) broadcast, metres, shape (...)."""

    def distance(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """Distance to the goal, metres, shape (...) for obs of shape (..., O)."""

    def is_within(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """Whether the distance is within tolerance, bool, shape (...)."""


class WeightedTask(abc.ABC):
    """A task whose reward is a weighted sum of named terms; does for `Task` what does not depend on the terms.

    Args:
        space: What observations and actions are.
        weights: Weights in use when none are given; its fields name the terms.
    """

    #: Terms that are rewards; the others are costs.
    rewards: ClassVar[tuple[str, ...]] = ()
    goal_tolerance_m: float

    def __init__(self, space: ActionSpace, weights: Config) -> None:
        self.space, self.weights = space, weights
        self.state_names, self.action_names = space.state_names, space.action_names
        self.obs_size, self.action_size = 2 * len(space.state_names), len(space.action_names)

    @abc.abstractmethod
    def achieved(self, obs: torch.Tensor) -> torch.Tensor:
        """What the goal is for; see `Task.achieved`."""

    @abc.abstractmethod
    def gap(self, achieved: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """What is left to do; see `Task.gap`."""

    def distance(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """The gap between what is achieved and the goal; see `Task.distance`."""
        achieved = self.achieved(obs)
        return self.gap(achieved, torch.as_tensor(goal, dtype=achieved.dtype, device=achieved.device))

    def is_within(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """Whether it is little enough; see `Task.is_within`."""
        return self.distance(obs, goal) <= self.goal_tolerance_m

    @abc.abstractmethod
    def values(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms by name and before weighting, in the order of the weights; goal of the dtype and on the device of `obs`."""

    def terms(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
              weights: Config | None = None) -> dict[str, torch.Tensor]:
        """Weighted reward terms by name; see `Task.terms`."""
        goal = torch.as_tensor(goal, dtype=obs.dtype, device=obs.device)
        factors = self._factors(weights or self.weights)
        return {name: factor * value for (name, value), factor in zip(self.values(obs, action, goal).items(), factors)}

    def reward(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
               weights: Config | None = None) -> torch.Tensor:
        """Sum of the terms; see `Task.reward`."""
        goal, factors = (torch.as_tensor(numbers, dtype=obs.dtype, device=obs.device)
                         for numbers in (goal, self._factors(weights or self.weights)))
        return self._total(obs, action, goal, factors)

    def objective(self, goal: torch.Tensor | Sequence[float], weights: Config | None = None) -> 'TaskObjective':
        """`reward` bound to a goal and weights; see `Task.objective`."""
        numbers = [*map(float, goal), *self._factors(weights or self.weights)]
        return TaskObjective(self, torch.tensor(numbers, dtype=torch.float64))

    def _factors(self, weights: Config) -> list[float]:
        """What each term is multiplied by."""
        names = (field.name for field in dataclasses.fields(weights))
        return [getattr(weights, name) * (1.0 if name in self.rewards else -1.0) for name in names]

    def _total(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Sum of the weighted terms, each weighted and added in one operation, as a planner does it most of the time."""
        pairs = zip(self.values(obs, action, goal).values(), factors.unbind())
        value, factor = next(pairs)
        total = factor * value
        for value, factor in pairs:
            total = torch.addcmul(total, value, factor)
        return total


class TaskObjective:
    """Reward of a task bound to a goal and weights; implements `planning.captured.ParametricObjective`.

    Args:
        task: The task.
        parameters: Goal, metres, then the factor of each term: the weight of a reward, minus the weight of a cost.

    Attributes:
        kind: The task.
        parameters: As given.
    """

    def __init__(self, task: WeightedTask, parameters: torch.Tensor) -> None:
        self.kind: Hashable = task
        self.parameters = parameters

    def at(self, parameters: torch.Tensor) -> 'TaskObjective':
        """The same task, its numbers read from this tensor."""
        return TaskObjective(self.kind, parameters)

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """As `WeightedTask.reward`."""
        goal, factors = self.parameters.to(obs).split([_GOAL_SIZE, self.parameters.shape[0] - _GOAL_SIZE])
        return self.kind._total(obs, action, goal, factors)


def draw_goal(propose: Callable[[], np.ndarray], fits: Callable[[np.ndarray], bool]) -> np.ndarray:
    """The first proposal that fits; where none of many does, as for a body that fell off the table, the last one."""
    for _ in range(_GOAL_DRAWS):
        goal = propose()
        if fits(goal):
            break
    return goal


class SuccessCounter:
    """Success once the goal has been held for some time on end; then it stays.

    Args:
        settle_s: That time; one control step is the least.
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
        """Count control steps; True from the step on that makes the success.

        Args:
            within: Whether the goal is held in the last of them.
            steps: How many there were since the last look; those between two looks that find the goal held count as held.
        """
        self._held = (self._held + steps if self._held else 1) if within else 0
        self.success = self.success or self._held >= self._needed
        return self.success
