"""An agent without a plan, a model or an uncertainty: joint velocities towards the goal, by a gain that its learner improves.

It shows that nodes and runs know agents and learners by their protocols alone.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.agent import Decision, LearningReport, Lesson
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.kind import ActingConfig, AgentKind
from mbrl_ros.config import setting
from mbrl_ros.errors import BundleError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.planning.planner import Objective
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.space import Space
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.training.rounds import RoundsConfig

_POSITION = slice(0, 3)
_FIRST_GAIN = 0.8


@dataclasses.dataclass(frozen=True)
class ProportionalActingConfig(ActingConfig):
    """How it acts."""

    damping: float = setting(0.05, 'Damping of the pseudo-inverse.', low=1e-6)


@dataclasses.dataclass(frozen=True)
class ProportionalLearnerConfig(RoundsConfig):
    """How it learns."""


class ProportionalAgent:
    """Moves the tool straight to the goal; implements `Agent`, with no memory."""

    def __init__(self, contract: Contract, space: Space, config: ProportionalActingConfig, **_unused: Any) -> None:
        robot = load_robot(contract.robot)
        self._contract, self._damping = contract, config.damping
        self._kinematics, self._limits = KinematicChain.of_robot(robot), np.array(robot.max_velocity_rad_s)
        self._gain, self.version, self.is_ready = 0.0, 0, False

    def with_bundle(self, bundle: AgentBundle) -> 'ProportionalAgent':
        """See `Agent.with_bundle`."""
        bundle.card.check_fits(self._contract)
        agent = ProportionalAgent(self._contract, None, ProportionalActingConfig(damping=self._damping))
        agent._gain, agent.version, agent.is_ready = _gain(bundle), bundle.version, True
        return agent

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        return 'moving by a gain'

    def reset(self, seed: int) -> None:
        """See `Agent.reset`."""

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> None:
        """It has no model."""

    def act(self, obs: np.ndarray, goal: np.ndarray, memory: None, *, objective: Objective, previous_action: np.ndarray,
            deadline_s: float | None = None) -> Decision:
        """See `Agent.act`."""
        begin_s, q = time.perf_counter(), torch.as_tensor(obs[:len(self._limits)])
        away = np.asarray(goal) - self._kinematics.position(q).numpy()
        jacobian = self._kinematics.jacobian(q).numpy()[_POSITION]
        square = jacobian @ jacobian.T + self._damping**2 * np.eye(3)
        velocity = jacobian.T @ np.linalg.solve(square, self._gain * away)
        return Decision(np.clip(velocity / self._limits, -1.0, 1.0), time.perf_counter() - begin_s)


class ProportionalLearner:
    """Begins with a small gain, and doubles it when an episode of the agent ended short of its goal; implements `Learner`."""

    def __init__(self, contract: Contract, space: Space, config: RoundsConfig, wanted: GoalReward) -> None:
        self._gain, self._wanted = 0.0, wanted

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        self._gain = _gain(bundle)

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`."""
        return np.zeros(len(transitions), dtype=bool)

    def surprise(self, transitions: Transitions) -> None:
        """It foresees nothing."""

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        last = lesson.transitions.take(lesson.transitions.episode == lesson.transitions.episode[-1])
        there = self._wanted.is_within(*(torch.from_numpy(values[-1:].copy()) for values in (last.next_obs, last.goal)))
        fell_short = last.truncated[-1] and not last.tags.any() and not there
        gain = _FIRST_GAIN if not self._gain else 2.0 * self._gain if fell_short else self._gain
        return LearningReport({'policy': {'gain': torch.tensor([gain])}}, gain != self._gain, f'a gain of {gain:g} 1/s',
                              {'gain': gain}, {'gain': self._gain} if self._gain else {})


def _gain(bundle: AgentBundle) -> float:
    gain = bundle.group('policy').get('gain', torch.empty(0))
    if gain.shape != (1,) or not torch.isfinite(gain).all():
        raise BundleError(f'policy needs one finite gain, got {gain.tolist()}')
    return float(gain)


KIND = AgentKind('joint velocities towards the goal', ProportionalActingConfig, ProportionalLearnerConfig, ProportionalAgent,
                 ProportionalLearner)
