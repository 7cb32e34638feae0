"""An agent that stands still and keeps what it was asked; what it learns in a round is one reward. For tests of live weights."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.agent import Decision, Follows, LearningReport, Lesson
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.kind import ActingConfig, AgentKind
from mbrl_ros.errors import TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.planning.planner import Objective
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.space import Space
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.training.rounds import RoundsConfig

ROUNDS = 3
GOAL = (0.5, 0.0, 0.5)
HOME = torch.tensor([*load_robot('panda').home_rad, *[0.0] * 7])

#: The objectives that agents were asked with.
ASKED: list[Objective] = []
#: Rounds end only while this is set; and each round sets `BEGUN`.
MAY_END, BEGUN = threading.Event(), threading.Event()
MAY_END.set()


@dataclasses.dataclass(frozen=True)
class FollowerLearnerConfig(RoundsConfig):
    """When a round is due, and how many it takes to follow."""

    @property
    def rounds_to_follow(self) -> int:
        """See `RoundsConfig.rounds_to_follow`."""
        return ROUNDS


class FollowerAgent:
    """Stands still; implements `Agent`."""

    def __init__(self, contract: Contract, space: Space, config: ActingConfig, **_unused: Any) -> None:
        self.version, self.is_ready = 1, True

    def with_bundle(self, bundle: AgentBundle) -> 'FollowerAgent':
        """See `Agent.with_bundle`."""
        return self

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        return 'standing'

    def reset(self, seed: int) -> None:
        """See `Agent.reset`."""

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> None:
        """It has no model."""

    def act(self, obs: np.ndarray, goal: np.ndarray, memory: None, *, objective: Objective, previous_action: np.ndarray,
            deadline_s: float | None = None) -> Decision:
        """See `Agent.act`."""
        ASKED.append(objective)
        return Decision(np.zeros_like(previous_action), 0.0)


class FollowerLearner:
    """Learns the reward of standing at home; implements `Learner`."""

    def __init__(self, contract: Contract, space: Space, config: FollowerLearnerConfig, wanted: GoalReward) -> None:
        self._wanted = wanted

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`."""
        return np.zeros(len(transitions), dtype=bool)

    def surprise(self, transitions: Transitions) -> None:
        """It foresees nothing."""

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        BEGUN.set()
        while not MAY_END.wait(0.01):
            if is_cancelled():
                raise TrainingCancelled
        reward = self._wanted.reward(HOME[None], torch.zeros(1, 7), torch.tensor([GOAL]))
        return LearningReport({'policy': {'reward': reward}}, True, 'learned', {}, {})


KIND = AgentKind('stands still', ActingConfig, FollowerLearnerConfig, FollowerAgent, FollowerLearner, follows=Follows.RETRAINED)
