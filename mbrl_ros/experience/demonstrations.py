"""Demonstrated episodes, for a learning run to begin with, and how those of tasks are read from bags; without ROS."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.errors import BagError, MeasurementError
from mbrl_ros.experience.assembler import AssemblerConfig, TransitionAssembler
from mbrl_ros.experience.bags.reader import BagReader
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.experience.replay import replay, report_of
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import EpisodeReport, Phase, Tag, Transition

if TYPE_CHECKING:
    from mbrl_ros.spaces.space import ActionSpace

_EPISODE, _CONFIGURATION = 'episode', 'configuration'
#: Largest relative difference between the recorded time of a control step and the control period.
_RATE_TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True)
class DemonstratedEpisode:
    """One demonstrated episode.

    Attributes:
        source: Path of the recording, or whatever else names where the episode is from.
        steps: Control steps of the episode.
        success: Whether the goal was reached and held; None if that is not known.
        distance_m: Distance from the goal at the end; NaN without a goal.
        episode_return: Sum of rewards.
        transitions: Control steps with complete data, at least one and at most `steps`.
    """

    source: str
    steps: int
    success: bool | None
    distance_m: float
    episode_return: float
    transitions: Transitions


def load_demonstrations(paths: Iterable[str | Path], robot: RobotProfile, task: str, space: 'ActionSpace', period_s: float, *,
                        config: AssemblerConfig | None = None,
                        on_damage: Callable[[str], None] | None = None) -> list[DemonstratedEpisode]:
    """Every demonstrated episode of some bags, in their order; arguments as for `load_transitions`, with the demonstrated task.

    Raises:
        BagError: A bag cannot be read, lacks a topic, is of other joints, another task or another control rate, or holds no
            demonstrated episode with complete control steps.
    """
    episodes: list[DemonstratedEpisode] = []
    for path in paths:
        episodes += _episodes_of(Path(path), TransitionAssembler(robot, space, period_s, config), task, period_s, on_damage)
    return episodes


def _episodes_of(path: Path, assembler: TransitionAssembler, task: str, period_s: float,
                 on_damage: Callable[[str], None] | None) -> list[DemonstratedEpisode]:
    transitions = replay(path, assembler, on_damage=on_damage)
    reports, recorded_task = _reports_and_task(path)
    if recorded_task not in ('', task):
        raise BagError(f'{path}: was recorded for the task {recorded_task!r}, not for {task!r}')
    chapters = _chapters(reports)
    if not chapters:
        phases = sorted({report.phase.value for report in reports if report.phase.is_episode})
        raise BagError(f'{path}: holds no demonstrated episode; its episodes are {", ".join(phases) or "none"}')
    _check_rate(path, chapters, period_s)
    found = [chapter.episode_of(str(path), part) for chapter, part in zip(chapters, _parts(chapters, transitions)) if part]
    if not found:
        reasons = ', '.join(f'{reason} ({count})' for reason, count in assembler.dropped.most_common(3))
        raise BagError(f'{path}: nothing of its {len(chapters)} demonstrated episodes can be learned from: '
                       + (reasons or 'no commands'))
    return found


@dataclasses.dataclass(frozen=True)
class _Chapter:
    """A demonstrated episode in the episode manager's reports.

    Attributes:
        stamps_ns: Stamps of the reports with the phase `demonstrated`, oldest first.
        last: The report that ended the episode; if the recording ends earlier, the last report.
    """

    stamps_ns: list[int]
    last: EpisodeReport

    def holds(self, transition: Transition) -> bool:
        """Whether a control step belongs to the episode."""
        is_open = self.last.phase is Phase.DEMONSTRATED
        return (transition.episode == self.last.episode and self.stamps_ns[0] <= transition.stamp_ns
                and (is_open or transition.stamp_ns < self.last.stamp_ns))

    def episode_of(self, source: str, transitions: list[Transition]) -> DemonstratedEpisode:
        """The episode, with these control steps."""
        last = self.last
        return DemonstratedEpisode(source, max(last.step, len(transitions)), last.success, last.distance_m,
                                   last.episode_return, Transitions.gathered(transitions))


def _reports_and_task(path: Path) -> tuple[list[EpisodeReport], str]:
    """Readable episode reports, and the task in the controller's recorded parameters; '' if there is none."""
    reader, reports, task = BagReader(path), [], ''
    for message in reader.messages():
        role = message.topic.name.rpartition('/')[2]
        try:
            if role == _EPISODE:
                reports.append(report_of(message))
            elif role == _CONFIGURATION:
                task = str(json.loads(message.decoded().data).get('mpc_controller', {}).get('task', '')) or task
        except (BagError, MeasurementError, ValueError, AttributeError):
            continue  # As in a replay, malformed messages are skipped.
    if not reports:
        names = ', '.join(sorted(reader.topics)) or 'nothing'
        raise BagError(f'{path}: holds no word of an episode manager on {_EPISODE}; its topics are {names}')
    return reports, task


def _chapters(reports: list[EpisodeReport]) -> list[_Chapter]:
    chapters: list[_Chapter] = []
    before: EpisodeReport | None = None
    for report in reports:
        goes_on = before is not None and before.phase is Phase.DEMONSTRATED and report.episode == before.episode
        if report.phase is Phase.DEMONSTRATED and goes_on and report.start_ns == before.start_ns:
            chapters[-1] = _Chapter([*chapters[-1].stamps_ns, report.stamp_ns], report)
        elif report.phase is Phase.DEMONSTRATED:
            chapters.append(_Chapter([report.stamp_ns], report))
        elif goes_on:
            chapters[-1] = _Chapter(chapters[-1].stamps_ns, report)
        before = report
    return chapters


def _check_rate(path: Path, chapters: list[_Chapter], period_s: float) -> None:
    between_s = np.concatenate([np.diff(chapter.stamps_ns) for chapter in chapters]) * 1e-9
    recorded_s = float(np.median(between_s)) if len(between_s) else period_s
    if abs(recorded_s - period_s) > _RATE_TOLERANCE * period_s:
        raise BagError(f'{path}: was recorded with a control step each {recorded_s:.3g} s, here it is {period_s:.3g} s')


def _parts(chapters: list[_Chapter], transitions: list[Transition]) -> list[list[Transition]]:
    """Transitions of each chapter that somebody showed; both lists are in the order of recording."""
    parts: list[list[Transition]] = [[] for _ in chapters]
    first = 0
    for transition in transitions:
        if Tag.HELD in transition.tags:
            continue
        place = next((index for index in range(first, len(chapters)) if chapters[index].holds(transition)), None)
        if place is not None:
            first = place
            parts[place].append(transition)
    return parts
