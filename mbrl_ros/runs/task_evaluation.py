"""How well a learned model does in a task; `evaluation.evaluate` plays the episodes."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.runs.evaluation import Outcome, common_figures, wilson_interval
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.runs.world import WorldMaker
from mbrl_ros.task_settings import TaskLoopConfig


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Evaluation of a model in a task; implements `evaluation.AnyEvaluation`.

    Attributes:
        task: Name of the task.
        config: Settings of task and agent.
        model: File of the model.
        make_world: Makes the world that the task is played in.
        seed: Seed of cubes, goals and plans.
        robot: Robot profile.
        object_kind: Object on the table, as for `TaskLoop`; models are learned with cubes.
        live: Whether the nodes play the episodes, instead of one process.
    """

    task: str
    config: TaskLoopConfig
    model: Path
    make_world: WorldMaker
    seed: int = 0
    robot: str = 'panda'
    object_kind: str = 'cube'
    live: bool = False

    def loop(self) -> TaskLoop:
        """The runner that plays the episodes.

        Raises:
            ConfigError: As for `TaskLoop`.
        """
        return TaskLoop(self.task, self.config.evaluated(), self.make_world, self.robot, self.object_kind)

    def summary(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Figures over all episodes, with the Wilson interval of the success rate."""
        successes = sum(outcome.success for outcome in outcomes)
        reached = [outcome.steps for outcome in outcomes if outcome.success]
        return {
            'task': self.task, 'episodes': len(outcomes), 'success_rate': successes / len(outcomes),
            'ci95': list(wilson_interval(successes, len(outcomes))),
            'mean_return': float(np.mean([outcome.episode_return for outcome in outcomes])),
            'median_steps_to_success': float(np.median(reached)) if reached else float('nan'),
            'median_distance_m': float(np.median([outcome.distance_m for outcome in outcomes])),
            **common_figures(self, outcomes), 'robot': self.robot, 'object': self.object_kind, 'live': self.live,
        }

    def in_words(self, figures: Mapping[str, Any]) -> list[str]:
        """See `AnyEvaluation.in_words`."""
        low, high = (100 * bound for bound in figures['ci95'])
        what = self.task + ('' if self.object_kind == 'cube' else f' with a {self.object_kind}')
        return [f'{what}{", live" if self.live else ""}: {100 * figures["success_rate"]:.0f} % of {figures["episodes"]} '
                f'episodes succeeded (95 % interval {low:.1f} to {high:.1f} %)',
                f'median steps to success {figures["median_steps_to_success"]:.0f}; mean return {figures["mean_return"]:.1f}']
