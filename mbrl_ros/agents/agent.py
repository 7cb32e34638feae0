"""The protocols `Agent`, which control knows, and `Learner`, which training knows.

A learner makes bundles of weights, and an agent acts with them. A `kind.AgentKind` makes both for one contract.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.planning.planner import Objective
from mbrl_ros.types import Plan


class Follows(str, enum.Enum):
    """When an agent follows new weights of the task's reward."""

    AT_ONCE = 'at once'             #: it plans with the objective
    RETRAINED = 'after retraining'  #: rounds learn what acts, or a part of it, for a reward; see `RoundsConfig.rounds_to_follow`
    NEVER = 'never'                 #: it has values or a cost of its own


@dataclasses.dataclass(frozen=True)
class Decision:
    """What an agent decided in one control step.

    Attributes:
        action: Shape (A,), normalised to [-1, 1].
        elapsed_s: Time of the decision.
        value: Return that the agent expects; None if it estimates none.
        uncertainty: Uncertainty of the predicted outcome, in typical changes of one step; None if the agent estimates none.
        plan: Plan whose first step is the action, if there is one.
        note: Why the agent fell back on something else than a new plan; empty if it did not.
    """

    action: np.ndarray
    elapsed_s: float
    value: float | None = None
    uncertainty: float | None = None
    plan: Plan | None = None
    note: str = ''

    @property
    def is_finite(self) -> bool:
        """Whether action, uncertainty and plan are finite; the controller acts on these or judges them."""
        uncertainty = 0.0 if self.uncertainty is None else self.uncertainty
        plan = () if self.plan is None else (self.plan.actions, self.plan.mean_obs)
        return all(np.isfinite(values).all() for values in (self.action, uncertainty, *plan))


class Agent(Protocol):
    """Acts. Its weights never change; the caller keeps the memory, which changes with every decision.

    Attributes:
        version: Version of the bundle in use; 0 before the first.
        is_ready: Whether the agent can act; an agent with weights needs its first bundle.
    """

    version: int
    is_ready: bool

    def with_bundle(self, bundle: AgentBundle) -> 'Agent':
        """Copy of the agent with other weights; memories of this agent stay valid for the copy.

        Raises:
            ModelMismatchError: The bundle is for another contract.
            BundleError: The agent cannot read the tensors.
            ConfigError: The agent's settings do not allow weights of this size.
        """

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """Compile, capture, warm up and check memory for the expected sizes; returns a line for the log.

        Args:
            obs: Any observation, shape (O,).
            objective: Any objective.

        Raises:
            ConfigError: The agent's settings do not allow weights of the expected size.
        """

    def reset(self, seed: int) -> Any:
        """Memory for a new episode; earlier memories become invalid."""

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> np.ndarray | None:
        """Predict the observation when an action decided now takes effect, shape (O,); None for an agent without a model.

        Args:
            obs: Measured observation, shape (O,).
            previous_action: Action in effect until then, shape (A,).
            latency_s: Time until then, 0 or more.

        Raises:
            ShapeError: `obs` or `previous_action` does not fit.
            PlanningError: The prediction is not finite.
        """

    def act(self, obs: np.ndarray, goal: np.ndarray | None, memory: Any, *, objective: Objective, previous_action: np.ndarray,
            deadline_s: float | None = None) -> Decision:
        """Decide one control step.

        Args:
            obs: Observation at the moment the action takes effect, shape (O,).
            goal: Goal in the base frame, shape (3,), metres; None for a task without goals.
            memory: Memory of `reset`; changed in place.
            objective: Reward of steps, for this goal and the live weights.
            previous_action: Action in effect until then, shape (A,).
            deadline_s: Time allowed from the call on; None for no limit, and a repeatable decision.

        Raises:
            PlanningError: The agent has no action that may be executed.
            ShapeError: An argument does not fit.
        """


@dataclasses.dataclass(frozen=True)
class Surprise:
    """How well the bundle in use predicted transitions.

    Attributes:
        level: Mean over transitions of their surprise, each bounded from above, so that a single collision counts little.
        typical_error: Median prediction error, in units of a typical change.
        num_transitions: Number of transitions.
    """

    level: float
    typical_error: float
    num_transitions: int


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a learner is given in one round.

    Attributes:
        transitions: N transitions, oldest first.
        held_out: Result of `Learner.held_out`: which transitions are never trained on, shape (N,), bool.
        judged_on: Held-out transitions to compare candidate and bundle in use on, shape (N,), bool.
        recent: Transitions since the dynamics last changed, shape (N,), bool.
        repeats: Additional copies of the recent transitions to train on, so that they have more weight.
        seed: Seed of all randomness in the round.
    """

    transitions: Transitions
    held_out: np.ndarray
    judged_on: np.ndarray
    recent: np.ndarray
    repeats: int
    seed: int


@dataclasses.dataclass(frozen=True)
class LearningReport:
    """Result of one round.

    Attributes:
        groups: Tensors of the candidate, see `AgentBundle.groups`.
        is_better: Whether the learner has shown the candidate to be no worse than the bundle in use.
        reason: Why, one sentence with the figures.
        figures: Validation figures of the candidate, by name.
        figures_in_use: Those of the bundle in use on the same transitions; empty without one.
        origin, view: As on the candidate's card.
        warnings: What the experience lacks to be learned from, one sentence each.
    """

    groups: Mapping[str, Mapping[str, torch.Tensor]]
    is_better: bool
    reason: str
    figures: Mapping[str, float]
    figures_in_use: Mapping[str, float]
    origin: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    view: str = ''


class Learner(Protocol):
    """Turns experience into the tensors that its agent acts with."""

    def resume(self, bundle: AgentBundle) -> None:
        """Make a bundle the one in use, from which the next round continues.

        Raises:
            BundleError: The learner cannot read the tensors.
        """

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """Which transitions are never trained on, shape (N,), bool; depends on stamps and episodes alone, so all rounds agree."""

    def surprise(self, transitions: Transitions) -> Surprise | None:
        """How well the bundle in use predicts transitions; None without a bundle, or for a learner that predicts nothing."""

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """Train a candidate; the bundle in use does not change.

        Args:
            lesson: What to learn from.
            is_cancelled: Polled; true ends the round.

        Raises:
            ModelError: The lesson is not enough to learn from.
            TrainingCancelled: `is_cancelled` returned true.
        """
