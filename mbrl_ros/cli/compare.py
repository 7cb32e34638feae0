"""`mbrl-ros compare`: learning curves of this project and of model-free methods, on the same task, seeds and steps."""

from pathlib import Path
from typing import Annotated

import typer
import typer.core

_LISTS = ('--seeds', '--ours', '--methods')


class CompareCommand(typer.core.TyperCommand):
    """Accepts several values after one list option, because a shell expands `--ours runs/lift-*` to several words."""

    def parse_args(self, ctx: object, args: list[str]) -> list[str]:
        spread, current = [], ''
        for word, before in zip(args, ['', *args]):
            if word.startswith('-'):
                current = word if word in _LISTS else ''
            elif current and before != current:
                spread.append(current)
            spread.append(word)
        return super().parse_args(ctx, spread)


def compare(
    task: Annotated[str, typer.Option(help='Task to compare on: reach, push, lift or pick_place.')] = 'reach',
    seeds: Annotated[list[int], typer.Option(min=0, help='Seeds of runs that are trained; several may follow.')] = (0, 1, 2),
    ours: Annotated[list[Path] | None, typer.Option(help='Folders of finished runs of `mbrl-ros learn`, several may follow; '
                                                         'without any, runs are learned into --out.')] = None,
    steps: Annotated[int, typer.Option(min=1, help='Real control steps of runs of ours that are learned here.')] = 6000,
    methods: Annotated[list[str], typer.Option(help='Model-free methods: sac (dense reward), sac-her (sparse, in hindsight); '
                                                    'several may follow.')] = ('sac', 'sac-her'),
    sac_steps: Annotated[int, typer.Option(min=1, help='Real control steps of each model-free run.')] = 20_000,
    check_every: Annotated[int, typer.Option(min=1, help='Steps from one look at a model-free policy without noise to the '
                                                         'next.')] = 2000,
    check_episodes: Annotated[int, typer.Option(min=1, help='Episodes of a look.')] = 20,
    out: Annotated[Path | None, typer.Option(help='Folder of runs, figures and picture; runs/compare-<task> by default.')] = None,
    config: Annotated[Path | None, typer.Option(help='Settings of the task; config/tasks/<task>.yaml by default.')] = None,
    sac_config: Annotated[Path | None, typer.Option(help='Settings of Soft Actor-Critic, YAML.')] = None,
    robot: Annotated[str, typer.Option(help='Robot profile.')] = 'panda',
    threads: Annotated[int, typer.Option(min=1, help='Threads to learn with.')] = 1,
    markdown: Annotated[bool, typer.Option(help='Print the table as Markdown.')] = False,
) -> None:
    """Set learning curves of this project beside model-free ones; what was trained already is not trained again."""
    import torch
    from rich.console import Console

    from mbrl_ros.benchmarks.figures import write_figures
    from mbrl_ros.config import load_yaml
    from mbrl_ros.runs.baselines.sac import SacConfig
    from mbrl_ros.runs.comparison import comparison_table, figures, markdown_table, read_run, save_curves
    from mbrl_ros.runs.comparison_plot import draw_comparison
    from mbrl_ros.runs.comparison_runs import Comparison, train_missing
    from mbrl_ros.runs.outputs import require_writable
    from mbrl_ros.task_settings import TaskLoopConfig
    from mbrl_sim import ENVIRONMENTS
    from mbrl_sim.tabletop import make_task_world

    torch.set_num_threads(threads)
    console = Console()
    out = out or Path('runs') / f'compare-{task}'
    require_writable(*(out / name for name in ('comparison.json', 'curves.csv', 'comparison.png')))
    sac = SacConfig.from_mapping(load_yaml(sac_config), str(sac_config)) if sac_config else SacConfig.of_task(task)
    loop = TaskLoopConfig.of_task(task, config)
    comparison = Comparison(task, loop, robot, tuple(seeds), tuple(ours or ()), steps, tuple(methods), sac_steps, sac,
                            check_every, check_episodes, out, make_task_world, ENVIRONMENTS)
    folders = train_missing(comparison, lambda line: console.print(line, highlight=False))
    runs = [read_run(folder, task, robot) for folder in folders]
    result = figures(task, robot, runs)
    write_figures(out / 'comparison.json', result)
    save_curves(out / 'curves.csv', result)
    draw_comparison(task, robot, runs, out / 'comparison.png')
    if markdown:
        print(markdown_table(result))
    else:
        console.print(comparison_table(result))
    console.print(f'picture: {out / "comparison.png"}; figures: comparison.json and curves.csv beside it', highlight=False)


compare.command_class = CompareCommand
