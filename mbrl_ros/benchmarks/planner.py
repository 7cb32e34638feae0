"""`mbrl-ros bench planner`: planning time at PETS' setting and at the everyday one, beside the floor measured in the same run."""

import dataclasses
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from mbrl_ros.benchmarks.busy import busy_table, measure_busy
from mbrl_ros.benchmarks.curves import curve_table, draw_curves, measure_curves
from mbrl_ros.benchmarks.figures import write_figures
from mbrl_ros.benchmarks.machine import describe_machine, machine_figures, machine_line
from mbrl_ros.benchmarks.setups import MeasuredPlanner, PlannerSetup
from mbrl_ros.benchmarks.work import MatrixProducts, Rollouts, summary, time_interleaved
from mbrl_ros.benchmarks.worker import TIGHT_MALLOC, Worker
from mbrl_ros.planning.planner import plan_bytes
from mbrl_ros.runs.outputs import require_writable

#: Wall time that the plans of `count_to` may take; of a slower planner fewer plans are counted.
_COUNT_LIMIT_S = 20.0
_FEWEST_COUNTED = 5
_MEMORY_PLANS = 3


@dataclasses.dataclass(frozen=True)
class PlannerBenchmark:
    """What to measure; the yardstick is measured with all combinations of horizons, precisions and optimisers.

    Attributes:
        horizons: Horizons of the yardstick.
        precisions: Precisions of the yardstick.
        optimisers: Optimisers of the yardstick.
        population: N of the yardstick.
        particles: P of the yardstick.
        iterations: Iterations of the yardstick.
        everyday: Whether the controller's default setting is measured too.
        threads: Threads to plan with.
        calls: Timed plans of each planner.
        count_to: Number of the plan that the first plan of a fresh process is compared with; 0 for no comparison.
        memory: Whether the memory of a plan is measured.
    """

    horizons: Sequence[int] = (15, 30)
    precisions: Sequence[str] = ('auto', 'float32')
    optimisers: Sequence[str] = ('cem', 'icem')
    population: int = 350
    particles: int = 20
    iterations: int = 5
    everyday: bool = True
    threads: int = os.cpu_count() or 1
    calls: int = 9
    count_to: int = 100
    memory: bool = True

    @property
    def setups(self) -> list[PlannerSetup]:
        """Planners to measure."""
        found = [PlannerSetup(optimiser, horizon, precision, self.population, self.particles, self.iterations)
                 for optimiser in self.optimisers for horizon in self.horizons for precision in self.precisions]
        return [*found, PlannerSetup.everyday_setting()] if self.everyday else found


def run_planner_benchmark(benchmark: PlannerBenchmark, *, curves: Path | None = None, busy: bool = False,
                          json_path: Path | None = None) -> None:
    """Measure and print; see `mbrl-ros bench planner --help`.

    Args:
        benchmark: What to measure.
        curves: Picture of how the cost of the first planner grows; None measures no curves.
        busy: Whether to measure beside a busy trainer too.
        json_path: File for all figures.

    Raises:
        ConfigError: A file cannot be written, or as for `MeasuredPlanner`.
        RuntimeError: A measuring process ended by itself.
    """
    require_writable(curves, json_path)
    console = Console()
    console.print(f'measuring on {describe_machine()} …')
    result = {'machine': machine_figures(benchmark.threads), 'rows': measure_planners(benchmark)}
    console.print(_planner_table(result['rows']))
    if benchmark.count_to or benchmark.memory:
        console.print(_process_table(result['rows']))
    if curves is not None:
        result['curves'] = measure_curves(benchmark.setups[0], calls=benchmark.calls)
        console.print(curve_table(result['curves']))
        draw_curves(result['curves'], curves)
        console.print(f'picture: {curves}')
    if busy:
        result['busy'] = measure_busy(calls=benchmark.calls)
        console.print(busy_table(result['busy']))
    console.print(machine_line(result['machine']))
    if json_path is not None:
        write_figures(json_path, result)


def measure_planners(benchmark: PlannerBenchmark) -> list[dict[str, Any]]:
    """Measure one row for each planner; all planners and floors are timed in turns.

    Raises:
        ConfigError: As for `MeasuredPlanner`.
        RuntimeError: A measuring process ended by itself.
    """
    torch.set_num_threads(benchmark.threads)
    planners: dict[PlannerSetup, MeasuredPlanner] = {}
    for asked in benchmark.setups:
        planner = MeasuredPlanner(asked)
        # `auto` may resolve to a precision that is also asked for by name.
        planners.setdefault(dataclasses.replace(asked, precision=planner.precision), planner)
    scored = {setup: planner.scored_in_a_plan() for setup, planner in planners.items()}
    floors = {setup: MatrixProducts(setup.network, scored[setup], planner.precision, planner.device)
              for setup, planner in planners.items()}
    contenders: dict[Any, Any] = dict(planners)
    contenders.update({('floor', setup): lambda _, floor=floor: floor.run() for setup, floor in floors.items()})
    times = time_interleaved(contenders, calls=benchmark.calls)
    return [{**_row(setup, planner.precision, scored[setup], times[setup], times['floor', setup]),
             **_counted(setup, benchmark, statistics.median(times[setup])), **_memory(setup, benchmark)}
            for setup, planner in planners.items()]


def _row(setup: PlannerSetup, precision: str, scored: Sequence[Rollouts], times_ms: Sequence[float],
         floor_ms: Sequence[float]) -> dict[str, Any]:
    evaluations = sum(rollouts.evaluations for rollouts in scored)
    figures = summary(times_ms)
    floor = statistics.median(floor_ms)
    return {'planner': setup.label, 'horizon': setup.horizon, 'precision': precision, **figures, 'model_evals': evaluations,
            'evals_per_s': 1e3 * evaluations / figures['median_ms'], 'floor_ms': floor,
            'ratio_to_floor': figures['median_ms'] / floor}


def _counted(setup: PlannerSetup, benchmark: PlannerBenchmark, typical_ms: float) -> dict[str, Any]:
    """Times of the first plan and of a later one in a fresh process."""
    if not benchmark.count_to:
        return {}
    count = min(benchmark.count_to, max(_FEWEST_COUNTED, round(1e3 * _COUNT_LIMIT_S / typical_ms)))
    with Worker('planner', setup=dataclasses.asdict(setup), threads=benchmark.threads) as worker:
        times_ms = worker.ask(plans=count)
    return {'first_ms': times_ms[0], 'later_ms': times_ms[-1], 'later_plan': count}


def _memory(setup: PlannerSetup, benchmark: PlannerBenchmark) -> dict[str, Any]:
    if not benchmark.memory:
        return {}
    with Worker('planner', TIGHT_MALLOC, setup=dataclasses.asdict(setup), threads=benchmark.threads) as worker:
        measured = worker.ask(memory=_MEMORY_PLANS)
    network = setup.network
    return {'memory_mb': measured,
            'memory_bound_mb': plan_bytes(setup.config, network.obs_size, network.action_size, network.ensemble_size) / 1e6}


def _planner_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title='planning time, from an observation to an action', box=box.SIMPLE)
    for column in ('planner', 'H', 'precision', 'ms', 'p95', 'p99', 'model\nevals', 'M evals\n/s', 'floor\nms', '/ floor'):
        table.add_column(column, justify='left' if column in ('planner', 'precision') else 'right')
    for row in rows:
        table.add_row(row['planner'], str(row['horizon']), row['precision'], f'{row["median_ms"]:.1f}', f'{row["p95_ms"]:.1f}',
                      f'{row["p99_ms"]:.1f}', f'{row["model_evals"]:,}', f'{row["evals_per_s"] / 1e6:.2f}',
                      f'{row["floor_ms"]:.1f}', f'{row["ratio_to_floor"]:.2f}')
    return table


def _process_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title='in a fresh process, after configuring', box=box.SIMPLE)
    for column in ('planner', 'H', 'precision', 'first plan\nms', 'later plan\nms', 'which', 'memory\nMB', 'its bound\nMB'):
        table.add_column(column, justify='left' if column in ('planner', 'precision') else 'right')
    for row in rows:
        first = (f'{row["first_ms"]:.1f}', f'{row["later_ms"]:.1f}', f'{row["later_plan"]}.') if 'first_ms' in row else [''] * 3
        memory = (f'{row["memory_mb"]:.1f}', f'{row["memory_bound_mb"]:.1f}') if 'memory_mb' in row else [''] * 2
        table.add_row(row['planner'], str(row['horizon']), row['precision'], *first, *memory)
    return table
