"""The contract between learning and what it learns in: a `Runner` plays episodes of a task or an environment in one process."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from mbrl_ros.agents.agent import Agent
from mbrl_ros.agents.bundle import Contract
from mbrl_ros.agents.kind import AgentConfig, AgentKind
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.experience.demonstrations import DemonstratedEpisode
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.spaces.space import Space
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.types import TAGS, Phase

#: Learning and evaluation draw their episodes from different streams of a seed.
LEARNING, EVALUATION = 0, 1


@dataclasses.dataclass(frozen=True)
class Episode:
    """What happened in one episode of T control steps.

    Attributes:
        phase: `demonstrated`, `exploring` or `running`, at the end.
        success: Whether the goal was reached and held; None if the environment does not say.
        distance_m: Distance from the goal at the end; NaN without a goal.
        episode_return: Sum of the rewards of the world or environment.
        plan_s: Time of each decision of the agent; empty if the agent did not act.
        failures: Why planning failed, for each step in which it did.
        obs: Observations, the last one included, shape (T + 1, O).
        action: Applied commands as actions, shape (T, A).
        reward: Reward of each step, shape (T,).
        goal: Goal at each step, shape (T, 3); NaN without a goal.
        tags: `Tag` of each step, shape (T,), uint8.
        terminated: Whether the last step ended the episode for good, so that no reward could follow.
        is_over: Whether the episode has ended; false for a part of one that goes on.
        began_at_goal: Whether it began where it was to end; None if that is not known.
    """

    phase: str
    success: bool | None
    distance_m: float
    episode_return: float
    plan_s: np.ndarray
    failures: tuple[str, ...]
    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    goal: np.ndarray
    tags: np.ndarray
    terminated: bool
    is_over: bool = True
    began_at_goal: bool | None = None

    @property
    def steps(self) -> int:
        """Control steps, T."""
        return len(self.action)

    def transitions(self, stamps_ns: np.ndarray, episode: int) -> Transitions:
        """The control steps, which began at `stamps_ns`, shape (T,), as transitions of an episode with this index."""
        ends = self.is_over & (np.arange(self.steps) == self.steps - 1)
        return Transitions.of(self.obs[:-1], self.action, self.obs[1:], stamps_ns, episode=episode, goal=self.goal,
                              reward=self.reward, terminated=ends & self.terminated, truncated=ends & (not self.terminated),
                              tags=self.tags)


#: From the newest part of an episode to the agent to go on with; None goes on with random actions.
Relearn = Callable[[Episode], Agent | None]


class Step(NamedTuple):
    """One control step.

    Attributes:
        action: Applied command as an action, shape (A,).
        reward: Reward of the step.
        elapsed_s: Time of the agent's decision; None if the agent did not act.
        failure: Why planning failed; None if it did not.
    """

    action: np.ndarray
    reward: float
    elapsed_s: float | None
    failure: str | None = None


class Play(Protocol):
    """An episode under way.

    Attributes:
        obs: Newest observation, shape (O,).
        goal: Goal, shape (3,); NaN without a goal.
        is_over: Whether the episode has ended.
        terminated: As `Episode.terminated`, once the episode is over.
        phase: Phase of the next step.
        success, distance_m, episode_return: As in `Episode`, so far.
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


def play_out(play: Play, on_step: Callable[[], None] = lambda: None, *, every: int = 0,
             on_part: Callable[[Episode], None] = lambda _: None) -> Episode:
    """Play an episode to its end.

    Args:
        play: The episode.
        on_step: Called before each control step.
        every: Control steps from one call of `on_part` to the next; 0 for no calls.
        on_part: Called with the newest `every` steps, while the episode is not over.
    """
    obs, goals, phases, steps = [play.obs], [], [], []

    def since(begin: int) -> Episode:
        made = steps[begin:]
        tags = np.array([TAGS.get(Phase(phase), 0) for phase in phases[begin:]], dtype=np.uint8)
        return Episode(play.phase, play.success, play.distance_m, play.episode_return,
                       np.array([step.elapsed_s for step in made if step.elapsed_s is not None]),
                       tuple(step.failure for step in made if step.failure is not None), np.array(obs[begin:]),
                       np.array([step.action for step in made]), np.array([step.reward for step in made]),
                       np.array(goals[begin:]), tags, play.terminated, play.is_over)

    while not play.is_over:
        on_step()
        goals.append(play.goal)
        phases.append(play.phase)
        steps.append(play.step())
        obs.append(play.obs)
        if every and len(steps) % every == 0 and not play.is_over:
            on_part(since(len(steps) - every))
    return since(0)


class LoopConfig(Protocol):
    """Settings of every run; `explorations` is the number of random episodes after the demonstrations."""

    explorations: int
    kind: AgentKind
    agent_config: AgentConfig

    def to_mapping(self) -> dict[str, Any]:
        """As `Config.to_mapping`."""


class Runner(Protocol):
    """Plays episodes, each a function of its arguments.

    Attributes:
        config: Settings.
        name: Name of the task or environment.
        file_name: The name as a folder name.
        identity: What else has to be equal, besides seed and settings, for a run to be resumed.
        contract: What a bundle has to be for.
        period_s: Control period.
        space: Space of observations and actions.
        wanted: Reward of any transition, for learners of policies.
        weights: Weights of that reward by term; empty for one without.
        agent: The agent, without a bundle yet.
        demonstrations: Number of first episodes that the scripted expert plays.
        max_episode_steps: Control steps of the longest episode.
        steps_per_round: Control steps from one round of training within an episode to the next; 0 for none.
        has_goal: Whether episodes have a distance from a goal.
        tells_success: Whether episodes have a success.
        needs_rewards: Whether the reward is learned, and from experienced rewards alone.
    """

    config: LoopConfig
    name: str
    file_name: str
    identity: dict[str, Any]
    contract: Contract
    period_s: float
    space: Space
    wanted: GoalReward
    weights: Mapping[str, float]
    agent: Agent
    demonstrations: int
    max_episode_steps: int
    steps_per_round: int
    has_goal: bool
    tells_success: bool
    needs_rewards: bool

    def prepare(self) -> None:
        """Prepare the agent for the weights that learning will make.

        Raises:
            ConfigError: The settings do not allow weights of this size.
        """

    def play(self, agent: Agent | None, *, seed: int, episode: int, stream: int = LEARNING,
             on_step: Callable[[], None] = lambda: None, relearn: Relearn | None = None) -> Episode:
        """Run one episode; the same arguments give the same episode.

        Args:
            agent: Agent to play with; None explores with random actions.
            seed: Together with `stream` and `episode` the seed of everything random.
            episode: Index of the episode.
            stream: `LEARNING` or `EVALUATION`.
            on_step: Called before each control step, e.g. to take a picture.
            relearn: Called with these steps after every `steps_per_round` control steps, unless the episode is over; a runner in
                which this is 0 never calls it.

        Raises:
            MeasurementError: An environment returned values that are not finite.
        """

    def demonstrate(self, *, seed: int, episode: int, on_step: Callable[[], None] = lambda: None) -> Episode:
        """Run one episode of the scripted expert; `on_step` is called before each control step.

        Raises:
            ConfigError: There is no expert.
        """

    def load_demonstrations(self, sources: Sequence[str], *, seed: int,
                            on_damage: Callable[[str], None] = lambda _: None) -> list[DemonstratedEpisode]:
        """Demonstrated episodes that others have shown, in their order.

        Args:
            sources: Bags of a task; files, datasets or experts of an environment.
            seed: Seed of the run, which decides how the episodes of an expert begin.
            on_damage: Called with a line for each damaged part that was skipped.

        Raises:
            BagError, DemonstrationError: A source cannot be used.
            ConfigError: There is no such expert.
            MeasurementError: The environment failed while an expert was played.
        """

    def picture(self, width: int, height: int) -> np.ndarray:
        """Picture of the scene as it is now, shape (height, width, 3), uint8.

        Raises:
            ConfigError: The environment cannot be drawn.
        """

    def draw(self, scores: Sequence[EpisodeScore], path: Path, *, seed: int) -> None:
        """Draw the learning curve of a run and write a PNG."""

    def close(self) -> None:
        """Close the world or environment."""
