"""Learning curves of several methods on one task, all counted alike: from the folders of runs to figures and a table.

Whatever the method, the folder of a run holds `config.yaml` (with task, robot and seed) and `scores.csv`. If the policy was also
evaluated without learning, it holds `checks.csv`.
"""

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from mbrl_ros.config import load_yaml
from mbrl_ros.errors import ConfigError
from mbrl_ros.runs.scores import WINDOW, EpisodeScore, load_scores, success_curve

OURS = 'mbrl_ros'
#: The table gives the steps to each of these success rates.
LEVELS = (0.5, 0.8, 0.95)


@dataclasses.dataclass(frozen=True)
class Check:
    """An evaluation of a policy during learning.

    Attributes:
        steps: Real control steps learned from; steps of evaluations do not count.
        successes: Episodes of the evaluation that succeeded.
        episodes: Episodes of the evaluation.
        wall_s: Wall time of learning so far, without evaluations.
    """

    steps: int
    successes: int
    episodes: int
    wall_s: float


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run, with its episodes and the evaluations of its policy; `wall_s` is NaN if the scores lack wall times."""

    method: str
    seed: int
    scores: tuple[EpisodeScore, ...]
    checks: tuple[Check, ...]
    wall_s: float


@dataclasses.dataclass(frozen=True)
class Curve:
    """Success over real control steps.

    Attributes:
        method: Name of the method.
        measured: How success was measured, in words.
        seed: Seed of the run.
        steps: Where the rate changes, shape (T,).
        rate: Success rate from there on, shape (T,).
        wall_s: Wall time of the run's learning.
    """

    method: str
    measured: str
    seed: int
    steps: np.ndarray
    rate: np.ndarray
    wall_s: float

    def first(self, level: float) -> int | None:
        """Real control steps after which the rate first reaches `level`; None if it never does."""
        reached = np.flatnonzero(self.rate >= level - 1e-9)
        return int(self.steps[reached[0]]) if len(reached) else None

    def at(self, steps: np.ndarray) -> np.ndarray:
        """The rate after so many real control steps: 0 before the first point, and the last rate after the last one."""
        return np.concatenate([[0.0], self.rate])[np.searchsorted(self.steps, steps, side='right')]


def read_run(folder: Path, task: str, robot: str) -> Run:
    """Read the folder of a finished run, which has to be of this task and robot.

    Raises:
        ConfigError: The folder holds no run, a run of another task or robot, or one that cannot be read.
    """
    path = folder / 'config.yaml'
    if not path.is_file() or not (folder / 'scores.csv').is_file():
        raise ConfigError(f'{folder}: holds no run; needed are config.yaml and scores.csv, as mbrl-ros learn leaves them')
    identity = load_yaml(path)
    for key, wanted in (('task', task), ('robot', robot)):
        if identity.get(key) != wanted:
            raise ConfigError(f'{folder}: holds a run of {key} {identity.get(key)!r}, needed is {wanted!r}')
    scores = tuple(load_scores(folder / 'scores.csv'))
    if not scores:
        raise ConfigError(f'{folder}: no episode of its run is finished yet')
    checks = load_checks(folder / 'checks.csv') if (folder / 'checks.csv').exists() else ()
    wall_s = checks[-1].wall_s if checks else sum(score.wall_s for score in scores)
    return Run(str(identity.get('method', OURS)), int(identity.get('seed', 0)), scores, checks, wall_s)


def save_checks(path: Path, checks: Sequence[Check]) -> None:
    """Write evaluations of a policy as CSV."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Check)])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, checks))


def load_checks(path: Path) -> tuple[Check, ...]:
    """Read a CSV file of `save_checks`.

    Raises:
        ConfigError: The file is damaged.
    """
    try:
        with path.open(newline='', encoding='utf-8') as file:
            return tuple(Check(int(row['steps']), int(row['successes']), int(row['episodes']), float(row['wall_s']))
                         for row in csv.DictReader(file))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f'{path}: cannot be read ({error})') from None


def curves_of(run: Run) -> list[Curve]:
    """The curve of a run's own episodes, and that of the evaluations of its policy if there were any.

    The first is `success_curve`, except that episodes missing from a window of 20 count as failed: 2 successes in the first 2
    episodes are a rate of 0.1.
    """
    steps, rate = success_curve(run.scores)
    there_are = np.arange(1, len(rate) + 1).clip(max=WINDOW) / WINDOW
    curves = [Curve(run.method, f'last {WINDOW} episodes', run.seed, steps, rate * there_are, run.wall_s)]
    if run.checks:
        curves.append(Curve(run.method, f'{run.checks[0].episodes} episodes without noise', run.seed,
                            np.array([check.steps for check in run.checks]),
                            np.array([check.successes / check.episodes for check in run.checks]), run.wall_s))
    return curves


def figures(task: str, robot: str, runs: Sequence[Run]) -> dict[str, Any]:
    """All figures of a comparison: a row for each method and way of measuring, and the curves."""
    curves = [curve for run in runs for curve in curves_of(run)]
    ends = {(run.method, run.seed): run.scores[-1].total_steps for run in runs}
    groups = list(dict.fromkeys((curve.method, curve.measured) for curve in curves))
    rows = [_row([curve for curve in curves if (curve.method, curve.measured) == group], ends) for group in groups]
    return {'task': task, 'robot': robot, 'window': WINDOW, 'rows': rows, 'curves': [
        {'method': curve.method, 'measured': curve.measured, 'seed': curve.seed, 'steps': curve.steps.tolist(),
         'success_rate': curve.rate.tolist()} for curve in curves]}


def _row(curves: Sequence[Curve], ends: dict[tuple[str, int], int]) -> dict[str, Any]:
    first = curves[0]
    return {'method': first.method, 'measured': first.measured, 'seeds': [curve.seed for curve in curves],
            'steps': [ends[curve.method, curve.seed] for curve in curves],
            'final_rate': [float(curve.rate[-1]) if len(curve.rate) else 0.0 for curve in curves],
            'wall_s': [curve.wall_s for curve in curves],
            'steps_to': {f'{level:g}': [curve.first(level) for curve in curves] for level in LEVELS}}


def save_curves(path: Path, result: dict[str, Any]) -> None:
    """Write the curves as CSV, one line a point."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(('method', 'measured', 'seed', 'steps', 'success_rate'))
        for curve in result['curves']:
            writer.writerows((curve['method'], curve['measured'], curve['seed'], *point)
                             for point in zip(curve['steps'], curve['success_rate']))


def comparison_table(result: dict[str, Any]) -> Table:
    """The rows as a table."""
    table = Table(title=f'{result["robot"]}, {result["task"]}: real control steps to a success rate', box=box.SIMPLE)
    for column in ('method', 'success in'):
        table.add_column(column)
    for column in (*(f'to {100 * level:g} %' for level in LEVELS), 'at the end, %', 'steps', 'seeds', 'minutes'):
        table.add_column(column, justify='right')
    for row in result['rows']:
        table.add_row(row['method'], row['measured'], *_cells(row))
    return table


def markdown_table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    heads = ['method', 'success in', *(f'steps to {100 * level:g} %' for level in LEVELS), 'at the end, %', 'steps', 'seeds',
             'minutes']
    rows = [[row['method'], row['measured'], *_cells(row)] for row in result['rows']]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in (heads, ['---', '---', *['---:'] * (len(heads) - 2)], *rows))


def _cells(row: dict[str, Any]) -> list[str]:
    """Cells of a row after the two names; each number is a median and range over the seeds."""
    return [*(_reached(row['steps_to'][f'{level:g}'], max(row['steps'])) for level in LEVELS),
            _range(row['final_rate'], lambda rate: f'{100 * rate:.0f}'), _range(row['steps'], lambda steps: f'{steps:,.0f}'),
            ', '.join(map(str, row['seeds'])), _range(row['wall_s'], _minutes)]


def _reached(steps: Sequence[int | None], longest: int) -> str:
    """Steps to a rate, and how many seeds reached it if not all did."""
    there = [value for value in steps if value is not None]
    if not there:
        return f'not within {longest:,}'
    text = _range(there, lambda value: f'{value:,.0f}')
    return text if len(there) == len(steps) else f'{text}, {len(there)} of {len(steps)} seeds'


def _minutes(wall_s: float) -> str:
    return f'{wall_s / 60:.1f}' if np.isfinite(wall_s) else '–'


def _range(values: Sequence[float], show: Callable[[float], str]) -> str:
    low, middle, high = (show(float(value)) for value in (np.min(values), np.median(values), np.max(values)))
    return middle if low == high else f'{middle} ({low}–{high})'
