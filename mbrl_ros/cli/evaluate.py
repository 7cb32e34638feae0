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
    video: Annotated[Path | None, typer.Option(help='Write what the first episodes look like to this GIF.')] = None,
    video_episodes: Annotated[int, typer.Option(min=1, help='How many the video shows.')] = 3,
    config: Annotated[Path | None, typer.Option(help='Settings; config/tasks/<task>.yaml by default.')] = None,
    robot: Annotated[str, typer.Option(help='Robot profile.')] = 'panda',
    workers: Annotated[int, typer.Option(min=0, help='Processes; 0 for one a core.')] = 0,
) -> None:
    """Play a task with a model, learn nothing, and say how often it succeeds."""
    import os

    from rich.console import Console

    from mbrl_ros.cli.evaluation import Evaluation, record, summary
    from mbrl_ros.cli.evaluation import evaluate as play
    from mbrl_ros.cli.figures import write_figures
    from mbrl_ros.cli.task_loop import TaskLoop, TaskLoopConfig
    from mbrl_ros.errors import ConfigError
    from mbrl_ros.learning import ModelSnapshot

    console = Console()
    if video is not None and video.suffix.lower() != '.gif':
        raise ConfigError(f'{video}: a video needs the suffix .gif')
    for path in filter(None, (json_path, video)):
        nearest = next(parent for parent in path.absolute().parents if parent.exists())
        if path.is_dir() or not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise ConfigError(f'{path}: cannot be written')
    evaluation = Evaluation(task, TaskLoopConfig.of_task(str(config) if config else task), model, seed, robot)
    loop = TaskLoop(task, evaluation.config, robot)
    try:
        loop.ready(ModelSnapshot.load(model))
    finally:
        loop.close()
    outcomes = []
    with console.status('') as status:
        def show(outcome: object) -> None:
            outcomes.append(outcome)
            status.update(f'{sum(done.success for done in outcomes)} of {len(outcomes)} succeeded')

        results = play(evaluation, episodes, workers or os.cpu_count() or 1, show)
    figures = summary(evaluation, results)
    low, high = (100 * bound for bound in figures['ci95'])
    console.print(f'{task}: {100 * figures["success_rate"]:.0f} % of {episodes} episodes succeeded '
                  f'(95 % interval {low:.1f} to {high:.1f} %)', highlight=False)
    console.print(f'trained on {figures["real_steps_trained"]} real control steps; median steps to success '
                  f'{figures["median_steps_to_success"]:.0f}; mean return {figures["mean_return"]:.1f}; plan '
                  f'{figures["plan_ms_p50"]:.1f} ms median, {figures["plan_ms_p99"]:.1f} ms p99', highlight=False)
    if json_path is not None:
        write_figures(json_path, figures)
    if video is not None:
        video.parent.mkdir(parents=True, exist_ok=True)
        record(evaluation, min(video_episodes, episodes), video)
        console.print(f'video: {video}')
