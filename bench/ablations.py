"""`make bench-ablations`: what the parts of learning a task are worth, each left out or changed in turn."""

import dataclasses
import functools
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from run_file import RunFile

from mbrl_ros.benchmarks.machine import machine_line
from mbrl_ros.cli.main import run_script
from mbrl_ros.errors import ModelError
from mbrl_ros.runs.evaluation import wilson_interval
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.outputs import require_writable
from mbrl_ros.runs.playing import EVALUATION
from mbrl_ros.runs.task_evaluation import Evaluation
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.types import Phase
from mbrl_sim.tabletop import make_task_world

_RESULTS = Path(__file__).parent / 'results'


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What differs from the task's own settings.

    Attributes:
        name: Row of the table.
        changes: As `--set` takes them.
        is_framed: Whether the dynamics are learned in the task's frame.
    """

    name: str
    changes: tuple[str, ...] = ()
    is_framed: bool = True

    def placed(self, loop: TaskLoop) -> TaskLoop:
        """The loop, which has not played yet, in the frame that is wanted."""
        if not self.is_framed:
            loop.space.frame = None
        return loop


ABLATIONS = {row.name: row for row in (
    Ablation('as configured'),
    Ablation('no demonstrations', ('demonstrations=0', 'explorations=20')),
    Ablation("not in the tool's frame", is_framed=False),
    Ablation('smaller search', ('planner.population_size=128', 'planner.num_iterations=3')),
    Ablation('one network', ('learner.trainer.ensemble.ensemble_size=1',)),
    Ablation('longer horizon', ('planner.horizon=7',)),
    Ablation('counterfactuals', ('learner.imagined_share=0.5',)),
    Ablation('new networks each round', ('learner.trainer.warm_start=false',)),
    Ablation('seeking disagreement', ('planner.disagreement_bonus=2.0',)),
)}


def main(
    task: Annotated[str, typer.Option(help='Task to learn.')] = 'lift',
    row: Annotated[list[str], typer.Option(help=f'One of {", ".join(ABLATIONS)}; may be given several times.')] = (*ABLATIONS,),
    seed: Annotated[list[int], typer.Option(min=0, help='Seed; may be given several times.')] = (0, 1, 2),
    steps: Annotated[int, typer.Option(min=1, help='Real control steps after which no further episode begins.')] = 3000,
    episodes: Annotated[int, typer.Option(min=1, help='Episodes that the last model of a run is evaluated in.')] = 50,
    jobs: Annotated[int, typer.Option(min=1, help='Runs at a time, one thread each.')] = 2,
    json_path: Annotated[Path, typer.Option('--json', help='File for the figures; runs that are in it are not made again.')] = (
        _RESULTS / 'ablations.json'),
    markdown: Annotated[bool, typer.Option(help='Print the table of --json as Markdown, and measure nothing.')] = False,
) -> None:
    """Learn a task with each change and each seed, and evaluate what was learned last."""
    if markdown:
        print(markdown_table(json.loads(json_path.read_text(encoding='utf-8'))))
        return
    require_writable(json_path)
    console = Console()
    if unknown := set(row) - set(ABLATIONS):
        raise typer.BadParameter(f'no row {", ".join(unknown)}; known: {", ".join(ABLATIONS)}')
    setting = {'task': task, 'steps': steps, 'episodes': episodes}
    figures = RunFile(json_path, setting, jobs)
    console.print(machine_line(figures.result['machine']))
    wanted = [{'row': name, 'seed': number} for name in row for number in seed]
    with closing(figures.complete(wanted, functools.partial(learn_and_evaluate, **setting))) as runs:
        for run in runs:
            console.print(f'{run["row"]}, seed {run["seed"]}: {sum(run["planned"])} of {len(run["planned"])} planned episodes '
                          f'succeeded, {run["successes"]} of {episodes} with the last model, {run["wall_s"]:.0f} s',
                          highlight=False, soft_wrap=True)
    print(markdown_table(figures.result))
    console.print(f'figures: {json_path}', soft_wrap=True)


def learn_and_evaluate(row: str, seed: int, *, task: str, steps: int, episodes: int) -> dict[str, Any]:
    """One run: learn as `mbrl-ros learn` does, then play episodes that nothing is learned from.

    Args:
        row: What differs from the task's settings, one of `ABLATIONS`.
        seed: Of learning, and of the cubes, goals and plans of the evaluation.
        task: Name of the task.
        steps: Real control steps after which no further episode of learning begins.
        episodes: Episodes of the evaluation.

    Returns:
        Figures by name: success of each planned episode of learning and control steps before it, successes and times of the
        evaluation.

    Raises:
        ModelError: No model came of so few steps.
    """
    torch.set_num_threads(1)
    ablation = ABLATIONS[row]
    config, begin_s = TaskLoopConfig.of_task(task, changes=ablation.changes), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        with closing(ablation.placed(TaskLoop(task, config, make_task_world))) as loop:
            run = LearningRun(loop, seed=seed, folder=Path(folder) / 'run')
            done = []
            for progress in run.episodes(steps):
                done.append(progress.episode)
                for note in progress.notes:
                    print(f'{row}, seed {seed}: {note}', flush=True)
        learned_s = time.monotonic()
        if run.rounds.current is None:
            raise ModelError(f'no model came of {steps} steps; more are needed')
        evaluation = Evaluation(task, config, Path(folder) / 'run' / 'model.safetensors', make_task_world, seed)
        with closing(ablation.placed(evaluation.loop())) as loop:
            agent = loop.agent.with_bundle(run.rounds.current)
            played = [loop.play(agent, seed=seed, episode=episode, stream=EVALUATION) for episode in range(episodes)]
    before = np.cumsum([0, *(episode.steps for episode in done)]).tolist()
    planned = [(episode.success, start) for episode, start in zip(done, before) if episode.phase == Phase.RUNNING.value]
    return {'planned': [success for success, _ in planned], 'steps_before': [start for _, start in planned],
            'steps': before[-1], 'learning_s': learned_s - begin_s, 'wall_s': time.monotonic() - begin_s,
            'successes': sum(episode.success for episode in played), 'episodes': episodes,
            'plan_ms': float(np.median(1e3 * np.concatenate([episode.plan_s for episode in played])))}


def markdown_table(result: dict[str, Any]) -> str:
    """Successes, pooled over seeds, with their Wilson 95 % intervals, and times, as Markdown."""
    setting = result['setting']
    lines = [f'| {setting["task"]} | seeds | planned episodes within {setting["steps"]:,} steps | last model | of each seed, % '
             '| a plan |', '| --- |' + 5 * ' ---: |']
    for name in ABLATIONS:
        runs = sorted((run for run in result['runs'] if run['row'] == name), key=lambda run: run['seed'])
        if runs:
            planned = [success for run in runs for success in run['planned']]
            lines.append(f'| {name} | {_joined(run["seed"] for run in runs)} | {_share(sum(planned), len(planned))} | '
                         f'{_share(*(sum(run[key] for run in runs) for key in ("successes", "episodes")))} | '
                         f'{_joined(round(100 * run["successes"] / run["episodes"]) for run in runs)} | '
                         f'{np.median([run["plan_ms"] for run in runs]):.0f} ms |')
    return '\n'.join([*lines, '', f'Measured on {machine_line(result["machine"])}.'])


def _share(successes: int, episodes: int) -> str:
    if not episodes:
        return '-'
    low, high = (100 * bound for bound in wilson_interval(successes, episodes))
    return f'{successes} of {episodes} ({100 * successes / episodes:.0f} %, {low:.0f} to {high:.0f})'


def _joined(numbers: Iterable[int]) -> str:
    return ', '.join(map(str, numbers))


if __name__ == '__main__':
    sys.exit(run_script(main))
