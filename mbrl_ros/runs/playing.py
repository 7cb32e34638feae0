"""What plays the episodes of a run in one process: the contract between learning and whatever is learned in."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from mbrl_ros.agents.agent import Agent, AgentConfig, AgentKind
from mbrl_ros.agents.bundle import Contract
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.spaces.space import Space
from mbrl_ros.types import TAGS, Phase

#: Episodes of learning and those of evaluating are drawn from different streams of a seed.
LEARNING, EVALUATION = 0, 1


@dataclasses.dataclass(frozen=True)
class Episode:
    """What happened in one episode of T control steps.

    Attributes:
        phase: `demonstrated`, `exploring` or `running`.
        success: Whether the goal was reached and held; None where nothing says so.
        distance_m: Distance from the goal at the end; NaN where there is no goal.
        episode_return: Sum of the rewards that the world gives.
        plan_s: Time of each decision of the agent; empty where it decided nothing.
        obs: Observations, the last one included, shape (T + 1, O).
        action: What the applied commands amounted to, shape (T, A).
        reward: Of each step, shape (T,).
        goal: What was pursued at each step, shape (T, 3); NaN where there is no goal.
        terminated: Whether the last step ended it for good, as with success; otherwise a limit did.
    """

    phase: str
    success: bool | None
    distance_m: float
    episode_return: float
    plan_s: np.ndarray
    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    goal: np.ndarray
    terminated: bool

    @property
    def steps(self) -> int:
        """Control steps, T."""
        return len(self.action)

    def transitions(self, stamps_ns: np.ndarray, episode: int) -> Transitions:
        """Its control steps.

        Args:
            stamps_ns: When each began, shape (T,).
            episode: Number of the episode.
        """
        is_last = np.arange(self.steps) == self.steps - 1
        return Transitions.of(self.obs[:-1], self.action, self.obs[1:], stamps_ns, episode=episode, goal=self.goal,
                              reward=self.reward, terminated=is_last & self.terminated, truncated=is_last & (not self.terminated),
                              tags=int(TAGS.get(Phase(self.phase), 0)))


class Step(NamedTuple):
    """One control step.

    Attributes:
        action: What the applied command amounted to, shape (A,).
        reward: What it earned.
        elapsed_s: Time of the agent's decision; None where it decided nothing.
    """

    action: np.ndarray
    reward: float
    elapsed_s: float | None


class Play(Protocol):
    """An episode under way.

    Attributes:
        phase: As `Episode.phase`.
        obs: Newest observation, shape (O,).
        goal: What is pursued, shape (3,); NaN where there is no goal.
        is_over: Whether the episode has ended.
        terminated: As `Episode.terminated`, once it has.
        success: As `Episode.success`, so far.
        distance_m: As `Episode.distance_m`, now.
        episode_return: So far.
    """

    phase: str
    obs: np.ndarray
    goal: np.ndarray
    is_over: bool
    terminated: bool
    success: bool | None
    distance_m: float
    episode_return: float

    def step(self) -> Step:
        """Make a control step."""


def play_out(play: Play, on_step: Callable[[], None] = lambda: None) -> Episode:
    """Play an episode to its end; `on_step` is called before each control step."""
    obs, goals, steps = [play.obs], [], []
    while not play.is_over:
        on_step()
        goals.append(play.goal)
        steps.append(play.step())
        obs.append(play.obs)
    return Episode(play.phase, play.success, play.distance_m, play.episode_return,
                   np.array([step.elapsed_s for step in steps if step.elapsed_s is not None]), np.array(obs),
                   np.array([step.action for step in steps]), np.array([step.reward for step in steps]), np.array(goals),
                   play.terminated)


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
