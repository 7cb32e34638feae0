"""`mbrl-ros compare`: learning curves of agents on the same tasks, seeds and steps, and of model-free methods beside them."""

from pathlib import Path
from typing import Annotated

import typer
import typer.core

_LISTS = ('--agents', '--tasks', '--envs', '--seeds', '--runs', '--methods')


class CompareCommand(typer.core.TyperCommand):
    """Accepts several values after one list option, because a shell expands `--runs runs/lift-*` to several words."""

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
    agents: Annotated[list[str] | None, typer.Option(help='Agents, by name or as module:KIND, several may follow; pets by '
                                                          'default, without --runs.')] = None,
    tasks: Annotated[list[str] | None, typer.Option(help='Tasks, several may follow: reach, push, lift or pick_place; reach by '
                                                         'default, without --envs.')] = None,
    envs: Annotated[list[str] | None, typer.Option(help='Gymnasium environments that tell their success, several may '
                                                        'follow.')] = None,
    seeds: Annotated[list[int], typer.Option(min=0, help='Seeds, several may follow.')] = (0, 1, 2),
    steps: Annotated[int, typer.Option(min=1, help='Real control steps of each run of an agent.')] = 6000,
    evaluation_episodes: Annotated[int, typer.Option(min=0, help='Episodes in which the policy at the end of a run is '
                                                                 'evaluated; 0 for none.')] = 100,
    changes: Annotated[list[str] | None, typer.Option('--set', help='Change of a setting of all agents, as demonstrations=10; '
                                                                    'may be given several times.')] = None,
    runs: Annotated[list[Path] | None, typer.Option(help='Folders of finished runs of `mbrl-ros learn`, several may follow; they '
                                                         'are not trained here.')] = None,
    methods: Annotated[list[str], typer.Option(help='Model-free methods of stable-baselines3 on the tasks: sac (dense reward), '
                                                    'sac-her (sparse, in hindsight); several may follow.')] = (),
    sac_steps: Annotated[int, typer.Option(min=1, help='Real control steps of each model-free run.')] = 20_000,
    check_every: Annotated[int, typer.Option(min=1, help='Steps from one evaluation of a model-free policy without noise to '
                                                         'the next.')] = 2000,
    check_episodes: Annotated[int, typer.Option(min=1, help='Episodes of such an evaluation.')] = 20,
    out: Annotated[Path, typer.Option(help='Folder of runs, figures and picture.')] = Path('runs/compare'),
    config: Annotated[Path | None, typer.Option(help='Settings; those in config/tasks or config/envs by default.')] = None,
    sac_config: Annotated[Path | None, typer.Option(help='Settings of the model-free methods, YAML.')] = None,
    robot: Annotated[str, typer.Option(help='Robot profile of tasks.')] = 'panda',
    threads: Annotated[int, typer.Option(min=1, help='Threads to learn with.')] = 1,
    markdown: Annotated[bool, typer.Option(help='Print the table as Markdown.')] = False,
) -> None:
    """Set learning curves of agents beside each other; what was trained or evaluated already is not done again."""
    import torch
    from rich.console import Console

    from mbrl_ros.benchmarks.figures import write_figures
    from mbrl_ros.config import load_yaml
    from mbrl_ros.runs.baselines.sac import SacConfig
    from mbrl_ros.runs.comparison import comparison_table, figures, markdown_table, save_curves
    from mbrl_ros.runs.comparison_plot import draw_comparison
    from mbrl_ros.runs.comparison_runs import Comparison, compared_runs
    from mbrl_ros.runs.outputs import require_writable
    from mbrl_sim import ENVIRONMENTS
    from mbrl_sim.tabletop import make_task_world

    torch.set_num_threads(threads)
    console = Console()
    require_writable(*(out / name for name in ('comparison.json', 'curves.csv', 'comparison.png')))
    comparison = Comparison(
        agents or (() if runs else ('pets',)), tasks or (() if envs else ('reach',)), seeds, steps, out, make_task_world,
        ENVIRONMENTS, envs or (), runs or (), robot, config, changes or (), evaluation_episodes, methods, sac_steps,
        SacConfig.from_mapping(load_yaml(sac_config), str(sac_config)) if sac_config else None, check_every, check_episodes)
    result = figures(robot, compared_runs(comparison, lambda line: console.print(line, highlight=False, markup=False)))
    write_figures(out / 'comparison.json', result)
    save_curves(out / 'curves.csv', result)
    draw_comparison(result, out / 'comparison.png')
    if markdown:
        print(markdown_table(result))
    else:
        console.print(comparison_table(result))
    console.print(f'picture: {out / "comparison.png"}; figures: comparison.json and curves.csv beside it', highlight=False)


compare.command_class = CompareCommand
