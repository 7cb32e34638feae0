"""What every agent and every learner promises: the two words that control and training know.

An agent acts and a learner learns; a bundle of weights travels from one to the other. Both are made for one contract by an
`AgentKind`, which the registry holds under the agent's name.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.config import Config
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.planning.planner import Objective
from mbrl_ros.spaces.space import Space
from mbrl_ros.types import Plan


@dataclasses.dataclass(frozen=True)
class Decision:
    """What an agent decided in one control step.

    Attributes:
        action: Shape (A,), normalised to [-1, 1].
        elapsed_s: Time that it took.
        value: Return that the agent expects; None where it expects nothing in numbers.
        uncertainty: How little the agent knows about where the action leads, in typical changes of one step; None where it
            cannot say.
        plan: The plan that the action is the first step of, if there is one.
    """

    action: np.ndarray
    elapsed_s: float
    value: float | None = None
    uncertainty: float | None = None
    plan: Plan | None = None

    @property
    def is_finite(self) -> bool:
        """Whether every number that would be acted on or judged is finite."""
        uncertainty = 0.0 if self.uncertainty is None else self.uncertainty
        plan = () if self.plan is None else (self.plan.actions, self.plan.mean_obs)
        return all(np.isfinite(values).all() for values in (self.action, uncertainty, *plan))


class Agent(Protocol):
    """Acts. Weights never change; what changes from decision to decision is in a memory that the caller keeps.

    Attributes:
        version: Version of the bundle that it acts with; 0 before the first.
        is_ready: Whether it can act; an agent that needs weights cannot before its first bundle.
    """

    version: int
    is_ready: bool

    def with_bundle(self, bundle: AgentBundle) -> 'Agent':
        """The same agent with other weights; memories of this one are its memories too.

        Raises:
            ModelMismatchError: The bundle is for another contract.
            BundleError: Its tensors are not this agent's.
            ConfigError: The agent's settings do not allow weights of this size.
        """

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """Compile, capture, warm up and check memory for the sizes that will be used; returns a line for the log.

        Args:
            obs: Any observation, shape (O,).
            objective: Any objective.

        Raises:
            ConfigError: The agent's settings do not allow weights of the size to come.
        """

    def reset(self, seed: int) -> Any:
        """A memory to begin an episode with; the memories given before are no longer valid."""

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> np.ndarray | None:
        """Observation at the moment that an action decided now takes effect, shape (O,); None for an agent without a model.

        Args:
            obs: As measured, shape (O,).
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
            goal: Goal in the base frame, shape (3,), metres; None where the task has none.
            memory: What `reset` gave; changed in place.
            objective: Reward of steps with the goal and the live weights in it.
            previous_action: Action in effect until then, shape (A,).
            deadline_s: Time allowed from the call on; None for as long as it takes, repeatably.

        Raises:
            PlanningError: There is no action to give.
            ShapeError: An argument does not fit.
        """


@dataclasses.dataclass(frozen=True)
class Surprise:
    """How well transitions were foreseen by the bundle in use.

    Attributes:
        level: Mean over transitions of how unlikely each was, bounded from above, so that a single collision counts little.
        typical_error: Median error of a prediction, in units of a typical change.
        num_transitions: How many transitions there were.
    """

    level: float
    typical_error: float
    num_transitions: int


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a learner is given in one round.

    Attributes:
        transitions: N transitions, oldest first.
        held_out: Which must not be trained on, shape (N,), bool; as the learner's own `held_out` said.
        judged_on: Which of those a candidate and the bundle in use are to be compared on, shape (N,), bool.
        recent: Which came since the world last changed, shape (N,), bool.
        repeats: How often the recent ones are added once more, so that they have their share.
        seed: Decides all randomness of the round.
    """

    transitions: Transitions
    held_out: np.ndarray
    judged_on: np.ndarray
    recent: np.ndarray
    repeats: int
    seed: int


@dataclasses.dataclass(frozen=True)
class LearningReport:
    """What came of one round.

    Attributes:
        groups: Tensors of the candidate, as a bundle holds them.
        is_better: Whether the learner has shown the candidate to be no worse than the bundle in use.
        reason: Why, one sentence with the figures.
        figures: Of the candidate, by name.
        figures_in_use: Of the bundle in use on the same transitions; empty where there is none.
    """

    groups: Mapping[str, Mapping[str, torch.Tensor]]
    is_better: bool
    reason: str
    figures: Mapping[str, float]
    figures_in_use: Mapping[str, float]


class Learner(Protocol):
    """Learns: turns experience into groups of tensors that its agent acts with."""

    def resume(self, bundle: AgentBundle) -> None:
        """Go on from a bundle, which from now on is the one in use.

        Raises:
            BundleError: Its tensors are not this learner's.
        """

    def held_out(self, stamps_ns: np.ndarray) -> np.ndarray:
        """Which transitions are never trained on, shape (N,), bool; by their stamps alone, so that it stays so in all rounds."""

    def surprise(self, transitions: Transitions) -> Surprise | None:
        """How well the bundle in use foresees transitions; None for a learner that foresees nothing."""

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """Learn one round; the bundle in use stays what it is.

        Args:
            lesson: What to learn from.
            is_cancelled: Asked now and then.

        Raises:
            ModelError: Nothing can be learned from this.
            TrainingCancelled: `is_cancelled` said so.
        """


@dataclasses.dataclass(frozen=True)
class ActingConfig(Config):
    """Settings of an agent; each algorithm has a class of its own."""

    @classmethod
    def on_device(cls, device: str) -> dict[str, Any]:
        """Settings, nested by name, that make the agent compute on a device; empty where it has no choice."""
        return {}


@dataclasses.dataclass(frozen=True)
class AgentConfig(Config):
    """Settings of an agent and of its learner, which has the section `learner`; each algorithm has a class of its own."""

    def acting(self) -> ActingConfig:
        """Settings of the agent alone, as its kind's `acting`.

        Raises:
            NotImplementedError: The algorithm's class does not say.
        """
        raise NotImplementedError

    def evaluated(self) -> 'AgentConfig':
        """The same settings for an evaluation, in which nothing is tried out."""
        return self


class AgentMaker(Protocol):
    """Makes an agent that has no bundle yet."""

    def __call__(self, contract: Contract, space: Space, config: Any, *, max_action_change: np.ndarray | None = None,
                 is_repeatable: bool = True) -> Agent:
        """Make it.

        Args:
            contract: What it is for.
            space: What its observations and actions are.
            config: Settings, of its kind's class `acting`.
            max_action_change: Largest change of an action within one step, shape (A,); None for no limit.
            is_repeatable: Whether the same seed has to give the same actions, so that nothing may hang on measured times.

        Raises:
            ConfigError: A setting does not fit this machine.
        """


@dataclasses.dataclass(frozen=True)
class AgentKind:
    """An algorithm: its settings, and how its agent and its learner are made.

    Attributes:
        summary: One line for a table.
        acting: Settings of the agent.
        learning: The section `learner`, alone.
        config: Settings of agent and learner.
        make_agent: Makes the agent.
        make_learner: Makes the learner from contract, space and the settings in the section `learner`.
    """

    summary: str
    acting: type[ActingConfig]
    learning: type[Config]
    config: type[AgentConfig]
    make_agent: AgentMaker
    make_learner: Callable[[Contract, Space, Any], Learner]
