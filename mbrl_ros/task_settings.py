"""How a task is learned and played: the settings of `config/tasks`, one file a task.

They stand here and not with a component because they are those of several; the loop without ROS and the nodes read the same file.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mbrl_ros.config import Config, section, setting
from mbrl_ros.control.tick import ControllerConfig
from mbrl_ros.planning import PlannerConfig
from mbrl_ros.resources import config_file
from mbrl_ros.spaces.joint_tool import ACTIONS
from mbrl_ros.tasks import RewardsConfig
from mbrl_ros.training.continual import ContinualConfig


@dataclasses.dataclass(frozen=True)
class TaskLoopConfig(Config):
    """How a task is learned and played; `config/tasks` has one file a task."""

    control_rate_hz: float = setting(20.0, 'Rate of control steps.', unit='Hz', low=1.0, high=240.0)
    max_episode_steps: int = setting(100, 'Control steps after which an episode ends.', low=1)
    demonstrations: int = setting(0, 'First episodes, played by the scripted expert.', low=0)
    demonstration_noise: float = setting(0.1, 'Standard deviation of the noise on its actions.', low=0.0, high=1.0)
    actions: str = setting('twist', "What an action is in a task over the table, besides the opening: the tool's twist, or the "
                                    'velocities of the joints.', choices=ACTIONS)
    explorations: int = setting(0, 'Episodes of random motion after those.', low=0)
    rewards: RewardsConfig = section(RewardsConfig, 'What is wanted, for each task; the one that is played has its own.')
    planner: PlannerConfig = section(PlannerConfig, 'The planner.')
    control: ControllerConfig = section(ControllerConfig, 'When and how the arm moves.')
    learner: ContinualConfig = section(ContinualConfig, 'How to train and which model to keep.')

    @classmethod
    def of_task(cls, task: str, changes: Sequence[str] = ()) -> 'TaskLoopConfig':
        """Read `config/tasks/<task>.yaml`, or the YAML file that `task` is a path to.

        Args:
            task: Name or path.
            changes: Of single settings, such as `planner.horizon=9`.

        Raises:
            ConfigError: No such file, or a key or value that does not fit.
        """
        return cls.from_file(config_file('tasks', task), changes)

    def for_controller(self) -> dict[str, Any]:
        """What the controller node takes of it, as nested parameters."""
        return {'rate_hz': self.control_rate_hz, 'control': self.control.to_mapping(), 'planner': self.planner.to_mapping(),
                **self.rewards.to_mapping()}

    def for_trainer(self) -> dict[str, Any]:
        """What the trainer node takes of it, likewise."""
        return {'control_rate_hz': self.control_rate_hz, 'learner': self.learner.to_mapping()}

    def for_manager(self) -> dict[str, Any]:
        """What the episode manager node takes of it, likewise. Nobody demonstrates there."""
        return {'episodes': {'control_rate_hz': self.control_rate_hz, 'max_episode_steps': self.max_episode_steps,
                             'exploration_episodes': self.explorations}}
