"""Scores of finished episodes: a table line for each, the summary, and the verdict whether the arm learned."""

import csv
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.types import Phase

#: Phase, in scores, of an episode that should have been planned, but the arm was held from beginning to end.
HELD = 'held'
#: Episodes in a success rate.
WINDOW = 20
#: Episodes in a rate or mean of a learning curve; a small window shows a fall soon.
RECENT = 10
_COLUMNS = ('episode', 'steps', 'phase', 'success', 'distance', 'return', 'model', 'error', 'plan p50', 'p99', 'missed')
_UNITS = ('', 'real', '', '', 'cm', '', 'version', 'rmse', 'ms', 'ms', 'ticks')
_WIDTHS = (7, 6, 12, 7, 8, 9, 7, 7, 8, 7, 6)


@dataclasses.dataclass(frozen=True)
class ScoreConfig(Config):
    """When the arm counts as having learned."""

    required_successes: int = setting(19, 'Successes among the last episodes that count as learned; 0 asks for nothing.', low=0)
    last_episodes: int = setting(20, 'How many of the last episodes are looked at.', low=1)


@dataclasses.dataclass(frozen=True)
class EpisodeScore:
    """One finished episode.

    Attributes:
        episode: Index, from 0.
        total_steps: Real control steps of all episodes so far, without those in which the arm was held.
        phase: `demonstrated`, `exploring`, `running`, or `held` if the arm was held all the time, so that nothing was planned,
            or for too long; success rates leave such episodes out.
        success: Whether the goal was reached and held; None if the environment does not say, or the episode was held.
        distance_m: Distance from the goal at the end; NaN without a goal.
        episode_return: Sum of rewards.
        model_version: Version planned with at the end; 0 for none.
        model_error: Held-out one-step RMSE of that model, in standard deviations of its outputs; NaN for none.
        plan_ms_p50: Median planning time of the episode; NaN if nothing was planned.
        plan_ms_p99: 99th percentile.
        deadline_misses: Ticks of the episode that were skipped or whose plan was late; in lockstep, which has no deadline, those
            that would have been late.
        changed: Whether the round of training after it reported a change of the world.
        wall_s: Wall time of the episode and the round of training after it; 0 for an episode recorded before the run. In a live
            run, time since the end of the episode before. NaN if not measured.
        held_steps: Control steps of the episode in which the arm was held, in a live run.
        failed_plans: Control steps of the episode in which planning failed, in one process.
        retraining: Whether the agent was behind new weights of the reward at the end, in a live run.
        follow_s: Time by which it followed the newest weights; 0 for an agent that follows at once, NaN without a change or while
            retraining.
    """

    episode: int
    total_steps: int
    phase: str
    success: bool | None
    distance_m: float
    episode_return: float
    model_version: int
    model_error: float
    plan_ms_p50: float
    plan_ms_p99: float
    deadline_misses: int
    changed: bool = False
    wall_s: float = float('nan')
    held_steps: int = 0
    failed_plans: int = 0
    retraining: bool = False
    follow_s: float = float('nan')


class ScoreBoard:
    """Collects scores, makes the lines of their table, and writes them to a CSV file.

    Args:
        config: When the arm counts as having learned.
        csv_path: File that `save` writes; None for no file. The file of another run is renamed to the time at which it ended.
        scores: Earlier scores of the same run when it is resumed; the file then stays.
        has_goal: Whether lines show the distance.
        tells_success: Whether lines show success.
    """

    def __init__(self, config: ScoreConfig, csv_path: Path | None = None, scores: Sequence[EpisodeScore] = (), *,
                 has_goal: bool = True, tells_success: bool = True) -> None:
        self._config = config
        hidden = {'distance': not has_goal, 'success': not tells_success}
        self._shown = [index for index, name in enumerate(_COLUMNS) if not hidden.get(name)]
        self._csv_path = csv_path
        if csv_path is not None and csv_path.exists() and not scores:
            ended = time.strftime('%Y%m%d-%H%M%S', time.localtime(csv_path.stat().st_mtime))
            csv_path.replace(csv_path.with_stem(f'{csv_path.stem}-{ended}'))
        self.scores: list[EpisodeScore] = list(scores)

    def add(self, score: EpisodeScore) -> str:
        """Add a score and return its table line."""
        self.scores.append(score)
        return self.line(score)

    def note_change(self) -> None:
        """Mark in the last score that the round of training after it reported a change of the world."""
        self.scores[-1] = dataclasses.replace(self.scores[-1], changed=True)

    def note_training(self, wall_s: float) -> None:
        """Add the duration of a round of training to the last score."""
        self.scores[-1] = dataclasses.replace(self.scores[-1], wall_s=self.scores[-1].wall_s + wall_s)

    def line(self, score: EpisodeScore) -> str:
        """Table line of a score."""
        return self._line(
            str(score.episode), str(score.total_steps), score.phase, {True: 'yes', False: 'no', None: '-'}[score.success],
            f'{100 * score.distance_m:.1f}', f'{score.episode_return:.1f}', str(score.model_version or '-'),
            _number(score.model_error, 3), _number(score.plan_ms_p50, 1), _number(score.plan_ms_p99, 1),
            str(score.deadline_misses))

    def header(self) -> list[str]:
        """Head of the table: names, units, a rule."""
        return [self._line(*_COLUMNS), self._line(*_UNITS), self._line(*('─' * width for width in _WIDTHS))]

    @property
    def recent(self) -> str:
        """Successes among the last `RECENT` planned episodes, in words; empty if there are none or they do not tell it."""
        told = [score.success for score in self.scores if score.phase == Phase.RUNNING.value and score.success is not None]
        last = told[-RECENT:]
        return f'{sum(last)} of the last {len(last)} succeeded' if last else ''

    @property
    def last(self) -> list[EpisodeScore]:
        """The last episodes, which decide the verdict; held ones are left out."""
        return self._scored[-self._config.last_episodes:]

    @property
    def learned(self) -> bool:
        """Whether enough of the last episodes succeeded."""
        return sum(score.success for score in self.last) >= self._config.required_successes

    def summary(self, activity: str) -> list[str]:
        """The verdict in words; `activity` is what was to be learned, as in "to reach"."""
        last, num_held = self.last, len(self.scores) - len(self._scored)
        if not last:
            return [f'no episode was scored: the arm was held in all {num_held}' if num_held else 'no episode was finished']
        successes = sum(score.success for score in last)
        distance = 100 * float(np.median([score.distance_m for score in last]))
        outcome = f'{successes} of the last {len(last)} episodes succeeded'
        if self._config.required_successes:
            verdict = f'the arm learned to {activity}' if self.learned else f'the arm did NOT learn to {activity}'
            if len(self._scored) < self._config.required_successes:
                verdict = 'too few episodes to tell whether the arm learned'
            outcome = f'{verdict}: {outcome} (asked: {self._config.required_successes} of {self._config.last_episodes})'
        held = f', {num_held} of which the arm was held in and which are not scored' if num_held else ''
        return [
            outcome,
            f'{self.scores[-1].total_steps} real control steps in {len(self.scores)} episodes{held}; '
            f'median final distance of the last {len(last)}: {distance:.1f} cm',
        ]

    def save(self) -> None:
        """Write all scores to the CSV file, if there is one; a crash leaves the old file or the new one.

        Raises:
            OSError: The file cannot be written; the next call writes all scores.
        """
        path = self._csv_path
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name}')
        with temporary.open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(EpisodeScore)])
            writer.writeheader()
            writer.writerows(dataclasses.asdict(score) for score in self.scores)
        temporary.replace(path)

    @property
    def _scored(self) -> list[EpisodeScore]:
        return [score for score in self.scores if score.phase != HELD]

    def _line(self, *cells: str) -> str:
        return '  '.join(cells[index].rjust(_WIDTHS[index]) for index in self._shown)


def load_scores(path: Path) -> list[EpisodeScore]:
    """Read a CSV file of `ScoreBoard.save`; columns that older versions did not write get their defaults.

    Raises:
        ConfigError: The file does not exist or is damaged.
    """
    answer = {'True': True, 'False': False, '': None}.__getitem__
    parse = {'phase': str, 'success': answer, 'changed': answer, 'retraining': answer,
             **dict.fromkeys(('episode', 'total_steps', 'model_version', 'deadline_misses', 'held_steps', 'failed_plans'), int)}
    try:
        with path.open(newline='', encoding='utf-8') as file:
            return [EpisodeScore(**{field.name: parse.get(field.name, float)(row[field.name])
                                    for field in dataclasses.fields(EpisodeScore) if field.name in row})
                    for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f'{path}: cannot be read as scores ({error})') from None


def success_curve(scores: Sequence[EpisodeScore], window: int = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """Success rate of the policy over real control steps, for the T episodes that it played.

    The rate after an episode is over the last `window` episodes of the policy, or as many as there are. Random and demonstrated
    episodes are left out of the rate, but their steps count.

    Returns:
        Real control steps after each episode, shape (T,), and the rate from there on, shape (T,); NaN without a goal.
    """
    played = [score for score in scores if score.phase == Phase.RUNNING.value]
    success = np.array([score.success for score in played], dtype=float)
    rate = np.array([success[max(0, end - window):end].mean() for end in range(1, len(played) + 1)])
    return np.array([score.total_steps for score in played]), rate


def _number(value: float, digits: int) -> str:
    return f'{value:.{digits}f}' if np.isfinite(value) else '-'
