"""`mbrl-ros evaluate`: success of a learned model, with its interval."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[Path, typer.Option(help='Model to evaluate, as `mbrl-ros learn` leaves it.')],
    task: Annotated[str, typer.Option(help='Task that it was learned for.')] = 'lift',
    episodes: Annotated[int, typer.Option(min=1, help='How many.')] = 100,
    seed: Annotated[int, typer.Option(min=0, help='Of cubes, goals and plans; none of them was seen in learning.')] = 0,
    json_path: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file as JSON.')] = None,
    video: Annotated[Path | None, typer.Option(help='Write what the first episodes look like to this GIF or MP4.')] = None,
    video_episodes: Annotated[int, typer.Option(min=1, help='How many the video shows.')] = 3,
    config: Annotated[Path | None, typer.Option(help='Settings; config/tasks/<task>.yaml by default.')] = None,
    changes: Annotated[list[str] | None, typer.Option('--set', help='Change of a setting, as planner.horizon=9; may be given '
                                                                    'several times.')] = None,
    robot: Annotated[str, typer.Option(help='Robot profile.')] = 'panda',
    object_kind: Annotated[str, typer.Option('--object', help='What lies on the table: cube, cylinder, brick, duck or '
                                                              'mug.')] = 'cube',
    workers: Annotated[int, typer.Option(min=0, help='Processes; 0 for one a core.')] = 0,
) -> None:
    """Play a task with a model, learn nothing, and say how often it succeeds."""
    import os

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mbrl_ros.cli.evaluation import Evaluation, record, require_fit, summary
    from mbrl_ros.cli.evaluation import evaluate as play
    from mbrl_ros.cli.figures import write_figures
    from mbrl_ros.cli.outputs import require_writable
    from mbrl_ros.task_settings import TaskLoopConfig
    from mbrl_sim.video import require_video

    console = Console()
    if video is not None:
        require_video(video)
    for path in filter(None, (json_path, video)):
        require_writable(path)
    settings = TaskLoopConfig.of_task(str(config) if config else task, changes or ())
    evaluation = Evaluation(task, settings, model, seed, robot, object_kind)
    require_fit(evaluation)
    outcomes = []
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('episodes'), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(task, total=episodes)

        def show(outcome: object) -> None:
            outcomes.append(outcome)
            progress.update(bar, advance=1, description=f'{task}: {sum(done.success for done in outcomes)} succeeded')

        results = play(evaluation, episodes, workers or os.cpu_count() or 1, show)
    figures = summary(evaluation, results)
    low, high = (100 * bound for bound in figures['ci95'])
    what = task if object_kind == 'cube' else f'{task} with a {object_kind}'
    console.print(f'{what}: {100 * figures["success_rate"]:.0f} % of {episodes} episodes succeeded '
                  f'(95 % interval {low:.1f} to {high:.1f} %)', highlight=False, soft_wrap=True)
    console.print(f'trained on {figures["real_steps_trained"]} real control steps; median steps to success '
                  f'{figures["median_steps_to_success"]:.0f}; mean return {figures["mean_return"]:.1f}; plan '
                  f'{figures["plan_ms_p50"]:.1f} ms median, {figures["plan_ms_p99"]:.1f} ms p99', highlight=False, soft_wrap=True)
    if json_path is not None:
        write_figures(json_path, figures)
    if video is not None:
        with console.status('drawing the video'):
            record(evaluation, min(video_episodes, episodes), video)
        console.print(f'video: {video}', soft_wrap=True)
