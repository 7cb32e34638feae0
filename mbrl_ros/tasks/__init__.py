"""Tasks: what is wanted of the arm, as named reward terms with live weights, and when it is achieved. Pure."""

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots import RobotProfile
from mbrl_ros.tasks.grasp import GraspConfig, GraspTask, GraspWeights
from mbrl_ros.tasks.lift import LiftTask
from mbrl_ros.tasks.pick_place import PickPlaceTask
from mbrl_ros.tasks.push import PushConfig, PushTask, PushWeights
from mbrl_ros.tasks.reach import ReachConfig, ReachGoalConfig, ReachTask, ReachWeights
from mbrl_ros.tasks.space import ActionSpace, JointSpace, ToolSpace
from mbrl_ros.tasks.task import SuccessCounter, Task, WeightedTask

TASKS = {task.name: task.of_robot for task in (ReachTask, PushTask, LiftTask, PickPlaceTask)}


def make_task(name: str, robot: RobotProfile) -> Task:
    """Task of a name, for a robot, with its default settings.

    Raises:
        ConfigError: There is no such task; the text lists those there are.
    """
    if name not in TASKS:
        raise ConfigError(f'there is no task {name!r}; known: {", ".join(sorted(TASKS))}')
    return TASKS[name](robot)


__all__ = ['TASKS', 'ActionSpace', 'GraspConfig', 'GraspTask', 'GraspWeights', 'JointSpace', 'LiftTask',
           'PickPlaceTask', 'PushConfig', 'PushTask', 'PushWeights', 'ReachConfig', 'ReachGoalConfig', 'ReachTask',
           'ReachWeights', 'SuccessCounter', 'Task', 'ToolSpace', 'WeightedTask', 'make_task']
