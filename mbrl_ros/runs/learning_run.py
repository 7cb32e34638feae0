"""Learning from nothing, episode after episode; after each episode the folder has everything to resume the run.

The folder of a run holds `config.yaml` (resolved settings) and `checkpoint.safetensors` (experience, model and scores, replaced
as one after each episode). Made from these are `scores.csv`, `model.safetensors`, the experience beside it that a live arm
continues from, `learning_curve.png`, and event files of TensorBoard in `tensorboard/`. An episode is a function of seed, number
and the models it is played with, and a round of training, after or within an episode, is one of seed, its place in the run, the
experience and the model before it. A resumed run therefore equals a run that was never interrupted.
"""

import contextlib
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mbrl_ros.agents.agent import Agent
from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.errors import ConfigError, ModelError
from mbrl_ros.experience.buffer import ReplayBuffer, Transitions
from mbrl_ros.experience.demonstrations import DemonstratedEpisode
from mbrl_ros.experience.saved import SavedExperience
from mbrl_ros.runs.notes import Notes, require_plans
from mbrl_ros.runs.playing import Episode, Runner
from mbrl_ros.runs.run_folder import begin, require_same
from mbrl_ros.runs.scalars import ScalarLog
from mbrl_ros.runs.scores import EpisodeScore, ScoreBoard, ScoreConfig
from mbrl_ros.training.drift import DriftState
from mbrl_ros.training.rounds import Rounds
from mbrl_ros.types import Phase, TrainingReport

_NANOSECONDS = 1_000_000_000
#: Step between the numbers of rounds within an episode; the round after an episode has the episode's index as its number.
_WITHIN = 1 << 32


@dataclasses.dataclass(frozen=True)
class Progress:
    """One episode of a run.

    Attributes:
        episode: The episode.
        score: Its score.
        training: The round of training after it; None before the demonstrations are complete.
        notes: What the user should be told, a sentence each.
    """

    episode: Episode
    score: EpisodeScore
    training: TrainingReport | None
    notes: tuple[str, ...]


def require_same_run(folder: Path, loop: Runner, seed: int) -> dict[str, Any]:
    """Require that a folder holds the run of a loop and a seed, and return the identity in the folder.

    Raises:
        ConfigError: As for `run_folder.require_same`.
    """
    return require_same(folder, _identity(loop, seed), type(loop.config)().to_mapping())


class LearningRun:
    """One run of learning in one folder.

    Args:
        loop: Plays the episodes; the caller closes it.
        seed: Seed of everything random.
        folder: Folder of the run; made if need be.
        resume: Whether to go on with the run in the folder.
        shown: Recorded episodes that a new run begins with, instead of episodes of the loop's expert. The run keeps them.

    Raises:
        ConfigError: The folder cannot be written, holds another run, or holds none that can be resumed; or the settings do not
            allow models of the size to come.

    Attributes:
        board: Scores so far.
        rounds: Makes the rounds of training and owns the bundle in use.
    """

    def __init__(self, loop: Runner, *, seed: int, folder: Path, resume: bool = False,
                 shown: Sequence[DemonstratedEpisode] = ()) -> None:
        if resume and shown:
            raise ConfigError(f'{folder}: the run has its demonstrations already; to go on with it, leave --demos out')
        loop.prepare()
        self._folder, self._checkpoint, self._seed, self.loop = folder, folder / 'checkpoint.safetensors', seed, loop
        sources = {'demos': list(dict.fromkeys(episode.source for episode in shown))} if shown else {}
        if not resume:
            begin(folder, {**_identity(loop, seed), **sources})
        elif require_same_run(folder, loop, seed).get('demos') and not self._checkpoint.exists():
            raise ConfigError(f'{folder}: holds a run that ended before its demonstrations were kept; '
                              'begin anew in another folder')
        self._demonstrations, self._is_untrained = loop.demonstrations, False
        settings = loop.config.agent_config.learner
        learner = loop.config.kind.make_learner(loop.contract, loop.space, settings, loop.wanted)
        self.rounds = Rounds(learner, loop.contract, settings, seed=seed, follows=loop.config.kind.follows)
        self._notes, self._reports = Notes(loop), []
        self._buffer = ReplayBuffer(loop.contract.obs_size, loop.contract.action_size, sys.maxsize)
        scores = self._restore() if resume and self._checkpoint.exists() else []
        self.board = ScoreBoard(ScoreConfig(), folder / 'scores.csv', scores, has_goal=loop.has_goal,
                                tells_success=loop.tells_success)
        if shown:
            self._begin_with(shown)

    @property
    def total_steps(self) -> int:
        """Real control steps so far."""
        return self.board.scores[-1].total_steps if self.board.scores else 0

    @property
    def headline(self) -> str:
        """Name of the task or environment, and how the last planned episodes went if they tell their success."""
        return '  '.join(filter(None, (self.loop.name, self.board.recent)))

    def foreseen(self, steps: int) -> tuple[str, ...]:
        """What the user should be told before `episodes` with this argument, a sentence each."""
        return self._notes.before(self.total_steps, steps)

    def episodes(self, steps: int, on_step: Callable[[int], None] = lambda _: None) -> Iterator[Progress]:
        """Run episodes and train after each, until the run has made `steps` real control steps; earlier parts of the run count.

        Everything is saved after each episode. Before each control step `on_step` is called with the number of steps made.

        Raises:
            PlanningError: Planning failed in all steps of three episodes in a row.
            MeasurementError: An environment returned values that are not finite.
        """
        with contextlib.closing(ScalarLog(self._folder / 'tensorboard', self.board.scores)) as log:
            if self._is_untrained:
                self._learn_from_recorded()
            while self.total_steps < steps:
                made = itertools.count(self.total_steps)
                progress = self._next_episode(lambda made=made: on_step(next(made)))
                log.add(progress.score, progress.training)
                yield progress
                require_plans(self.board.scores, progress.episode)

    def _learn_from_recorded(self) -> None:
        """Make the first round of training of a run that began with recorded episodes."""
        begin_s = time.monotonic()
        self._train_after(self._demonstrations - 1)
        self.board.note_training(time.monotonic() - begin_s)
        self._is_untrained = False
        self._keep()

    def _next_episode(self, on_step: Callable[[], None]) -> Progress:
        """Run the next episode, train after it, and save everything."""
        begin_s = time.monotonic()
        index = len(self.board.scores)
        episode = self._played(index, on_step)
        model = self.rounds.current
        rows = episode.transitions(self._stamps_ns(0, episode.steps), index)
        self._buffer.extend(rows.take(slice(self._num_collected, None)))
        training = self._train_after(index) if index + 1 >= self._demonstrations else None
        score = self._score(episode, index, model if episode.phase == Phase.RUNNING.value else None)
        self.board.add(dataclasses.replace(score, wall_s=time.monotonic() - begin_s))
        if any(report.changed for report in self._reports):
            self.board.note_change()
        self._keep()
        notes = self._notes.after(index, episode, self._buffer.arrays(), self._reports,
                                  is_last_random=index + 1 == max(self._first_planned, 1))
        self._reports.clear()
        return Progress(episode, self.board.scores[-1], training, notes)

    def _played(self, index: int, on_step: Callable[[], None]) -> Episode:
        """Run an episode, with rounds of training within it if it is planned, or random only for want of a model."""
        if index < self._demonstrations:
            return self.loop.demonstrate(seed=self._seed, episode=index, on_step=on_step)
        if index < self._first_planned:
            return self.loop.play(None, seed=self._seed, episode=index, on_step=on_step)

        def relearn(newest: Episode) -> Agent | None:
            self._train_within(index, newest)
            return self._agent

        return self.loop.play(self._agent, seed=self._seed, episode=index, on_step=on_step, relearn=relearn)

    @property
    def _first_planned(self) -> int:
        """Index of the first episode that does not have to be random."""
        return self._demonstrations + self.loop.config.explorations

    @property
    def _agent(self) -> Agent | None:
        """The agent with the bundle in use; None before the first."""
        return self.loop.agent.with_bundle(self.rounds.current) if self.rounds.current else None

    def draw(self) -> Path:
        """Draw the learning curve and return the path of the picture."""
        path = self._folder / 'learning_curve.png'
        self.loop.draw(self.board.scores, path, seed=self._seed)
        return path

    def _begin_with(self, shown: Sequence[DemonstratedEpisode]) -> None:
        """Take over recorded episodes; `episodes` learns from them first."""
        for index, episode in enumerate(shown):
            rows = episode.transitions
            stamps_ns = self._stamps_ns(0, len(rows))
            self._buffer.extend(dataclasses.replace(rows, stamp_ns=stamps_ns, episode=np.full(len(rows), index)))
            nan = float('nan')
            self.board.add(EpisodeScore(
                episode=index, total_steps=self.total_steps + episode.steps, phase=Phase.DEMONSTRATED.value,
                success=episode.success, distance_m=episode.distance_m, episode_return=episode.episode_return, model_version=0,
                model_error=nan, plan_ms_p50=nan, plan_ms_p99=nan, deadline_misses=0, wall_s=0.0))
        self._demonstrations, self._is_untrained = len(shown), True
        self._keep()

    @property
    def _num_collected(self) -> int:
        """Control steps of the next episode that are in the buffer already."""
        return len(self._buffer) - self.total_steps

    def _stamps_ns(self, begin: int, steps: int) -> np.ndarray:
        """Stamps of control steps of the next episode, from one on."""
        return (self.total_steps + begin + np.arange(steps)) * round(self.loop.contract.period_s * _NANOSECONDS)

    def _train_after(self, index: int) -> TrainingReport:
        """Make the round of training after an episode."""
        return self._train(self._buffer.arrays(), index, index)

    def _train_within(self, index: int, newest: Episode) -> TrainingReport:
        """Make a round of training within an episode, after the newest part of it."""
        self._buffer.extend(newest.transitions(self._stamps_ns(self._num_collected, newest.steps), index))
        part = self._num_collected // self.loop.steps_per_round
        return self._train(self._buffer.arrays(), index - 1, index + _WITHIN * part)

    def _train(self, rows: Transitions, episode: int, round_index: int) -> TrainingReport:
        report = self.rounds.round(rows, episode=episode, round_index=round_index, stamp_ns=int(rows.stamp_ns[-1]),
                                   weights=self.loop.weights)
        self._reports.append(report)
        return report

    def _score(self, episode: Episode, index: int, model: AgentBundle | None) -> EpisodeScore:
        plan_ms = 1e3 * episode.plan_s if len(episode.plan_s) else np.array([np.nan])
        version, figures = (model.version, model.card.figures) if model else (0, {})
        return EpisodeScore(
            episode=index, total_steps=self.total_steps + episode.steps, phase=episode.phase, success=episode.success,
            distance_m=episode.distance_m, episode_return=episode.episode_return, model_version=version,
            model_error=figures.get('holdout_rmse', float('nan')), plan_ms_p50=float(np.percentile(plan_ms, 50)),
            plan_ms_p99=float(np.percentile(plan_ms, 99)), deadline_misses=0, failed_plans=len(episode.failures))

    def _keep(self) -> None:
        model = self.rounds.current
        transitions = self._buffer.arrays()
        kept = {**transitions.columns(), 'learned_stamp_ns': self.rounds.learned_stamps,
                'judged_stamp_ns': self.rounds.judged_stamps,
                'model': np.frombuffer(b'' if model is None else model.to_bytes(), dtype=np.uint8)}
        temporary = self._checkpoint.with_name(f'.{self._checkpoint.name}')
        save_file(kept, temporary, {'scores': json.dumps([dataclasses.asdict(score) for score in self.board.scores]),
                                    'drift': json.dumps(dataclasses.asdict(self.rounds.drift)),
                                    'demonstrations': str(self._demonstrations), 'is_untrained': str(int(self._is_untrained))})
        temporary.replace(self._checkpoint)
        self.board.save()
        if model is not None:
            path = self._folder / 'model.safetensors'
            model.save(path)
            SavedExperience(transitions, self.rounds.learned_stamps).save(path)

    def _restore(self) -> list[EpisodeScore]:
        """Load what `_keep` saved and return the scores."""
        try:
            with safe_open(self._checkpoint, 'numpy') as file:
                kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
                metadata = file.metadata()
                scores = [EpisodeScore(**values) for values in json.loads(metadata['scores'])]
                drift = DriftState(**json.loads(metadata['drift']))
                self._demonstrations = int(metadata['demonstrations'])
                self._is_untrained = bool(int(metadata['is_untrained']))
            model, stamps = kept.pop('model').tobytes(), (kept.pop('learned_stamp_ns'), kept.pop('judged_stamp_ns'))
            self._buffer.extend(Transitions.of(**kept))
            if model:
                self.rounds.resume(AgentBundle.from_bytes(model), *stamps, drift)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, ModelError) as error:
            raise ConfigError(f'{self._checkpoint}: cannot be gone on with ({error})') from None
        return scores


def _identity(loop: Runner, seed: int) -> dict[str, Any]:
    return {**loop.identity, 'seed': seed, 'settings': loop.config.to_mapping()}
