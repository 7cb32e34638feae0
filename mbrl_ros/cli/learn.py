"""`mbrl-ros learn`: learn a task or an environment in one process, without ROS."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mbrl_ros.cli.options import refuse_options
from mbrl_ros.errors import MbrlError

if TYPE_CHECKING:
    from rich.console import Console

    from mbrl_ros.runs.learning_run import LearningRun
    from mbrl_ros.runs.task_loop import TaskLoop


def learn(
    task: Annotated[str | None, typer.Option(help='Task to learn: reach, push, lift or pick_place; lift by default.')] = None,
    env: Annotated[str | None, typer.Option(help='Gymnasium environment to learn instead, such as Pendulum-v1.')] = None,
    steps: Annotated[int, typer.Option(min=1, help='Real control steps after which no further episode begins; demonstrations and '
                                                   'exploring count.')] = 6000,
    seed: Annotated[int, typer.Option(min=0, help='Of everything that is drawn.')] = 0,
    out: Annotated[Path | None, typer.Option(help='Folder of the run; runs/<task or environment>-<seed> by default.')] = None,
    resume: Annotated[bool, typer.Option(help='Go on with the run in that folder.')] = False,
    config: Annotated[Path | None, typer.Option(help='Settings; those in config/tasks or config/envs by default.')] = None,
    changes: Annotated[list[str] | None, typer.Option('--set', help='Change of a setting, as planner.horizon=9; may be given '
                                                                    'several times.')] = None,
    agent: Annotated[str | None, typer.Option(help='Agent that learns and acts, a name or module:KIND; that of --config, or '
                                                   'pets, by default.')] = None,
    robot: Annotated[str | None, typer.Option(help='Robot profile of a task; panda by default.')] = None,
    demos: Annotated[list[str] | None, typer.Option(help='Demonstrations to begin with; may be given several times. For a task a '
                                                         'bag, instead of scripted ones; for an environment an .npz file, '
                                                         'minari:<dataset>, or an expert as module:function.')] = None,
    reward: Annotated[str | None, typer.Option(help='Reward of an environment: environment (its compute_reward), learned, '
                                                    'built-in or module:function; its compute_reward where it has one, or else '
                                                    'learned, by default.')] = None,
    features: Annotated[str | None, typer.Option(help='Further inputs of the model of an environment, as '
                                                      'module:function.')] = None,
    threads: Annotated[int, typer.Option(min=1, help='Threads to plan and train with.')] = 1,
) -> None:
    """Learn a task or an environment, episode after episode; what was learned so far is always on disk."""
    import torch
    from rich.console import Console

    from mbrl_ros.runs.env_loop import EnvLoop
    from mbrl_ros.runs.learning_run import LearningRun
    from mbrl_ros.runs.run_folder import require_no_run

    torch.set_num_threads(threads)
    console = Console()
    if env is None:
        refuse_options({'--reward': reward, '--features': features}, 'is for an environment, which needs --env')
        loop = _task_loop(task or 'lift', robot or 'panda', config, changes or (), agent)
    else:
        refuse_options({'--task': task, '--robot': robot}, 'is for a task, which excludes --env')
        loop = EnvLoop.of_env(env, config, changes or (), agent, reward=reward, features=features)
    folder = out or Path('runs') / f'{loop.file_name}-{seed}'
    with contextlib.closing(loop):
        shown = ()
        if demos:
            refuse_options({'--demos': resume}, 'the run has its demonstrations already, and --resume goes on with it')
            require_no_run(folder)
            with console.status('demonstrations …'):
                shown = loop.load_demonstrations(
                    demos, seed=seed, on_damage=lambda line: console.print(line, highlight=False, soft_wrap=True))
        run = LearningRun(loop, seed=seed, folder=folder, resume=resume, shown=shown)
        ended_by = _follow(run, steps, console, shows_recorded=not resume)
        if run.board.scores:
            console.print(f'learning curve: {run.draw()}', highlight=False)
        if ended_by is not None:
            raise ended_by


def _task_loop(task: str, robot: str, config: Path | None, changes: Sequence[str], agent: str | None) -> 'TaskLoop':
    from mbrl_ros.runs.task_loop import TaskLoop
    from mbrl_ros.task_settings import TaskLoopConfig
    from mbrl_sim.tabletop import make_task_world

    return TaskLoop(task, TaskLoopConfig.of_task(task, config, changes, agent), make_task_world, robot)


def _follow(run: 'LearningRun', steps: int, console: 'Console', *, shows_recorded: bool) -> Exception | None:
    """Run the episodes and print a line and notes for each; `shows_recorded` first prints those that the run began with.

    Returns:
        What ended the run before its time, to be raised: the exit after Ctrl-C, or an error.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('steps'), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task(run.headline, total=steps, completed=run.total_steps)

            def show(*lines: str) -> None:
                for line in lines:
                    progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

            recorded = run.board.scores if shows_recorded else ()
            show(*run.foreseen(steps), *run.board.header(), *map(run.board.line, recorded))
            for done in run.episodes(steps, lambda made: progress.update(bar, completed=min(made, steps))):
                show(run.board.line(done.score), *done.notes)
                progress.update(bar, completed=min(done.score.total_steps, steps), description=run.headline)
    except KeyboardInterrupt:
        console.print('interrupted; --resume goes on with the last episode that was finished')
        return typer.Exit(130)
    except MbrlError as error:
        return error
    return None
