"""`mbrl-ros evaluate`: what a learned model is worth, with its interval."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from mbrl_ros.cli.options import refuse_options
from mbrl_ros.errors import ConfigError

if TYPE_CHECKING:
    from mbrl_ros.runs.evaluation import AnyEvaluation, Outcome

#: Options that go with an evaluation in one process only, and why.
_NOT_LIVE = {
    '--env': 'the nodes of --live play tasks',
    '--config': 'the nodes of --live take the settings of config/tasks',
    '--set': 'the nodes of --live take the settings of config/tasks',
    '--object': 'the table of --live has cubes',
    '--video': '--live films nothing; mbrl-ros launch demo_grasp.launch.yaml films its first episodes',
    '--workers': 'one stack plays all episodes of --live',
}


def evaluate(
    model: Annotated[Path, typer.Option(help='Model to evaluate, as `mbrl-ros learn` leaves it.')],
    task: Annotated[str | None, typer.Option(help='Task that it was learned for; lift by default.')] = None,
    env: Annotated[str | None, typer.Option(help='Gymnasium environment that it was learned in, instead.')] = None,
    episodes: Annotated[int, typer.Option(min=1, help='How many.')] = 100,
    seed: Annotated[int, typer.Option(min=0, help='Of cubes, goals and plans: others than in learning, but for '
                                                'those of a live run of the same seed.')] = 0,
    json_path: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file as JSON.')] = None,
    video: Annotated[Path | None, typer.Option(help='Write what the first episodes look like to this GIF or MP4.')] = None,
    video_episodes: Annotated[int, typer.Option(min=1, help='How many the video shows.')] = 3,
    config: Annotated[Path | None, typer.Option(help='Settings; those in config/tasks or config/envs by default.')] = None,
    changes: Annotated[list[str] | None, typer.Option('--set', help='Change of a setting, as planner.horizon=9; may be given '
                                                                    'several times.')] = None,
    robot: Annotated[str | None, typer.Option(help='Robot profile of a task; panda by default.')] = None,
    object_kind: Annotated[str | None, typer.Option('--object', help='What lies on the table: cube, cylinder, brick, duck or '
                                                                     'mug; cube by default.')] = None,
    reward: Annotated[str | None, typer.Option(help='Reward of an environment, if it was given as module:function.')] = None,
    workers: Annotated[int, typer.Option(min=0, help='Processes; 0 for one a core.')] = 0,
    live: Annotated[bool, typer.Option('--live', help='Let simulator and stack play it, as ROS nodes in lockstep.')] = False,
    out: Annotated[Path | None, typer.Option(help='With --live: keep recording, scores and log in this folder.')] = None,
) -> None:
    """Play a task or an environment with a model, learn nothing, and say how well it does."""
    import os

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mbrl_ros.benchmarks.figures import write_figures
    from mbrl_ros.runs.evaluation import evaluate as play
    from mbrl_ros.runs.evaluation import record, require_fit
    from mbrl_ros.runs.live_evaluation import play_live
    from mbrl_ros.runs.outputs import require_writable
    from mbrl_ros.video import require_video

    console = Console()
    if live:
        _require_live({'--env': env, '--config': config, '--set': changes, '--object': object_kind not in (None, 'cube'),
                      '--video': video, '--workers': workers}, out)
    else:
        refuse_options({'--out': out}, 'is for --live; nothing is recorded in one process')
    if video is not None:
        require_video(video)
    require_writable(json_path, video, out and out / 'launch.log')
    if env is None:
        refuse_options({'--reward': reward}, 'is for an environment, which needs --env')
        kind = _of_task(task or 'lift', robot or 'panda', object_kind or 'cube', config, changes or (), model, seed, live)
    else:
        refuse_options({'--task': task, '--robot': robot, '--object': object_kind}, 'is for a task, which excludes --env')
        kind = _of_env(env, reward, video is not None, config, changes or (), model, seed)
    require_fit(kind.evaluation)
    outcomes = []
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('episodes'), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task(kind.name, total=episodes)

            def show(outcome: 'Outcome') -> None:
                outcomes.append(outcome)
                progress.update(bar, advance=1, description=f'{kind.name}: {kind.progress(outcomes)}')

            if live:
                results = play_live(kind.evaluation, episodes, out, show)
            else:
                results = play(kind.evaluation, episodes, workers or os.cpu_count() or 1, show)
    except KeyboardInterrupt:
        console.print(f'interrupted after {len(outcomes)} of {episodes} episodes', highlight=False)
        raise typer.Exit(130) from None
    figures = kind.summary(kind.evaluation, results)
    for line in kind.lines(figures):
        console.print(line, highlight=False, soft_wrap=True)
    if json_path is not None:
        write_figures(json_path, figures)
    if out is not None:
        console.print(f'recording, scores and log: {out}', soft_wrap=True)
    if video is not None:
        with console.status('drawing the video'):
            record(kind.evaluation, min(video_episodes, episodes), video)
        console.print(f'video: {video}', soft_wrap=True)


def _require_live(given: Mapping[str, object], out: Path | None) -> None:
    """Require that what was asked for can be had from the nodes, in a folder that holds no other run."""
    for option, why in _NOT_LIVE.items():
        refuse_options({option: given[option]}, why)
    if out is not None and (out / 'scores.csv').exists():
        raise ConfigError(f'{out}: holds the scores of another run; --out needs a folder of its own')


class _Kind(NamedTuple):
    """What differs between tasks and environments: what is evaluated, how outcomes are summed up, and how that is told."""

    name: str
    evaluation: 'AnyEvaluation'
    summary: Callable[..., dict[str, Any]]
    progress: Callable[[Sequence['Outcome']], str]
    lines: Callable[[dict[str, Any]], list[str]]


def _of_task(task: str, robot: str, object_kind: str, config: Path | None, changes: Sequence[str], model: Path,
             seed: int, live: bool) -> _Kind:
    from mbrl_ros.runs.evaluation import Evaluation, summary
    from mbrl_ros.task_settings import TaskLoopConfig
    from mbrl_sim.tabletop import make_task_world

    def progress(outcomes: Sequence['Outcome']) -> str:
        return f'{sum(done.success for done in outcomes)} succeeded'

    def lines(figures: dict[str, Any]) -> list[str]:
        low, high = (100 * bound for bound in figures['ci95'])
        what = (task if object_kind == 'cube' else f'{task} with a {object_kind}') + (', live' if live else '')
        return [f'{what}: {100 * figures["success_rate"]:.0f} % of {figures["episodes"]} episodes succeeded '
                f'(95 % interval {low:.1f} to {high:.1f} %)',
                f'{_trained(figures)}; median steps to success {figures["median_steps_to_success"]:.0f}; '
                f'mean return {figures["mean_return"]:.1f}; {_planned(figures)}']

    settings = TaskLoopConfig.of_task(task, config, changes)
    evaluation = Evaluation(task, settings, model, make_task_world, seed, robot, object_kind, live)
    return _Kind(task, evaluation, summary, progress, lines)


def _of_env(env: str, reward: str | None, pictures: bool, config: Path | None, changes: Sequence[str], model: Path,
            seed: int) -> _Kind:
    from mbrl_ros.runs.env_evaluation import EnvEvaluation, env_summary
    from mbrl_ros.runs.env_loop import EnvLoopConfig

    def progress(outcomes: Sequence['Outcome']) -> str:
        return f'mean return {sum(done.episode_return for done in outcomes) / len(outcomes):.1f}'

    def lines(figures: dict[str, Any]) -> list[str]:
        (low, high), rate = figures['ci95'], figures['success_rate']
        over = 'over one episode' if figures['episodes'] == 1 else (
            f'over {figures["episodes"]} episodes (95 % interval {low:.1f} to {high:.1f}; '
            f'{figures["min_return"]:.1f} to {figures["max_return"]:.1f})')
        told = [] if rate is None else [f'{100 * rate:.0f} % of them succeeded, by the environment\'s word']
        return [f'{env}: mean return {figures["mean_return"]:.1f} {over}', *told,
                f'{_trained(figures)}; mean steps {figures["mean_steps"]:.0f}; {_planned(figures)}']

    settings = EnvLoopConfig.of_env(env, config, changes)
    return _Kind(env, EnvEvaluation(env, settings, model, seed, reward, pictures), env_summary, progress, lines)


def _trained(figures: dict[str, Any]) -> str:
    return f'trained on {figures["real_steps_trained"]} real control steps'


def _planned(figures: dict[str, Any]) -> str:
    return f'plan {figures["plan_ms_p50"]:.1f} ms median, {figures["plan_ms_p99"]:.1f} ms p99'
