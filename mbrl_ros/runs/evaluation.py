"""How well a learned model does: many episodes, spread over the cores, with nothing learned from them."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mbrl_ros.agents.agent import Agent
from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.errors import ModelMismatchError
from mbrl_ros.runs.playing import EVALUATION, LEARNING, Episode, Runner
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.runs.workers import worker_pool
from mbrl_ros.runs.world import WorldMaker
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.video import EpisodeCamera, steps_per_frame, write_video

_CONFIDENCE = 0.95
#: How long a video stays at the end of each episode.
_LAST_PICTURE_S = 1.0


class AnyEvaluation(Protocol):
    """What can be evaluated: a task, or an environment as `env_evaluation.EnvEvaluation` has it.

    Attributes:
        model: File of the model.
        seed: Of everything that is drawn.
    """

    model: Path
    seed: int

    def loop(self) -> 'PicturedLoop':
        """What it is played in.

        Raises:
            ConfigError: It cannot be made.
        """


class PicturedLoop(Runner, Protocol):
    """A loop that can be watched.

    Attributes:
        period_s: Control period.
    """

    period_s: float

    def play(self, agent: Agent | None, *, seed: int, episode: int, stream: int = LEARNING,
             on_step: Callable[[], None] = lambda: None) -> Episode:
        """As `Runner.play`; `on_step` is called before each control step."""

    def picture(self, width: int, height: int) -> np.ndarray:
        """The scene as it is, shape (height, width, 3), uint8."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What to evaluate of a task; implements `AnyEvaluation`.

    Attributes:
        task: Name of the task.
        config: Settings that it is played with.
        model: File of the model.
        make_world: Makes the world that it is played in.
        seed: Of cubes, goals and plans.
        robot: Robot profile.
        object_kind: What lies on the table, as for `TaskLoop`; a model learns with cubes.
        live: Whether the nodes play it, not one process.
    """

    task: str
    config: TaskLoopConfig
    model: Path
    make_world: WorldMaker
    seed: int = 0
    robot: str = 'panda'
    object_kind: str = 'cube'
    live: bool = False

    def loop(self) -> TaskLoop:
        """What it is played in.

        Raises:
            ConfigError: As for `TaskLoop`, or the task has no such object.
        """
        return TaskLoop(self.task, self.config.evaluated(), self.make_world, self.robot, self.object_kind)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one episode came to.

    Attributes:
        success: Whether the goal was reached and held; None where nothing says so.
        steps: Control steps.
        distance_m: Distance from the goal at the end; NaN where there is no goal.
        episode_return: Sum of rewards.
        plan_ms: Time of each plan.
    """

    success: bool | None
    steps: int
    distance_m: float
    episode_return: float
    plan_ms: tuple[float, ...]

    @classmethod
    def of(cls, episode: Episode) -> 'Outcome':
        """Outcome of an episode."""
        return cls(episode.success, episode.steps, episode.distance_m, episode.episode_return, tuple(1e3 * episode.plan_s))


def require_fit(evaluation: AnyEvaluation) -> None:
    """Require that an evaluation can be made.

    Raises:
        ConfigError: As for `Evaluation.loop`, or there is no memory for plans with the model.
        ModelError: The model cannot be read, or is for another task, robot, layout, period or reward.
    """
    model = AgentBundle.load(evaluation.model)
    loop = evaluation.loop()
    try:
        loop.agent.with_bundle(model)
    except ModelMismatchError as error:
        raise ModelMismatchError(f'{evaluation.model}: {error}') from None
    finally:
        loop.close()


def evaluate(evaluation: AnyEvaluation, episodes: int, workers: int, on_outcome: Callable[[Outcome], None] = lambda _: None,
             ) -> list[Outcome]:
    """Play episodes in processes of their own; the same evaluation gives the same outcomes however many there are.

    What is raised meanwhile, by Ctrl-C or SIGTERM too, ends all episodes at once.

    Args:
        evaluation: What to evaluate.
        episodes: How many.
        workers: Processes.
        on_outcome: Told each outcome as it comes.

    Returns:
        One an episode, in the order of their numbers.
    """
    outcomes: dict[int, Outcome] = {}
    with worker_pool(min(workers, episodes), _start_worker, (evaluation,)) as pool:
        pending = {pool.submit(_play, index): index for index in range(episodes)}
        for future in as_completed(pending):
            outcomes[pending[future]] = future.result()
            on_outcome(outcomes[pending[future]])
    return [outcomes[index] for index in range(episodes)]


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """Wilson 95 % interval of a success rate, its lower and its upper bound."""
    from scipy.stats import binomtest

    interval = binomtest(successes, episodes).proportion_ci(_CONFIDENCE, 'wilson')
    return interval.low, interval.high


def summary(evaluation: Evaluation, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Figures over all episodes, with the Wilson interval of the success rate."""
    successes = sum(outcome.success for outcome in outcomes)
    plan_ms = np.concatenate([outcome.plan_ms for outcome in outcomes])
    plan_ms = plan_ms if len(plan_ms) else np.array([np.nan])
    reached = [outcome.steps for outcome in outcomes if outcome.success]
    return {
        'task': evaluation.task, 'episodes': len(outcomes), 'success_rate': successes / len(outcomes),
        'ci95': list(wilson_interval(successes, len(outcomes))),
        'mean_return': float(np.mean([outcome.episode_return for outcome in outcomes])),
        'median_steps_to_success': float(np.median(reached)) if reached else float('nan'),
        'median_distance_m': float(np.median([outcome.distance_m for outcome in outcomes])),
        'real_steps_trained': AgentBundle.load(evaluation.model).card.real_steps,
        'plan_ms_p50': float(np.percentile(plan_ms, 50)), 'plan_ms_p99': float(np.percentile(plan_ms, 99)),
        'seed': evaluation.seed, 'model': str(evaluation.model), 'robot': evaluation.robot, 'object': evaluation.object_kind,
        'live': evaluation.live,
    }


def record(evaluation: AnyEvaluation, episodes: int, path: Path) -> None:
    """Play the first episodes once more and write what they look like, in real time, as a video."""
    player = _Player(evaluation)
    try:
        write_video(path, _frames(player, episodes, path), steps_per_frame(path) * player.loop.period_s)
    finally:
        player.loop.close()


def _frames(player: '_Player', episodes: int, path: Path) -> Iterator[np.ndarray]:
    """Pictures of episodes, each captioned with its number, the control step and, at the end, what came of it."""
    loop = player.loop
    for index in range(episodes):
        camera = EpisodeCamera(loop.picture, path, f'{loop.name}: episode {index + 1} of {episodes}')
        episode = player.play(index, camera.on_step)
        camera.take(f'step {episode.steps}, {_told(episode)}')
        yield from camera.pictures
        yield from itertools.repeat(camera.pictures[-1], round(_LAST_PICTURE_S / (steps_per_frame(path) * loop.period_s)))


def _told(episode: Episode) -> str:
    if episode.success is None:
        return f'return {episode.episode_return:.1f}'
    return 'success' if episode.success else 'no success'


class _Player:
    """A loop and an agent, ready to play."""

    def __init__(self, evaluation: AnyEvaluation) -> None:
        self._seed = evaluation.seed
        self.loop = evaluation.loop()
        self._agent = self.loop.agent.with_bundle(AgentBundle.load(evaluation.model))

    def play(self, index: int, on_step: Callable[[], None] = lambda: None) -> Episode:
        return self.loop.play(self._agent, seed=self._seed, episode=index, stream=EVALUATION, on_step=on_step)


_player: _Player | None = None


def _start_worker(evaluation: AnyEvaluation) -> None:
    global _player  # noqa: PLW0603  a process pool has no other place for what its workers keep
    import torch

    torch.set_num_threads(1)
    _player = _Player(evaluation)


def _play(index: int) -> Outcome:
    return Outcome.of(_player.play(index))
