"""`mbrl-ros evaluate`: success rate or return of a learned model, with a confidence interval."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mbrl_ros.cli.options import refuse_options
from mbrl_ros.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from mbrl_ros.runs.evaluation import AnyEvaluation, Outcome

#: Options that `--live` refuses, and the reason.
_NOT_LIVE = {
    '--env': 'the nodes of --live play tasks',
    '--config': 'the nodes of --live take the settings of config/tasks',
    '--set': 'the nodes of --live take the settings of config/tasks',
    '--object': 'the table of --live has cubes',
    '--video': '--live films nothing; mbrl-ros launch demo_grasp.launch.yaml films its first episodes',
    '--workers': 'one stack plays all episodes of --live',
}


def evaluate(
    model: Annotated[Path, typer.Option(help='Model, as `mbrl-ros learn` leaves it, or the name of one of the package.')],
    task: Annotated[str | None, typer.Option(help='Task that the model has to be of; it says by itself which one.')] = None,
    env: Annotated[str | None, typer.Option(help='Gymnasium environment that it has to be of, likewise.')] = None,
    episodes: Annotated[int, typer.Option(min=1, help='How many.')] = 100,
    seed: Annotated[int, typer.Option(min=0, help='Seed of cubes, goals and plans; never those of an episode seen in '
                                                'learning, but for a live run of the same seed.')] = 0,
    json_path: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file as JSON.')] = None,
    video: Annotated[Path | None, typer.Option(help='Write what the first episodes look like to this GIF or MP4.')] = None,
    video_episodes: Annotated[int, typer.Option(min=1, help='How many the video shows.')] = 3,
    config: Annotated[Path | None, typer.Option(help='Settings; by default those of the run in whose folder the model lies, or '
                                                     'those in config/tasks or config/envs.')] = None,
    changes: Annotated[list[str] | None, typer.Option('--set', help='Change of a setting, as planner.horizon=9; may be given '
                                                                    'several times.')] = None,
    robot: Annotated[str | None, typer.Option(help='Robot profile of a task; that of run or model by default.')] = None,
    object_kind: Annotated[str | None, typer.Option('--object', help='What lies on the table: cube, cylinder, brick, duck or '
                                                                     'mug; cube by default.')] = None,
    reward: Annotated[str | None, typer.Option(help='Reward of an environment, as module:function; that of the model by '
                                                    'default.')] = None,
    workers: Annotated[int, typer.Option(min=0, help='Processes; 0 for one a core.')] = 0,
    live: Annotated[bool, typer.Option('--live', help='Let simulator and stack play it, as ROS nodes in lockstep.')] = False,
    out: Annotated[Path | None, typer.Option(help='With --live: keep recording, scores and log in this folder.')] = None,
) -> None:
    """Play a task or an environment with a model, learn nothing, and say how well it does."""
    from rich.console import Console

    from mbrl_ros.benchmarks.figures import write_figures
    from mbrl_ros.resources import model_file
    from mbrl_ros.runs.evaluation import in_words, record, require_fit
    from mbrl_ros.runs.evaluation_request import EvaluationRequest
    from mbrl_ros.runs.outputs import require_writable
    from mbrl_ros.video import require_video
    from mbrl_sim.tabletop import make_task_world

    if live:
        _require_live({'--env': env, '--config': config, '--set': changes, '--object': object_kind not in (None, 'cube'),
                       '--video': video, '--workers': workers}, out)
    refuse_options({'--out': out and not live}, 'is for --live; nothing is recorded in one process')
    refuse_options({'--env': env and task}, 'a model is of a task or of an environment, not of both')
    if video is not None:
        require_video(video)
    require_writable(json_path, video, out and out / 'launch.log')
    model = model if model.exists() else model_file(str(model))
    evaluation = EvaluationRequest(model, task, env, robot, config, tuple(changes or ()), object_kind, reward, seed, live,
                                   pictures=video is not None).resolve(make_task_world)
    require_fit(evaluation)
    console = Console()
    figures = evaluation.summary(_played(evaluation, episodes, workers, out, console, live=live))
    for line in in_words(evaluation, figures):
        console.print(line, highlight=False, soft_wrap=True)
    if json_path is not None:
        write_figures(json_path, figures)
    if out is not None:
        console.print(f'recording, scores and log: {out}', soft_wrap=True)
    if video is not None:
        with console.status('drawing the video'):
            record(evaluation, min(video_episodes, episodes), video)
        console.print(f'video: {video}', soft_wrap=True)


def _require_live(given: Mapping[str, object], out: Path | None) -> None:
    """Raise ConfigError if an option does not fit `--live`, or the folder contains another run."""
    for option, why in _NOT_LIVE.items():
        refuse_options({option: given[option]}, why)
    if out is not None and (out / 'scores.csv').exists():
        raise ConfigError(f'{out}: holds the scores of another run; --out needs a folder of its own')


def _played(evaluation: 'AnyEvaluation', episodes: int, workers: int, out: Path | None, console: 'Console', *,
            live: bool) -> list['Outcome']:
    """Outcomes of all episodes, with a progress bar; Ctrl-C ends the command with a line."""
    import os

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mbrl_ros.runs.evaluation import evaluate as play
    from mbrl_ros.runs.live_evaluation import play_live

    outcomes = []
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('episodes'), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task('', total=episodes)

            def show(outcome: 'Outcome') -> None:
                outcomes.append(outcome)
                progress.update(bar, advance=1, description=_progress(outcomes))

            if live:
                return play_live(evaluation, episodes, out, show)
            return play(evaluation, episodes, workers or os.cpu_count() or 1, show)
    except KeyboardInterrupt:
        console.print(f'interrupted after {len(outcomes)} of {episodes} episodes', highlight=False)
        raise typer.Exit(130) from None


def _progress(outcomes: Sequence['Outcome']) -> str:
    mean = sum(done.episode_return for done in outcomes) / len(outcomes)
    reached = [done.success for done in outcomes if done.success is not None]
    return f'{sum(reached)} succeeded' if reached else f'mean return {mean:.1f}'
