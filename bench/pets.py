"""`make bench-pets`: returns over steps, beside mbrl-lib's PETS with the same networks, planning budget and rewards."""

import dataclasses
import functools
import json
import sys
import warnings
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from pets_picture import draw_returns
from pets_runs import Budget, Problem, mbrl_lib, ours
from rich.console import Console
from run_file import RunFile

from mbrl_ros.benchmarks.machine import machine_line
from mbrl_ros.cli.main import run_script
from mbrl_ros.runs.outputs import require_writable

_RESULTS = Path(__file__).parent / 'results'
PROBLEMS = {
    'cart-pole': Problem('swing_up:bench/SwingUp-v0', 'swing_up:reward'),
    'reacher': Problem('Reacher-v5'),
    'pusher': Problem('Pusher-v5'),
}
CONTENDERS = {'mbrl_ros': ours, 'mbrl-lib PETS': mbrl_lib}
#: What the table calls final: the mean over so many last episodes of a run.
_LAST = 3


def main(
    problem: Annotated[list[str], typer.Option(help=f'One of {", ".join(PROBLEMS)}; may be given several times.')] = (
        *PROBLEMS,),
    seed: Annotated[list[int], typer.Option(min=0, help='Seed; may be given several times.')] = (0, 1, 2),
    episodes: Annotated[int, typer.Option(min=2, help='Episodes of a run, the first of random actions.')] = 12,
    jobs: Annotated[int, typer.Option(min=1, help='Runs at a time, one thread each.')] = 2,
    json_path: Annotated[Path, typer.Option('--json', help='File for the figures; runs that are in it are not made again.')] = (
        _RESULTS / 'pets.json'),
    png_path: Annotated[Path, typer.Option('--png', help='File for the picture.')] = _RESULTS / 'pets.png',
    markdown: Annotated[bool, typer.Option(help='Print the table of --json as Markdown, and measure nothing.')] = False,
) -> None:
    """Learn each problem with each contender and each seed."""
    if markdown:
        print(markdown_table(json.loads(json_path.read_text(encoding='utf-8'))))
        return
    require_writable(json_path, png_path)
    console = Console()
    if unknown := set(problem) - set(PROBLEMS):
        raise typer.BadParameter(f'no problem {", ".join(unknown)}; known: {", ".join(PROBLEMS)}')
    figures = RunFile(json_path, {'budget': dataclasses.asdict(Budget()), 'episodes': episodes}, jobs,
                      mbrl=metadata.version('mbrl'))
    console.print(machine_line(figures.result['machine']))
    wanted = [{'problem': name, 'contender': contender, 'seed': number}
              for number in seed for name in problem for contender in CONTENDERS]
    with closing(figures.complete(wanted, functools.partial(_run, episodes=episodes))) as runs:
        for run in runs:
            console.print(f'{run["problem"]}, {run["contender"]}, seed {run["seed"]}: last {_LAST} episodes {_final(run):.1f}, '
                          f'{run["wall_s"]:.0f} s', highlight=False, soft_wrap=True)
    png_path.parent.mkdir(parents=True, exist_ok=True)
    draw_returns(figures.result, png_path)
    print(markdown_table(figures.result))
    console.print(f'figures: {json_path}\npicture: {png_path}', soft_wrap=True)


def markdown_table(result: dict[str, Any]) -> str:
    """Final returns, mean over seeds with Student's 95 % interval, and times, as Markdown."""
    lines = [f'| problem | contender | seeds | steps | random actions | return of the last {_LAST} episodes | 95 % interval '
             '| a plan | a run |', '| --- | --- |' + 7 * ' ---: |']
    for name in dict.fromkeys(run['problem'] for run in result['runs']):
        for contender in CONTENDERS:
            runs = [run for run in result['runs'] if (run['problem'], run['contender']) == (name, contender)]
            if runs:
                finals = np.array([_final(run) for run in runs])
                plan_ms, wall_s = (np.median([run[key] for run in runs]) for key in ('plan_ms', 'wall_s'))
                lines.append(f'| {name} | {contender} | {len(runs)} | {runs[0]["steps"][-1]:,} | '
                             f'{np.mean([run["returns"][0] for run in runs]):.1f} | {finals.mean():.1f} | {_interval(finals)} | '
                             f'{plan_ms:.0f} ms | {wall_s:.0f} s |')
    return '\n'.join([*lines, '', f'Measured on {machine_line(result["machine"])}.'])


def _final(run: dict[str, Any]) -> float:
    return float(np.mean(run['returns'][-_LAST:]))


def _interval(values: np.ndarray) -> str:
    from scipy.stats import sem, t

    if len(values) < 2:
        return '-'
    half = sem(values) * t.ppf(0.975, len(values) - 1)
    return f'{values.mean() - half:.1f} to {values.mean() + half:.1f}'


def _run(problem: str, contender: str, seed: int, episodes: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    warnings.filterwarnings('ignore', module=r'(hydra|mbrl|gymnasium)')
    return CONTENDERS[contender](PROBLEMS[problem], Budget(), seed, episodes)


if __name__ == '__main__':
    sys.exit(run_script(main))
