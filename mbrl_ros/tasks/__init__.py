"""Tasks: what is wanted of the arm, as named reward terms with live weights, and when it is achieved. Pure."""

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots import RobotProfile
from mbrl_ros.tasks.reach import ReachConfig, ReachGoalConfig, ReachTask, ReachWeights
from mbrl_ros.tasks.task import SuccessCounter, Task

TASKS = {'reach': ReachTask.of_robot}


def make_task(name: str, robot: RobotProfile) -> Task:
    """Task of a name, for a robot, with its default settings.

    Raises:
        ConfigError: There is no such task; the text lists those there are.
    """
    if name not in TASKS:
        raise ConfigError(f'there is no task {name!r}; known: {", ".join(sorted(TASKS))}')
    return TASKS[name](robot)


__all__ = ['TASKS', 'ReachConfig', 'ReachGoalConfig', 'ReachTask', 'ReachWeights', 'SuccessCounter', 'Task', 'make_task']
