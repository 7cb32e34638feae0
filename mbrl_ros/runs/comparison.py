"""Learning curves of agents and other methods, all counted alike: from the folders of runs to figures and a table.

The folder of a run holds `config.yaml` (task or environment, robot, seed, agent or method) and `scores.csv`. If the policy was
also evaluated while it learned, it holds `checks.csv`.
"""

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from mbrl_ros.errors import ConfigError
from mbrl_ros.runs.final_evaluation import FinalEvaluation
from mbrl_ros.runs.intervals import Estimate, estimate
from mbrl_ros.runs.run_folder import CONFIG, kept_identity
from mbrl_ros.runs.scores import WINDOW, EpisodeScore, load_scores, success_curve

#: The table gives the steps to each of these success rates.
LEVELS = (0.5, 0.8, 0.95)
#: In figures, the name of all tasks together.
ALL_TASKS = 'all tasks'


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
    """One finished run.

    Attributes:
        task: Task or environment.
        method: Name of the agent, or of another method.
        seed: Seed of the run.
        scores: Episodes, at least one.
        checks: Evaluations of the policy during learning.
        evaluation: Evaluation of the policy at the end.
    """

    task: str
    method: str
    seed: int
    scores: tuple[EpisodeScore, ...]
    checks: tuple[Check, ...] = ()
    evaluation: FinalEvaluation | None = None

    @property
    def steps(self) -> int:
        """Real control steps of the run."""
        return self.scores[-1].total_steps

    @property
    def wall_s(self) -> float:
        """Wall time of learning; NaN if the scores lack it."""
        return self.checks[-1].wall_s if self.checks else sum(score.wall_s for score in self.scores)

    @property
    def measured(self) -> str:
        """What the points of the curve are rates of, in words."""
        return f'{self.checks[0].episodes} episodes of evaluation' if self.checks else f'last {WINDOW} episodes'

    @property
    def curve(self) -> 'Curve':
        """Success over real control steps: in evaluations if there were any, else in the run's own episodes.

        The latter is `success_curve`, except that episodes missing from a window of 20 count as failed: 2 successes in the first
        2 episodes are a rate of 0.1.
        """
        if self.checks:
            return Curve(np.array([check.steps for check in self.checks]),
                         np.array([check.successes / check.episodes for check in self.checks]))
        steps, rate = success_curve(self.scores)
        return Curve(steps, rate * np.arange(1, len(rate) + 1).clip(max=WINDOW) / WINDOW)

    @property
    def final_rate(self) -> float:
        """Success rate of the policy at the end: of its evaluation, or the last of the curve without one."""
        if self.evaluation:
            return self.evaluation.success_rate
        return float(self.curve.at(np.array([self.steps]))[0])


@dataclasses.dataclass(frozen=True)
class Curve:
    """Success over real control steps.

    Attributes:
        steps: Where the rate changes, shape (T,).
        rate: Success rate from there on, shape (T,).
    """

    steps: np.ndarray
    rate: np.ndarray

    def first(self, level: float) -> int | None:
        """Real control steps after which the rate first reaches `level`; None if it never does."""
        reached = np.flatnonzero(self.rate >= level - 1e-9)
        return int(self.steps[reached[0]]) if len(reached) else None

    def at(self, steps: np.ndarray) -> np.ndarray:
        """The rate after so many real control steps: 0 before the first point, and the last rate after the last one."""
        return np.concatenate([[0.0], self.rate])[np.searchsorted(self.steps, steps, side='right')]


def read_run(folder: Path) -> Run:
    """Read the folder of a finished run.

    Raises:
        ConfigError: The folder holds no run, or one that cannot be read.
    """
    if not (folder / CONFIG).is_file() or not (folder / 'scores.csv').is_file():
        raise ConfigError(f'{folder}: holds no run; needed are config.yaml and scores.csv, as mbrl-ros learn leaves them')
    identity = kept_identity(folder)
    scores = tuple(load_scores(folder / 'scores.csv'))
    if not scores:
        raise ConfigError(f'{folder}: no episode of its run is finished yet')
    checks = load_checks(folder / 'checks.csv') if (folder / 'checks.csv').exists() else ()
    return Run(str(identity.get('task') or identity.get('env')), str(identity.get('method') or identity['settings']['agent']),
               int(identity.get('seed', 0)), scores, checks)


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


def figures(robot: str, runs: Sequence[Run]) -> dict[str, Any]:
    """All figures of a comparison: `rows` of the table, `runs` with a curve each, and `estimates` of the curves over seeds.

    A method that ran all of several tasks has a row and an estimate of all tasks together, too.
    """
    tasks, methods = (list(dict.fromkeys(names)) for names in zip(*((run.task, run.method) for run in runs)))
    cells = {(task, method): [run for run in runs if (run.task, run.method) == (task, method)]
             for task in tasks for method in methods}
    groups = [(task, method, [cell]) for (task, method), cell in cells.items() if cell]
    if len(tasks) > 1:
        strata = {method: [cells[task, method] for task in tasks] for method in methods}
        groups += [(ALL_TASKS, method, of_tasks) for method, of_tasks in strata.items() if all(of_tasks)]
    return {
        'robot': robot, 'window': WINDOW,
        'rows': [{'task': task, 'method': method, **_row(strata)} for task, method, strata in groups],
        'estimates': [{'task': task, 'method': method, **_estimated_curve(strata)} for task, method, strata in groups],
        'runs': [_run_figures(run) for run in runs],
    }


def _run_figures(run: Run) -> dict[str, Any]:
    curve = run.curve
    return {'task': run.task, 'method': run.method, 'seed': run.seed, 'measured': run.measured, 'steps': curve.steps.tolist(),
            'success_rate': curve.rate.tolist(), 'real_steps': run.steps, 'final_rate': run.final_rate, 'wall_s': run.wall_s,
            'evaluation': dataclasses.asdict(run.evaluation) if run.evaluation else None}


def _row(strata: Sequence[Sequence[Run]]) -> dict[str, Any]:
    """Figures of the runs of a method: of one task, or of several, the strata."""
    runs = [run for stratum in strata for run in stratum]
    evaluations = [run.evaluation for run in runs if run.evaluation]
    return {'seeds': list(dict.fromkeys(run.seed for run in runs)), 'steps': [run.steps for run in runs],
            'steps_to': {f'{level:g}': [run.curve.first(level) for run in runs] for level in LEVELS},
            'final': _plain(estimate([[run.final_rate for run in stratum] for stratum in strata])),
            'wall_s': [run.wall_s for run in runs],
            'action_ms_p50': [evaluation.action_ms_p50 for evaluation in evaluations],
            'action_ms_p99': [evaluation.action_ms_p99 for evaluation in evaluations]}


def _estimated_curve(strata: Sequence[Sequence[Run]]) -> dict[str, Any]:
    """Interquartile mean and interval of the success rate at all its changes, until the shortest run ends."""
    runs = [run for stratum in strata for run in stratum]
    end = min(run.steps for run in runs)
    steps = np.unique(np.concatenate([[0, end], *(run.curve.steps for run in runs)])).astype(int)
    steps = steps[steps <= end]
    return {'steps': steps.tolist(), **_plain(estimate([[run.curve.at(steps) for run in stratum] for stratum in strata]))}


def _plain(estimated: Estimate) -> dict[str, Any]:
    return {name: np.asarray(values).tolist() for name, values in estimated._asdict().items()}


def save_curves(path: Path, result: dict[str, Any]) -> None:
    """Write the curves of all runs as CSV, one line a point."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(('task', 'method', 'measured', 'seed', 'steps', 'success_rate'))
        for run in result['runs']:
            writer.writerows((run['task'], run['method'], run['measured'], run['seed'], *point)
                             for point in zip(run['steps'], run['success_rate']))


_TEXTS = ('task', 'agent')
_NUMBERS = (*(f'steps to {100 * level:g} %' for level in LEVELS), 'at the end, %', 'steps', 'seeds', 'learning, min',
            'action, ms')


def comparison_table(result: dict[str, Any]) -> Table:
    """The rows as a table."""
    table = Table(title=f'{result["robot"]}: success over real control steps', box=box.SIMPLE)
    for column in _TEXTS:
        table.add_column(column)
    for column in _NUMBERS:
        table.add_column(column, justify='right')
    for row in result['rows']:
        table.add_row(*_cells(row))
    return table


def markdown_table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    rule = [*['---'] * len(_TEXTS), *['---:'] * len(_NUMBERS)]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in ((*_TEXTS, *_NUMBERS), rule, *map(_cells, result['rows'])))


def _cells(row: dict[str, Any]) -> list[str]:
    """Cells of a row; of all tasks together, only success has a meaning."""
    names, final, seeds = [row['task'], row['method']], _final(row['final']), ', '.join(map(str, row['seeds']))
    if row['task'] == ALL_TASKS:
        return [*names, *['–'] * len(LEVELS), final, '–', seeds, '–', '–']
    return [*names, *(_reached(row['steps_to'][f'{level:g}'], max(row['steps'])) for level in LEVELS), final,
            _range(row['steps'], lambda steps: f'{steps:,.0f}'), seeds, _range(row['wall_s'], _minutes),
            _action(row['action_ms_p50'], row['action_ms_p99'])]


def _final(estimated: dict[str, float]) -> str:
    """Interquartile mean of the success at the end, and its interval if there is one, in percent."""
    mean, low, high = (100 * estimated[name] for name in ('mean', 'low', 'high'))
    return f'{mean:.0f}' if np.isnan(low) else f'{mean:.0f} [{low:.0f}, {high:.0f}]'


def _reached(steps: Sequence[int | None], longest: int) -> str:
    """Steps to a rate as median and range, and how many seeds reached it if not all did."""
    there = [value for value in steps if value is not None]
    if not there:
        return f'> {longest:,}'
    text = _range(there, lambda value: f'{value:,.0f}')
    return text if len(there) == len(steps) else f'{text}, {len(there)} of {len(steps)} seeds'


def _minutes(wall_s: float) -> str:
    return f'{wall_s / 60:.1f}' if np.isfinite(wall_s) else '–'


def _action(p50_ms: Sequence[float], p99_ms: Sequence[float]) -> str:
    """Time of an action, as median and 99th percentile; of several seeds the median of either."""
    if not np.isfinite([*p50_ms, *p99_ms]).any():
        return '–'
    return ', p99 '.join(f'{np.nanmedian(values):.2g}' for values in (p50_ms, p99_ms))


def _range(values: Sequence[float], show: Callable[[float], str]) -> str:
    low, middle, high = (show(float(value)) for value in (np.min(values), np.median(values), np.max(values)))
    return middle if low == high else f'{middle} ({low}–{high})'
