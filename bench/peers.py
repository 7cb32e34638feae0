"""`make bench-peers`: planning and training time beside the libraries that people would otherwise use.

All planners have the same weights, reward, population, particles, iterations and observations, and are timed in turns in one
process, from a numpy observation to a numpy action. A peer that cannot be run is listed with the reason.
"""

import dataclasses
import functools
import json
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import contenders
import torch
import typer
from picture import draw_comparison
from rich import box
from rich.console import Console
from rich.table import Table
from training import measure_training

from mbrl_ros.benchmarks.figures import write_figures
from mbrl_ros.benchmarks.machine import machine_figures, machine_line
from mbrl_ros.benchmarks.setups import PlannerSetup
from mbrl_ros.benchmarks.work import MatrixProducts, NetworkSize, Rollouts, observation_stream, summary, time_interleaved
from mbrl_ros.cli.main import run_script
from mbrl_ros.models.ensemble.predictor import precisions
from mbrl_ros.planning.planner import resolve_device
from mbrl_ros.runs.outputs import require_writable

_RESULTS = Path(__file__).parent / 'results'
_REFERENCE = 'mbrl-lib CEM'
_PEERS = ('mbrl', 'pytorch-mppi', 'pytorch-icem')


def main(
    calls: Annotated[int, typer.Option(min=1, help='Timed plans of each planner.')] = 9,
    horizon: Annotated[list[int], typer.Option(min=1, help='Horizon; may be given several times.')] = (15, 30),
    population: Annotated[int, typer.Option(min=10, help='Candidates an iteration.')] = 350,
    particles: Annotated[int, typer.Option(min=5, help='Rollouts of each candidate, a multiple of the 5 members.')] = 20,
    iterations: Annotated[int, typer.Option(min=1, help='Iterations of a plan.')] = 5,
    threads: Annotated[int, typer.Option(min=0, help='Threads of torch; 0 for one a core.')] = 0,
    device: Annotated[str, typer.Option(help='Where all planners plan: auto, cpu or cuda.')] = 'auto',
    training: Annotated[bool, typer.Option(help='Measure training too.')] = True,
    batch_size: Annotated[list[int], typer.Option(min=1, help='Batch size of training; may be given several times.')] = (32, 256),
    training_calls: Annotated[int, typer.Option(min=1, help='Timed epochs of each trainer.')] = 3,
    json_path: Annotated[Path, typer.Option('--json', help='File for the figures.')] = _RESULTS / 'planner.json',
    png_path: Annotated[Path, typer.Option('--png', help='File for the picture.')] = _RESULTS / 'planner.png',
    markdown: Annotated[bool, typer.Option(help='Print the tables of --json as Markdown, and measure nothing.')] = False,
) -> None:
    """Time planners and trainers beside each other."""
    if markdown:
        print(markdown_tables(json.loads(json_path.read_text(encoding='utf-8'))))
        return
    require_writable(json_path, png_path)
    console = Console()
    threads = threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    warnings.filterwarnings('ignore', module=r'(hydra|mbrl|pytorch_icem|gymnasium)')
    contenders.check_same_work(NetworkSize())
    setups = [PlannerSetup(horizon=steps, population=population, particles=particles, iterations=iterations, device=device)
              for steps in horizon]
    result = {'machine': machine_figures(threads), 'peers': {name: _version(name) for name in _PEERS},
              'setting': {'population': population, 'particles': particles, 'iterations': iterations, 'calls': calls,
                          'device': str(resolve_device(device))},
              'rows': [], 'floors': [], 'missing': []}
    console.print(machine_line(result['machine']))
    for setup in setups:
        console.print(f'horizon {setup.horizon}: {calls} plans of each planner, in turns …')
        _measure(setup, calls, result)
    console.print(_planning_table(result))
    for missing in result['missing']:
        console.print(f'[yellow]not run: {missing["planner"]}, horizon {missing["horizon"]}: {missing["reason"]}[/yellow]')
    if training:
        console.print('training …')
        result['training'] = [measure_training(NetworkSize(), calls=training_calls, batch_size=size) for size in batch_size]
        console.print(_training_table(result['training']))
    write_figures(json_path, result)
    png_path.parent.mkdir(parents=True, exist_ok=True)
    draw_comparison(result, png_path)
    console.print(f'figures: {json_path}\npicture: {png_path}')


def planners(setup: PlannerSetup) -> dict[str, Callable[[], contenders.Counted]]:
    """What is compared at a setting, by name: how each is made."""
    def own(optimiser: str, precision: str) -> Callable[[], contenders.Counted]:
        return lambda: contenders.ours(dataclasses.replace(setup, optimiser=optimiser, precision=precision))

    def peer(make: Callable, *arguments: object) -> Callable[[], contenders.Counted]:
        return functools.partial(make, setup, *arguments)

    found = {
        _REFERENCE: peer(contenders.mbrl_cem), 'mbrl-lib iCEM': peer(contenders.mbrl_icem),
        'pytorch_icem': peer(contenders.pytorch_icem),
        f'pytorch_mppi, {setup.iterations} refinements': peer(contenders.pytorch_mppi),
        'pytorch_mppi, 1 refinement': peer(contenders.pytorch_mppi_once),
        'bare CEM loop, float32': peer(contenders.bare_cem, torch.float32),
        'mbrl_ros CEM, float32': own('cem', 'float32'), 'mbrl_ros iCEM': own('icem', 'auto'),
        'mbrl_ros MPPI': own('mppi', 'auto'),
    }
    # Elsewhere they are emulated, many times slower, and `auto` is float32.
    if short := [name for name in precisions(resolve_device(setup.device)) if name in ('bfloat16', 'float16')]:
        found.update({f'bare CEM loop, {name}': peer(contenders.bare_cem, getattr(torch, name)) for name in short})
        found['mbrl_ros CEM'] = own('cem', 'auto')
    return found


def _measure(setup: PlannerSetup, calls: int, result: dict[str, Any]) -> None:
    """Add the rows of one horizon."""
    stream = observation_stream(setup.network, calls + 3)
    made: dict[str, contenders.Counted] = {}
    for name, make in planners(setup).items():
        try:
            planner = make()
            action = planner.plan(stream[0])
            if action.shape != (setup.network.action_size,):
                raise RuntimeError(f'it returned an action of shape {action.shape}')
            made[name] = planner
        except Exception as error:  # A peer may break in any way; that is a result too.
            result['missing'].append({'planner': name, 'horizon': setup.horizon, 'reason': f'{type(error).__name__}: {error}'})
    scored = [Rollouts(setup.horizon, setup.particles, setup.population)] * setup.iterations
    evaluations_of_all = sum(rollouts.evaluations for rollouts in scored)
    floors = {name: MatrixProducts(setup.network, scored, name, resolve_device(setup.device))
              for name in sorted({'float32', *(planner.precision for planner in made.values())})}
    timed: dict[Any, Callable[[int], object]] = {name: _on_stream(planner.plan, stream) for name, planner in made.items()}
    timed.update({('floor', name): _ignoring_call(floor.run) for name, floor in floors.items()})
    rows_before = {name: planner.rows() for name, planner in made.items()}
    times = time_interleaved(timed, calls=calls, warmup=1)
    reference = statistics.median(times[_REFERENCE]) if _REFERENCE in times else float('nan')
    for name, planner in made.items():
        figures = summary(times[name])
        evaluations = round((planner.rows() - rows_before[name]) / (calls + 1))
        # Of fewer evaluations the floor is lower too.
        floor_ms = statistics.median(times['floor', planner.precision]) * evaluations / evaluations_of_all
        result['rows'].append({'planner': name, 'horizon': setup.horizon, **figures, 'model_evals': evaluations,
                               'ratio_to_mbrl': figures['median_ms'] / reference, 'precision': planner.precision,
                               'ratio_to_floor': figures['median_ms'] / floor_ms})
    for name, floor in floors.items():
        result['floors'].append({'precision': name, 'horizon': setup.horizon, **summary(times['floor', name]),
                                 'model_evals': evaluations_of_all, 'matrix_products': floor.num_products,
                                 'flops': floor.flops})


def markdown_tables(result: dict[str, Any]) -> str:
    """Planning and training figures as Markdown."""
    horizons = sorted({row['horizon'] for row in result['rows']})
    lines = ['| planner | ' + ' | '.join(f'horizon {steps}, ms | p95 | of mbrl-lib CEM' for steps in horizons)
             + ' | model evaluations |',
             '| --- |' + ' ---: |' * (3 * len(horizons) + 1)]
    for name in dict.fromkeys(row['planner'] for row in result['rows']):
        found = {row['horizon']: row for row in result['rows'] if row['planner'] == name}
        cells = [_markdown_cells(found.get(steps)) for steps in horizons]
        counts = ' / '.join(f'{found[steps]["model_evals"]:,}' if steps in found else '-' for steps in horizons)
        lines.append(f'| {name} | ' + ' | '.join(cells) + f' | {counts} |')
    for precision in dict.fromkeys(floor['precision'] for floor in result['floors']):
        found = {floor['horizon']: floor for floor in result['floors'] if floor['precision'] == precision}
        cells = [f'{_ms(found[steps]["median_ms"])} | {_ms(found[steps]["p95_ms"])} |' for steps in horizons]
        lines.append(f'| the matrix products alone, {precision} | ' + ' | '.join(cells) + ' | |')
    lines += [''.join(f'\nNot run: {missing["planner"]}, horizon {missing["horizon"]} ({missing["reason"]}).')
              for missing in result['missing']]
    if result.get('training'):
        lines += ['', '| one epoch of 10,000 transitions | gradient steps | mbrl-lib, s | mbrl_ros, s | times faster |',
                  '| --- | ---: | ---: | ---: | ---: |']
        lines += [f'| batches of {" | ".join(_training_cells(row))} |' for row in result['training']]
    return '\n'.join([*lines, '', f'Measured on {machine_line(result["machine"])}.'])


def _markdown_cells(row: dict[str, Any] | None) -> str:
    return 'not run | | ' if row is None else f'{_ms(row["median_ms"])} | {_ms(row["p95_ms"])} | {row["ratio_to_mbrl"]:.2g}'


def _ms(value: float) -> str:
    return f'{value:.0f}' if value >= 100.0 else f'{value:.3g}'


def _planning_table(result: dict[str, Any]) -> Table:
    table = Table(title='planning time, from a numpy observation to a numpy action', box=box.SIMPLE)
    table.add_column('planner', no_wrap=True)
    for column in ('H', 'ms', 'p95', 'model\nevals', 'mbrl CEM\n/ this', 'this\n/ floor'):
        table.add_column(column, justify='right', no_wrap=True)
    for row in result['rows']:
        table.add_row(row['planner'], str(row['horizon']), _ms(row['median_ms']), _ms(row['p95_ms']),
                      f'{row["model_evals"] / 1e3:.0f}k', f'{1.0 / row["ratio_to_mbrl"]:.2f}', f'{row["ratio_to_floor"]:.2f}')
    for floor in result['floors']:
        table.add_row(f'[dim]matrix products, {floor["precision"]}[/dim]', str(floor['horizon']), _ms(floor['median_ms']),
                      _ms(floor['p95_ms']), f'{floor["model_evals"] / 1e3:.0f}k', '', '')
    return table


def _training_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f'one epoch of {rows[0]["transitions"]:,} transitions, {rows[0]["held_out"]:,} more held out')
    for column in ('batch size', 'gradient\nsteps', 'mbrl-lib\ns', 'mbrl_ros\ns', 'times\nfaster'):
        table.add_column(column, justify='right')
    for row in rows:
        table.add_row(*_training_cells(row))
    return table


def _training_cells(row: dict[str, Any]) -> list[str]:
    theirs = f'{row["mbrl_s"]:.2f}' if 'mbrl_s' in row else f'not run: {row["mbrl_missing"]}'
    faster = f'{1.0 / row["ratio_to_mbrl"]:.1f}' if 'mbrl_s' in row else ''
    return [str(row['batch_size']), str(row['gradient_steps']), theirs, f'{row["mbrl_ros_s"]:.2f}', faster]


def _on_stream(plan: contenders.Planner, stream: Any) -> Callable[[int], object]:
    return lambda call: plan(stream[call + 1])


def _ignoring_call(run: Callable[[], None]) -> Callable[[int], object]:
    return lambda call: run()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == '__main__':
    sys.exit(run_script(main))
