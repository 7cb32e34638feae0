"""`mbrl-ros bench budget`: how much planning the reach task needs, as success over the budget of a plan."""

import dataclasses
import itertools
import operator
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.benchmarks.figures import write_figures
from mbrl_ros.benchmarks.machine import machine_figures, machine_line
from mbrl_ros.benchmarks.work import CountedObjective
from mbrl_ros.errors import ModelError
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.runs.evaluation import wilson_interval
from mbrl_ros.runs.learning_run import LearningRun, Progress
from mbrl_ros.runs.outputs import require_writable
from mbrl_ros.runs.playing import EVALUATION, Episode
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim.tabletop import make_task_world

_TASK = 'reach'
#: More control steps than any run makes; the run ends after its episodes instead.
_STEPS_WITHOUT_END = 10**9
#: The default planner keeps 6 elites of 48.
_CANDIDATES_AN_ELITE = 8
_FEWEST_ELITES = 2
_WARM_UP_PLANS = 3
_QUANTITIES = ('population', 'horizon', 'particles', 'iterations')
_TOGETHER = 'together'
#: A budget is as quick as the largest one if its episodes are at most this share longer.
_AS_QUICK = 0.1
_EVALUATIONS = operator.itemgetter('model_evals')


@dataclasses.dataclass(frozen=True)
class Setting:
    """Budget of a plan; by default that of the planner."""

    population: int = PlannerConfig.population_size
    horizon: int = PlannerConfig.horizon
    particles: int = PlannerConfig.num_particles
    iterations: int = PlannerConfig.num_iterations

    def config(self, precision: str = 'auto') -> PlannerConfig:
        """Settings of the planner; the elites are the default share of the population, at least two."""
        elites = max(_FEWEST_ELITES, self.population // _CANDIDATES_AN_ELITE)
        return PlannerConfig(population_size=self.population, num_elites=elites, horizon=self.horizon,
                             num_particles=self.particles, num_iterations=self.iterations, precision=precision)


@dataclasses.dataclass(frozen=True)
class BudgetGrid:
    """Budgets to measure: the default one, the default with one quantity varied to each value, and the `together` settings."""

    population: Sequence[int] = (4, 8, 16, 32, 96, 192)
    horizon: Sequence[int] = (2, 3, 5, 10, 15)
    particles: Sequence[int] = (10, 20)
    iterations: Sequence[int] = (1, 2, 5)
    together: Sequence[Setting] = (Setting(4, 1, 5, 1), Setting(4, 2, 5, 1), Setting(8, 3, 5, 1), Setting(16, 4, 5, 2),
                                   Setting(96, 8, 10, 4), Setting(192, 10, 10, 5))

    @classmethod
    def quick(cls) -> 'BudgetGrid':
        """A small grid."""
        return cls((8, 96), (3,), (10,), (1,), (Setting(4, 2, 5, 1),))

    @property
    def settings(self) -> dict[Setting, list[str]]:
        """All settings, each with the lines it is a point of: a quantity, or `together`. The default is a point of all lines."""
        settings = {Setting(): [*_QUANTITIES, _TOGETHER]}
        for quantity in _QUANTITIES:
            for value in getattr(self, quantity):
                settings.setdefault(Setting(**{quantity: value}), [quantity])
        for setting in self.together:
            settings.setdefault(setting, [_TOGETHER])
        return settings


@dataclasses.dataclass(frozen=True)
class BudgetBenchmark:
    """What to measure; every seed learns a model of its own, and every setting plays all goals of the seed.

    Attributes:
        robot: Robot profile.
        seeds: Seeds of models and goals.
        goals: Goals of each seed.
        episodes: Episodes that a model is learned from.
        model_path: Model to plan with, instead of learning one.
        precision: As `PlannerConfig.precision`.
        threads: Threads to plan with.
        grid: Budgets.
    """

    robot: str = 'panda'
    seeds: Sequence[int] = (0, 1, 2)
    goals: int = 20
    episodes: int = 12
    model_path: Path | None = None
    precision: str = 'auto'
    threads: int = 1
    grid: BudgetGrid = BudgetGrid()


def run_budget_benchmark(benchmark: BudgetBenchmark, *, json_path: Path | None = None, plot_path: Path | None = None) -> None:
    """Measure, print, and write all figures and a picture of success over budget; see `mbrl-ros bench budget --help`.

    Raises:
        ConfigError: A file cannot be written, or as for `measure_budget`.
        ModelError: As for `measure_budget`.
    """
    from mbrl_ros.benchmarks.budget_plot import draw_budget

    require_writable(json_path, plot_path)
    console = Console()
    result = measure_budget(benchmark, console)
    console.print(_table(result))
    for line in conclusion_lines(result['conclusion']):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(machine_line(result['machine']), soft_wrap=True)
    if json_path is not None:
        write_figures(json_path, result)
    if plot_path is not None:
        draw_budget(result, plot_path)
        console.print(f'picture: {plot_path}')


def measure_budget(benchmark: BudgetBenchmark, console: Console) -> dict[str, Any]:
    """All figures: the machine, how each model was learned, one row a setting, and the conclusion. Prints progress to `console`.

    The settings take turns at each goal, so that other load on the machine slows all of them alike.

    Raises:
        ModelError: The given model cannot be used, or the learning episodes made none.
        ConfigError: The robot or precision does not exist.
    """
    torch.set_num_threads(benchmark.threads)
    settings = benchmark.grid.settings
    contenders = {setting: _Contender(setting, benchmark) for setting in settings}
    try:
        models = [_evaluate_seed(benchmark, seed, contenders, console) for seed in benchmark.seeds]
    finally:
        for contender in contenders.values():
            contender.loop.close()
    rows = [{'varied': varied, **contenders[setting].row()} for setting, varied in settings.items()]
    return {'machine': machine_figures(benchmark.threads), 'robot': load_robot(benchmark.robot).name,
            'precision': benchmark.precision, 'seeds': list(benchmark.seeds), 'goals': benchmark.goals,
            'models': models, 'rows': rows, 'conclusion': conclude(rows)}


class _Contender:
    """A setting with its planner and all its episodes."""

    def __init__(self, setting: Setting, benchmark: BudgetBenchmark) -> None:
        self.setting, self.config = setting, setting.config(benchmark.precision)
        config = dataclasses.replace(TaskLoopConfig.of_task(_TASK), planner=self.config)
        self.loop = TaskLoop(_TASK, config, make_task_world, benchmark.robot, repeatable=False)
        self._episodes: list[Episode] = []
        self._precision, self._model_evals = '', 0

    def take(self, model: AgentBundle) -> None:
        """Plan with a model from now on: warm up, and count the model evaluations of a plan."""
        self._agent = self.loop.agent.with_bundle(model)
        self._precision = self._agent.precision
        robot = self.loop.robot
        home, goal = np.concatenate([robot.home_rad, np.zeros(len(robot.joints))]), np.array(robot.workspace.lower_m)
        memory, still, wanted = self._agent.reset(0), np.zeros(len(robot.joints)), self.loop.task.objective(goal)
        for _ in range(_WARM_UP_PLANS):
            self._agent.act(home, goal, memory, objective=wanted, previous_action=still)
        members = self.loop.config.learner.trainer.ensemble.ensemble_size
        objective = CountedObjective(wanted, members, self.config.num_particles)
        self._agent.act(home, goal, memory, objective=objective, previous_action=still)
        self._model_evals = sum(rollouts.evaluations for rollouts in objective.scored)

    def run(self, seed: int, episode: int) -> None:
        self._episodes.append(self.loop.play(self._agent, seed=seed, episode=episode, stream=EVALUATION))

    def row(self) -> dict[str, Any]:
        """Figures over all episodes so far."""
        episodes = self._episodes
        reached = [episode.steps for episode in episodes if episode.success]
        low, high = wilson_interval(len(reached), len(episodes))
        distances = [episode.distance_m for episode in episodes]
        plan_ms = 1e3 * np.concatenate([episode.plan_s for episode in episodes])
        return {**dataclasses.asdict(self.setting), 'elites': self.config.num_elites, 'is_default': self.setting == Setting(),
                'precision': self._precision, 'episodes': len(episodes), 'successes': len(reached),
                'success_rate': len(reached) / len(episodes), 'wilson_low': low, 'wilson_high': high,
                'median_steps': float(np.median(reached)) if reached else None,
                'mean_steps': float(np.mean([episode.steps for episode in episodes])),
                'distance_m_median': float(np.median(distances)), 'distance_m_p95': float(np.percentile(distances, 95)),
                'return_mean': float(np.mean([episode.episode_return for episode in episodes])),
                'model_evals': self._model_evals, 'plan_ms_median': float(np.median(plan_ms)),
                'plan_ms_p95': float(np.percentile(plan_ms, 95))}


def conclude(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Find the smallest budgets that are enough, by model evaluations, from the rows of `measure_budget`.

    A setting is enough if its success is not distinguishably worse than that of the largest budget: the Wilson 95 % intervals
    of the two rates overlap. It is also as quick if its episodes are on average at most a tenth longer; failed episodes count
    in full.

    Returns:
        Rows `largest`, `smallest` (enough), `smallest_quick` (enough and as quick) and `default`; whether the default is enough
        and as quick; and for each quantity the smallest value that is as quick with the others at their defaults.
    """
    largest = max(rows, key=_EVALUATIONS)
    enough = [row for row in rows if row['wilson_high'] >= largest['wilson_low']]
    quick = [row for row in enough if row['mean_steps'] <= (1.0 + _AS_QUICK) * largest['mean_steps']]
    default = next(row for row in rows if row['is_default'])
    by_quantity = {quantity: min(points, key=_EVALUATIONS)[quantity] for quantity in _QUANTITIES
                   if (points := [row for row in quick if quantity in row['varied']])}
    return {'largest': largest, 'smallest': min(enough, key=_EVALUATIONS), 'smallest_quick': min(quick, key=_EVALUATIONS),
            'default': default, 'default_is_enough': default in enough, 'default_is_as_quick': default in quick,
            'smallest_quick_by_quantity': by_quantity}


def conclusion_lines(conclusion: dict[str, Any]) -> list[str]:
    """The conclusion in words."""
    default = conclusion['default']
    ratios = [f'{default["model_evals"] / conclusion[name]["model_evals"]:.1f}' for name in ('smallest', 'smallest_quick')]
    enough, quick = ('' if conclusion[name] else 'not ' for name in ('default_is_enough', 'default_is_as_quick'))
    alone = ', '.join(f'{quantity} {value}' for quantity, value in conclusion['smallest_quick_by_quantity'].items())
    return [f'largest budget: {_described(conclusion["largest"])}',
            f'smallest whose success is not distinguishably worse (overlapping intervals): {_described(conclusion["smallest"])}',
            f'smallest that is as quick, too (steps within {100 * _AS_QUICK:.0f} %): {_described(conclusion["smallest_quick"])}',
            f'default, {enough}enough and {quick}as quick, {ratios[0]} and {ratios[1]} times the model evaluations of these two: '
            f'{_described(default)}',
            f'smallest as quick of each quantity, the others at their defaults: {alone or "none"}']


def _evaluate_seed(benchmark: BudgetBenchmark, seed: int, contenders: dict[Setting, _Contender],
                   console: Console) -> dict[str, Any]:
    """Learn or load a model and play all goals of the seed with all contenders; returns how the model was made."""
    if benchmark.model_path is None:
        model, learned_in = learn_model(contenders[Setting()].loop, seed, benchmark.episodes)
        for note in (note for done in learned_in for note in done.notes):
            console.print(f'seed {seed}: {note}', highlight=False, markup=False, soft_wrap=True)
        planned = [done.episode for done in learned_in if len(done.episode.plan_s)]
        reached = sum(episode.success for episode in planned)
        figures = {'seed': seed, 'learning_episodes': len(learned_in), 'planned_episodes': len(planned), 'reached': reached}
        source = f'learned in {len(learned_in)} episodes ({reached} of the {len(planned)} planned ones reached)'
    else:
        model = AgentBundle.load(benchmark.model_path)
        figures, source = {'seed': seed, 'model_path': str(benchmark.model_path)}, f'from {benchmark.model_path}'
    for contender in contenders.values():
        contender.take(model)
    console.print(f'seed {seed}: model {source}, {model.card.num_transitions} transitions')
    for index in track(range(benchmark.goals), description=f'{len(contenders)} settings', console=console, transient=True):
        for contender in contenders.values():
            contender.run(seed, index)
    return {**figures, 'num_transitions': model.card.num_transitions, 'holdout_rmse': model.card.figures['holdout_rmse']}


def learn_model(loop: TaskLoop, seed: int, episodes: int) -> tuple[AgentBundle, list[Progress]]:
    """Learn a model from nothing; returns it and the episodes it was learned from.

    Raises:
        ModelError: The episodes are too few for a model.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = LearningRun(loop, seed=seed, folder=Path(folder))
        done = list(itertools.islice(run.episodes(_STEPS_WITHOUT_END), episodes))
    if run.rounds.current is None:
        raise ModelError(f'no model came of {episodes} episodes: {done[-1].training.reason}')
    return run.rounds.current, done


def _described(row: dict[str, Any]) -> str:
    return (f'{", ".join(f"{quantity} {row[quantity]}" for quantity in _QUANTITIES)}: {row["successes"]} of {row["episodes"]} '
            f'reached, {row["mean_steps"]:.1f} steps, {row["model_evals"]:,} model evaluations, {row["plan_ms_median"]:.1f} ms a '
            'plan')


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f'reaching with {result["robot"]}: success against the budget of a plan', box=box.SIMPLE_HEAD,
                  caption='N population, H horizon, P particles, I iterations; bold: the default;\n'
                          'steps: mean, failures counted in full; a/b: median and 95th percentile',
                  padding=(0, 1, 0, 0))
    for column in ('N', 'H', 'P', 'I', 'model\nevals', 'reached', '95 %\ninterval', 'steps', 'distance\ncm', 'return',
                   'ms a plan'):
        table.add_column(column, justify='right')
    for row in sorted(result['rows'], key=_EVALUATIONS):
        table.add_row(*(str(row[quantity]) for quantity in _QUANTITIES), f'{row["model_evals"]:,}',
                      f'{row["successes"]}/{row["episodes"]}', f'{100 * row["wilson_low"]:.0f}–{100 * row["wilson_high"]:.0f}',
                      f'{row["mean_steps"]:.1f}', f'{100 * row["distance_m_median"]:.1f}/{100 * row["distance_m_p95"]:.1f}',
                      f'{row["return_mean"]:.1f}', f'{row["plan_ms_median"]:.1f}/{row["plan_ms_p95"]:.1f}',
                      style='bold' if row['is_default'] else None)
    return table
