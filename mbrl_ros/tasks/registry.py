"""The tasks by name, and the settings of their rewards."""

import dataclasses
import functools

from mbrl_ros.config import Config, section
from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.tasks.grasp import GraspConfig
from mbrl_ros.tasks.lift import LiftTask
from mbrl_ros.tasks.pick_place import PickPlaceTask
from mbrl_ros.tasks.push import PushConfig, PushTask
from mbrl_ros.tasks.reach import ReachConfig, ReachGoalConfig, ReachTask
from mbrl_ros.tasks.task import Task

TASKS = {task.name: task.of_robot for task in (ReachTask, PushTask, LiftTask, PickPlaceTask)}


@dataclasses.dataclass(frozen=True)
class RewardsConfig(Config):
    """The reward of each task, under its name."""

    reach: ReachConfig = section(ReachConfig, 'The reach task.')
    push: PushConfig = section(PushConfig, 'The push task.')
    lift: GraspConfig = section(GraspConfig, 'The lift task.')
    pick_place: GraspConfig = section(GraspConfig, 'The pick-and-place task.')


@functools.cache
def weights_config(task: str) -> type[Config]:
    """Class of settings with a section `weights`, for the weights of a task's reward; raises ConfigError as `make_task`."""
    _require_task(task)
    kind = type(getattr(RewardsConfig(), task).weights)
    weights = ('weights', kind, section(kind, 'Weights of the reward.'))
    return dataclasses.make_dataclass(f'{kind.__name__}Config', [weights], bases=(Config,), frozen=True)


def make_task(name: str, robot: RobotProfile, rewards: RewardsConfig | None = None, *,
              reach_goal: ReachGoalConfig | None = None, actions: str = 'twist') -> Task:
    """Make a task for a robot.

    Args:
        name: Key of `TASKS`.
        robot: Profile of the robot.
        rewards: Settings of the rewards; defaults without them.
        reach_goal: When the goal of the reach task is reached; defaults without it.
        actions: Actions of a task over the table, one of `ACTIONS`; the reach task always has joint velocities.

    Raises:
        ConfigError: There is no such task, or the robot lacks the gripper that the task needs.
    """
    _require_task(name)
    config = getattr(rewards or RewardsConfig(), name)
    return ReachTask.of_robot(robot, config, reach_goal) if name == ReachTask.name else TASKS[name](robot, config, actions)


def _require_task(name: str) -> None:
    if name not in TASKS:
        raise ConfigError(f'there is no task {name!r}; known: {", ".join(sorted(TASKS))}')
