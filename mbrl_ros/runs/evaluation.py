"""How well a learned model does: many episodes, spread over the cores, from which nothing is learned."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.errors import ModelMismatchError
from mbrl_ros.runs.playing import EVALUATION, Episode, Runner
from mbrl_ros.runs.workers import worker_pool
from mbrl_ros.video import EpisodeCamera, frame_s, write_video

#: How long a video shows the last picture of each episode.
_LAST_PICTURE_S = 1.0


class AnyEvaluation(Protocol):
    """A model file and a seed, in a task (`task_evaluation`) or in an environment (`env_evaluation`)."""

    model: Path
    seed: int

    def loop(self) -> Runner:
        """The runner that plays the episodes.

        Raises:
            ConfigError: The runner cannot be made.
        """

    def summary(self, outcomes: Sequence['Outcome']) -> dict[str, Any]:
        """Figures over all episodes by name; one of them is `task` or `env`."""

    def in_words(self, figures: Mapping[str, Any]) -> list[str]:
        """What the summary says beside the common figures, in lines; `in_words` adds those to the last."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of one episode.

    Attributes:
        success: Whether the goal was reached and held; None if the environment does not say.
        steps: Control steps.
        distance_m: Distance from the goal at the end; NaN without a goal.
        episode_return: Sum of rewards.
        plan_ms: Time of each plan.
        began_at_goal: As of the episode.
    """

    success: bool | None
    steps: int
    distance_m: float
    episode_return: float
    plan_ms: tuple[float, ...]
    began_at_goal: bool | None = None

    @classmethod
    def of(cls, episode: Episode) -> 'Outcome':
        """Outcome of an episode."""
        return cls(episode.success, episode.steps, episode.distance_m, episode.episode_return, tuple(1e3 * episode.plan_s),
                   episode.began_at_goal)


def common_figures(evaluation: AnyEvaluation, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Figures of every summary: steps learned from, planning times (NaN without a plan), seed and model."""
    plan_ms = np.concatenate([outcome.plan_ms for outcome in outcomes])
    plan_ms = plan_ms if len(plan_ms) else np.array([np.nan])
    return {'real_steps_trained': AgentBundle.load(evaluation.model).card.real_steps,
            'plan_ms_p50': float(np.percentile(plan_ms, 50)), 'plan_ms_p99': float(np.percentile(plan_ms, 99)),
            'seed': evaluation.seed, 'model': str(evaluation.model)}


def in_words(evaluation: AnyEvaluation, figures: Mapping[str, Any]) -> list[str]:
    """Lines that say what a summary does."""
    *lines, last = evaluation.in_words(figures)
    return [*lines, f'trained on {figures["real_steps_trained"]} real control steps; {last}; '
                    f'plan {figures["plan_ms_p50"]:.1f} ms median, {figures["plan_ms_p99"]:.1f} ms p99']


def require_fit(evaluation: AnyEvaluation) -> None:
    """Check that the model fits the evaluation.

    Raises:
        ConfigError: As for `evaluation.loop`, or planning with the model needs more memory than its settings allow.
        ModelError: The model cannot be read, or is for another task, robot, layout, period or reward.
    """
    model = AgentBundle.load(evaluation.model)
    with contextlib.closing(evaluation.loop()) as loop:
        try:
            loop.agent.with_bundle(model)
        except ModelMismatchError as error:
            raise ModelMismatchError(f'{evaluation.model}: {error}') from None


def evaluate(evaluation: AnyEvaluation, episodes: int, workers: int, on_outcome: Callable[[Outcome], None] = lambda _: None,
             ) -> list[Outcome]:
    """Play episodes in worker processes and return their outcomes in order, which do not depend on the number of workers.

    `on_outcome` gets each outcome as it comes. An exception, also one from Ctrl-C or SIGTERM, ends all workers at once.
    """
    outcomes: dict[int, Outcome] = {}
    with worker_pool(min(workers, episodes), _start_worker, (evaluation,)) as pool:
        pending = {pool.submit(_play, index): index for index in range(episodes)}
        for future in as_completed(pending):
            outcomes[pending[future]] = future.result()
            on_outcome(outcomes[pending[future]])
    return [outcomes[index] for index in range(episodes)]


def evaluate_here(evaluation: AnyEvaluation, episodes: int) -> list[Outcome]:
    """Play episodes in this process, one after another, so that none of them makes plans of another slow."""
    loop, play = _player(evaluation)
    with contextlib.closing(loop):
        return [Outcome.of(play(episode=index)) for index in range(episodes)]


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """Wilson 95 % interval of a success rate, as (lower, upper)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, episodes).proportion_ci(0.95, 'wilson')
    return interval.low, interval.high


def record(evaluation: AnyEvaluation, episodes: int, path: Path) -> None:
    """Play the first episodes once more and write them as a video in real time."""
    loop, play = _player(evaluation)
    with contextlib.closing(loop):
        write_video(path, _frames(loop, play, episodes, path), frame_s(path, loop.period_s))


def _frames(loop: Runner, play: Callable[..., Episode], episodes: int, path: Path) -> Iterator[np.ndarray]:
    """Pictures of the episodes, captioned with episode, time and, at the end, the result."""
    for index in range(episodes):
        camera = EpisodeCamera(loop.picture, path, loop.period_s, f'{loop.name}: episode {index + 1} of {episodes}')
        episode = play(episode=index, on_step=camera.on_step)
        camera.take(_told(episode))
        yield from camera.pictures
        yield from itertools.repeat(camera.pictures[-1], round(_LAST_PICTURE_S / frame_s(path, loop.period_s)))


def _told(episode: Episode) -> str:
    if episode.success is None:
        return f'return {episode.episode_return:.1f}'
    return 'success' if episode.success else 'no success'


def _player(evaluation: AnyEvaluation) -> tuple[Runner, Callable[..., Episode]]:
    """The runner, and its `play` with model, seed and stream of the evaluation."""
    loop = evaluation.loop()
    agent = loop.agent.with_bundle(AgentBundle.load(evaluation.model))
    return loop, functools.partial(loop.play, agent, seed=evaluation.seed, stream=EVALUATION)


_play_in_worker: Callable[..., Episode]


def _start_worker(evaluation: AnyEvaluation) -> None:
    global _play_in_worker  # noqa: PLW0603  a process pool has no other place for what its workers keep
    import torch

    torch.set_num_threads(1)
    _, _play_in_worker = _player(evaluation)


def _play(index: int) -> Outcome:
    return Outcome.of(_play_in_worker(episode=index))
