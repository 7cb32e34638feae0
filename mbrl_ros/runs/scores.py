"""Scores of finished episodes: the table a person watches, the summary, and the verdict whether the arm learned."""

import csv
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.types import Phase

#: Phase, in scores, of an episode that was to be planned while the arm was held from beginning to end.
HELD = 'held'
#: Episodes that a success rate is over.
WINDOW = 20
_COLUMNS = ('episode', 'steps', 'phase', 'success', 'distance', 'return', 'model', 'error', 'plan p50', 'p99', 'missed')
_UNITS = ('', 'real', '', '', 'cm', '', 'version', 'rmse', 'ms', 'ms', 'ticks')
_WIDTHS = (7, 6, 12, 7, 8, 9, 7, 7, 8, 7, 6)
#: Columns that mean nothing without a goal.
_OF_A_GOAL = ('success', 'distance')


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
        total_steps: Real control steps of all episodes so far.
        phase: `demonstrated`, `exploring`, `running`, or `held` where nothing was planned because the arm was held all the time;
            that is no episode of the policy, and no success rate has it.
        success: Whether the goal was reached and held; None where nothing says so, and of an episode that was held.
        distance_m: Distance at the end; NaN where there is no goal.
        episode_return: Sum of rewards.
        model_version: Version planned with at the end; 0 for none.
        model_error: Held-out one-step RMSE of that model, in standard deviations of its outputs; NaN for none.
        plan_ms_p50: Median planning time of the episode; NaN where nothing was planned.
        plan_ms_p99: 99th percentile.
        deadline_misses: Ticks of the episode whose plan was late, or that were skipped; in lockstep, which has no deadline,
            those that would have been late.
        changed: Whether the round of training after it found that the world had changed.
        wall_s: Wall time of the episode and the round of training after it, 0 s being that of an episode recorded before the run;
            in a live run the time since the episode before ended. NaN where nothing measured it.
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


class ScoreBoard:
    """Collects scores, turns them into lines of a table, and writes them to a CSV file.

    Args:
        config: When the arm counts as having learned.
        csv_path: File that `save` writes, None for none; another run's moves aside, under the time at which it ended.
        scores: Of the same run's earlier part, where it goes on; then the file is its own and stays.
        has_goal: Whether lines show success and distance; elsewhere returns are all there is.
    """

    def __init__(self, config: ScoreConfig, csv_path: Path | None = None, scores: Sequence[EpisodeScore] = (), *,
                 has_goal: bool = True) -> None:
        self._config = config
        self._shown = [index for index, name in enumerate(_COLUMNS) if has_goal or name not in _OF_A_GOAL]
        self._csv_path = csv_path
        if csv_path is not None and csv_path.exists() and not scores:
            ended = time.strftime('%Y%m%d-%H%M%S', time.localtime(csv_path.stat().st_mtime))
            csv_path.replace(csv_path.with_stem(f'{csv_path.stem}-{ended}'))
        self.scores: list[EpisodeScore] = list(scores)

    def add(self, score: EpisodeScore) -> str:
        """Take one score and return its table line."""
        self.scores.append(score)
        return self.line(score)

    def note_change(self) -> None:
        """The round of training after the last episode found that the world had changed."""
        self.scores[-1] = dataclasses.replace(self.scores[-1], changed=True)

    def note_training(self, wall_s: float) -> None:
        """The round of training after the last episode took that long besides."""
        self.scores[-1] = dataclasses.replace(self.scores[-1], wall_s=self.scores[-1].wall_s + wall_s)

    def line(self, score: EpisodeScore) -> str:
        """A score as a line of the table."""
        return self._line(
            str(score.episode), str(score.total_steps), score.phase, {True: 'yes', False: 'no', None: '-'}[score.success],
            f'{100 * score.distance_m:.1f}', f'{score.episode_return:.1f}', str(score.model_version or '-'),
            _number(score.model_error, 3), _number(score.plan_ms_p50, 1), _number(score.plan_ms_p99, 1),
            str(score.deadline_misses))

    def header(self) -> list[str]:
        """The table's head: names, units, a rule."""
        return [self._line(*_COLUMNS), self._line(*_UNITS), self._line(*('─' * width for width in _WIDTHS))]

    @property
    def last(self) -> list[EpisodeScore]:
        """The last episodes, which the verdict looks at; without those that were held."""
        return self._scored[-self._config.last_episodes:]

    @property
    def learned(self) -> bool:
        """Whether enough of the last episodes succeeded."""
        return sum(score.success for score in self.last) >= self._config.required_successes

    def summary(self, activity: str) -> list[str]:
        """The verdict in words.

        Args:
            activity: What was to be learned, as in "to reach".
        """
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
        """Write all scores to the CSV file, if there is to be one.

        Raises:
            OSError: It cannot be written; the scores are kept, and the next call writes them all.
        """
        path = self._csv_path
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(EpisodeScore)])
            writer.writeheader()
            writer.writerows(dataclasses.asdict(score) for score in self.scores)

    @property
    def _scored(self) -> list[EpisodeScore]:
        return [score for score in self.scores if score.phase != HELD]

    def _line(self, *cells: str) -> str:
        return '  '.join(cells[index].rjust(_WIDTHS[index]) for index in self._shown)


def load_scores(path: Path) -> list[EpisodeScore]:
    """Read what `ScoreBoard.save` wrote; what earlier versions did not write has its default.

    Raises:
        ConfigError: There is no such file, or it is damaged.
    """
    answer = {'True': True, 'False': False, '': None}.__getitem__
    parse = {'phase': str, 'success': answer, 'changed': answer,
             **dict.fromkeys(('episode', 'total_steps', 'model_version', 'deadline_misses'), int)}
    try:
        with path.open(newline='', encoding='utf-8') as file:
            return [EpisodeScore(**{field.name: parse.get(field.name, float)(row[field.name])
                                    for field in dataclasses.fields(EpisodeScore) if field.name in row})
                    for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f'{path}: cannot be read as scores ({error})') from None


def success_curve(scores: Sequence[EpisodeScore], window: int = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """Success of a policy in the episodes that it played itself, over real control steps.

    The rate is over the last that the policy of the moment played. What was random or demonstrated is left out of them, but its
    steps count.

    Args:
        scores: Finished episodes in order.
        window: Over how many, or as many as there are.

    Returns:
        Real control steps after each of the T episodes that were played, shape (T,), and the rate from there on, shape (T,); NaN
        where nothing says what a success is.
    """
    played = [score for score in scores if score.phase == Phase.RUNNING.value]
    success = np.array([score.success for score in played], dtype=float)
    rate = np.array([success[max(0, end - window):end].mean() for end in range(1, len(played) + 1)])
    return np.array([score.total_steps for score in played]), rate


def _number(value: float, digits: int) -> str:
    return f'{value:.{digits}f}' if np.isfinite(value) else '-'
