"""What plays the episodes of a run in one process: the contract between learning and whatever is learned in."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mbrl_ros.agents.agent import Agent, AgentConfig, AgentKind
from mbrl_ros.agents.bundle import Contract
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.spaces.space import Space

#: Episodes of learning and those of evaluating are drawn from different streams of a seed.
LEARNING, EVALUATION = 0, 1


@dataclasses.dataclass(frozen=True)
class Episode:
    """What happened in one episode of T control steps.

    Attributes:
        phase: `demonstrated`, `exploring` or `running`.
        success: Whether the goal was reached and held; None where nothing says so.
        distance_m: Distance from the goal at the end; NaN where there is no goal.
        episode_return: Sum of rewards; an episode ends with its success.
        plan_s: Time of each decision of the agent; empty where it decided nothing.
        obs: Observations, the last one included, shape (T + 1, O).
        action: What the applied commands amounted to, shape (T, A).
    """

    phase: str
    success: bool | None
    distance_m: float
    episode_return: float
    plan_s: np.ndarray
    obs: np.ndarray
    action: np.ndarray

    @property
    def steps(self) -> int:
        """Control steps, T."""
        return len(self.action)


class LoopConfig(Protocol):
    """Settings that every run has, whatever it is learned in.

    Attributes:
        explorations: Episodes of random motion after the demonstrations.
        kind: Of the agent.
        agent_config: Settings of agent and learner.
    """

    explorations: int
    kind: AgentKind
    agent_config: AgentConfig

    def to_mapping(self) -> dict[str, Any]:
        """As `Config.to_mapping`."""


class Runner(Protocol):
    """Plays episodes, each a function of its arguments.

    Attributes:
        config: Settings.
        name: What is learned.
        file_name: The same as a name of a folder.
        identity: What a run has to be of, besides seed and settings, for another to go on with it.
        contract: What a bundle has to be for.
        space: What observations and actions are.
        agent: Who acts, without a bundle yet.
        demonstrations: First episodes, which are not the agent's.
        has_goal: Whether episodes have a success and a distance.
    """

    config: LoopConfig
    name: str
    file_name: str
    identity: dict[str, Any]
    contract: Contract
    space: Space
    agent: Agent
    demonstrations: int
    has_goal: bool

    def prepare(self) -> None:
        """Get the agent ready for the weights to come.

        Raises:
            ConfigError: The settings do not allow weights of their size.
        """

    def play(self, agent: Agent | None, *, seed: int, episode: int, stream: int = LEARNING) -> Episode:
        """Run one episode with an agent, or explore without one; the same arguments give the same episode."""

    def demonstrate(self, *, seed: int, episode: int) -> Episode:
        """One of the first episodes, which are not the agent's."""

    def draw(self, scores: Sequence[EpisodeScore], path: Path, *, seed: int) -> None:
        """Write the learning curve of a run as a PNG."""

    def close(self) -> None:
        """Leave what is played in."""
