"""Evaluation by the nodes: simulator and stack are launched in lockstep and play with a model that does not learn.

Outcomes are read from the scores afterwards, and planning times from the recording.
"""

import asyncio
import contextlib
import dataclasses
import io
import os
import signal
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mbrl_ros.errors import ConfigError, LaunchError
from mbrl_ros.experience.bags.reader import read_messages
from mbrl_ros.experience.replay import report_of
from mbrl_ros.launching import description
from mbrl_ros.launching.console import Console
from mbrl_ros.launching.description import ProcessSpec
from mbrl_ros.launching.domain import OwnDomain
from mbrl_ros.launching.executables import ros_environment
from mbrl_ros.launching.supervisor import Supervisor
from mbrl_ros.resources import model_file
from mbrl_ros.runs.evaluation import Outcome
from mbrl_ros.runs.scores import HELD, EpisodeScore, load_scores
from mbrl_ros.runs.task_evaluation import Evaluation
from mbrl_ros.types import Phase

_POLL_S = 0.5
_EPISODE, _STATUS = '/episode', '/controller_status'


def play_live(evaluation: Evaluation, episodes: int, out: Path | None = None,
              on_outcome: Callable[[Outcome], None] = lambda _: None) -> list[Outcome]:
    """Launch simulator and stack in a ROS domain of their own, wait for the last episode, and return the outcomes in order.

    The settings of the evaluation have to be those of `config/tasks`. Recording, scores and log go into `out`, by default a
    temporary folder. `on_outcome` gets each outcome as it comes, without planning times. A node that ends early is not
    restarted, because motion of the arm in the meantime would say nothing about the model.

    Raises:
        ConfigError: The name of the model does not end in `.safetensors`.
        LaunchError: The stack ended early, or an episode was not planned with the model.
        KeyboardInterrupt: Ctrl-C ended the launch.
        SystemExit: SIGTERM ended the launch.
    """
    domain = OwnDomain()
    # No arm outside this machine may hear the commands of an evaluation.
    environment = ros_environment({**os.environ, 'ROS_DOMAIN_ID': str(domain.number),
                                   'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'})
    try:
        with tempfile.TemporaryDirectory(prefix='mbrl_ros_evaluate_') as scratch:
            folder = out or Path(scratch)
            scores = run(processes(evaluation, episodes, folder, environment), environment, folder, episodes, on_outcome)
            return _outcomes(scores, _plan_times_ms(folder / 'bag'))
    finally:
        domain.release()


def processes(evaluation: Evaluation, episodes: int, folder: Path, environment: Mapping[str, str]) -> list[ProcessSpec]:
    """Processes of an evaluation, which leave recording and scores in `folder`; if one of them ends, all end.

    `environment` is as for `description.resolve`.

    Raises:
        ConfigError: The name of the model does not end in `.safetensors`.
    """
    given = {'model': str(model_file(str(evaluation.model)).resolve()), 'learning': 'false', 'explorations': '0',
             'agent': evaluation.config.agent, 'robot': evaluation.robot, 'seed': str(evaluation.seed), 'episodes': str(episodes),
             'output_dir': str(folder.resolve())}
    if evaluation.task == 'reach':
        name = 'demo.launch.yaml'
    else:
        name, given = 'demo_grasp.launch.yaml', {**given, 'task': evaluation.task, 'video_path': ''}
    specs = description.resolve(description.find_file(name), given, environment, folder)
    return [dataclasses.replace(spec, required=True, respawn=False) for spec in specs]


def run(specs: Sequence[ProcessSpec], environment: Mapping[str, str], folder: Path, episodes: int,
        on_outcome: Callable[[Outcome], None]) -> list[EpisodeScore]:
    """Run processes that play `episodes`, until they end; scores and log go into `folder`.

    Raises:
        LaunchError, KeyboardInterrupt, SystemExit: As for `play_live`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, screen = folder / 'scores.csv', io.StringIO()
    with contextlib.closing(Console(folder / 'launch.log', screen, colour=False)) as console:
        code = asyncio.run(_supervise(Supervisor(specs, environment, console), path, on_outcome))
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code == 128 + signal.SIGTERM:
        raise SystemExit(code)
    scores = load_scores(path) if path.exists() else []
    _require_whole(scores, episodes, screen.getvalue().splitlines())
    return scores


async def _supervise(supervisor: Supervisor, path: Path, on_outcome: Callable[[Outcome], None]) -> int:
    """Wait for the end of all processes and pass on each outcome once its score is written; returns the exit code."""
    running, told = asyncio.create_task(supervisor.run()), 0
    while not running.done():
        await asyncio.wait([running], timeout=_POLL_S)
        with contextlib.suppress(ConfigError):  # The file does not exist yet, or is being written.
            outcomes = _outcomes(load_scores(path), {})[told:]
            told += len(outcomes)
            for outcome in outcomes:
                on_outcome(outcome)
    return running.result()


def _require_whole(scores: Sequence[EpisodeScore], episodes: int, lines: Sequence[str]) -> None:
    if len(scores) < episodes:
        reasons = [line for line in lines if '] error: ' in line] or [line for line in lines if '[ERROR]' in line]
        raise LaunchError(f'the stack ended after {len(scores)} of {episodes} episodes: '
                          f'{reasons[0] if reasons else "it does not say why"} (--out keeps its log)')
    for score in scores:
        if score.phase == HELD:
            raise LaunchError(f'episode {score.episode} was not planned: the arm was held all the time (--out keeps the log)')
        if score.phase != Phase.RUNNING.value:
            raise LaunchError(f'episode {score.episode} was {score.phase}, not planned: the model did not come in time')


def _outcomes(scores: Sequence[EpisodeScore], plan_ms: Mapping[int, Sequence[float]]) -> list[Outcome]:
    steps = np.diff([0, *(score.total_steps for score in scores)])
    return [Outcome(bool(score.success), int(num), score.distance_m, score.episode_return, tuple(plan_ms.get(score.episode, ())))
            for score, num in zip(scores, steps)]


def _plan_times_ms(bag: Path) -> dict[int, list[float]]:
    """Time of each recorded plan, by episode."""
    episode, found = 0, defaultdict(list)
    for message in read_messages(bag, (_EPISODE, _STATUS)):
        if message.topic.name == _EPISODE:
            episode = report_of(message).episode
            continue
        plan_ms = next((float(entry.value) for entry in message.decoded().status[0].values if entry.key == 'plan_ms'), np.nan)
        if np.isfinite(plan_ms):
            found[episode].append(plan_ms)
    return found
