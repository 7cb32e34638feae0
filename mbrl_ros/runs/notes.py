"""What a learning run tells its user beside scores: lines on what surprises, on what goes wrong, and on what to do about it."""

import math
from collections.abc import Sequence

import numpy as np

from mbrl_ros.errors import PlanningError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.runs.playing import Episode, Runner
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.types import Tag, TrainingReport

#: Episodes in a row without any plan after which a run ends.
_HOPELESS = 3


class Notes:
    """Finds what there is to tell of a run; an equal warning of two rounds of training is told once."""

    def __init__(self, loop: Runner) -> None:
        self._loop, self._warnings = loop, set()

    def before(self, made: int, asked: int) -> tuple[str, ...]:
        """What to tell before a run goes on from `made` real control steps to at least `asked`."""
        left, longest = asked - made, self._loop.max_episode_steps
        if not 0 < left < longest:
            return ()
        told = f'{left} asked for' if made == 0 else f'{left} that are left of the {asked} asked for'
        return (f'an episode of {self._loop.name} has up to {longest} steps, so that the run may make more than the {told}',)

    def after(self, index: int, episode: Episode, rows: Transitions, reports: Sequence[TrainingReport], *,
              is_last_random: bool) -> tuple[str, ...]:
        """What to tell after an episode.

        Args:
            index: Index of the episode.
            episode: The episode.
            rows: All transitions of the run.
            reports: Rounds of training since the episode before.
            is_last_random: Whether no later episode has to be random.
        """
        warnings = dict.fromkeys(warning for report in reports for warning in report.warnings)
        new = [warning for warning in warnings if warning not in self._warnings]
        self._warnings.update(new)
        of_reward = _of_reward(rows) if is_last_random and self._loop.needs_rewards else ()
        return (*_of_plans(index, episode), *of_reward, *new)


def require_plans(scores: Sequence[EpisodeScore], newest: Episode) -> None:
    """Check that at least one of the last three episodes had a plan; `newest` is the last of them.

    Raises:
        PlanningError: Planning failed in all their steps.
    """
    last = scores[-_HOPELESS:]
    if len(last) == _HOPELESS and all(score.failed_plans and math.isnan(score.plan_ms_p50) for score in last):
        raise PlanningError(f'the last {_HOPELESS} episodes had no plan, so the run ends here: {newest.failures[-1]}')


def _of_reward(rows: Transitions) -> tuple[str, ...]:
    """Tell a reward that never varied, unless episodes were ended for good: then ends can be learned, and avoided or sought."""
    num_random, num_shown = (int((rows.tags & tag != 0).sum()) for tag in (Tag.EXPLORED, Tag.DEMONSTRATED))
    if num_random == 0 or len(np.unique(rows.reward)) != 1 or rows.terminated.any():
        return ()
    steps, show = (f'{num_random} random steps', 'demonstrate') if num_shown == 0 else (
        f'{num_shown} demonstrated and {num_random} random steps', 'demonstrate steps with another one')
    return (f"the reward was {rows.reward[0]:g} in all {steps}, so there's nothing to learn it from: give one with --reward "
            f'module:function, {show} with --demos, or explore longer (explorations in the settings)',)


def _of_plans(index: int, episode: Episode) -> tuple[str, ...]:
    failed, planned = len(episode.failures), len(episode.plan_s)
    if failed <= planned:
        return ()
    if planned == 0:
        return (f'episode {index} had no plan: {episode.failures[-1]}; after {_HOPELESS} such episodes in a row the run ends',)
    return (f'episode {index} had no plan in {failed} of {failed + planned} steps: {episode.failures[-1]}',)
