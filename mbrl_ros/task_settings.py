"""How a task is learned and played: the settings of `config/tasks`, one file a task, and beside them the agent's.

They stand here and not with a component because they are those of several; the loop without ROS and the nodes read the same file.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from mbrl_ros.agents.settings import RunConfig
from mbrl_ros.config import section, setting
from mbrl_ros.control.safety.guard import GuardConfig
from mbrl_ros.control.tick import ControllerConfig
from mbrl_ros.resources import config_file
from mbrl_ros.spaces.joint_tool import ACTIONS
from mbrl_ros.tasks import RewardsConfig


@dataclasses.dataclass(frozen=True)
class TaskLoopConfig(RunConfig):
    """How a task is learned and played; `config/tasks` has one file a task."""

    control_rate_hz: float = setting(20.0, 'Rate of control steps.', unit='Hz', low=1.0, high=240.0)
    max_episode_steps: int = setting(100, 'Control steps after which an episode ends.', low=1)
    demonstrations: int = setting(0, 'First episodes, played by the scripted expert.', low=0)
    demonstration_noise: float = setting(0.1, 'Standard deviation of the noise on its actions.', low=0.0, high=1.0)
    actions: str = setting('twist', "What an action is in a task over the table, besides the opening: the tool's twist, or the "
                                    'velocities of the joints.', choices=ACTIONS)
    explorations: int = setting(0, 'Episodes of random motion after those.', low=0)
    rewards: RewardsConfig = section(RewardsConfig, 'What is wanted, for each task; the one that is played has its own.')
    control: ControllerConfig = section(ControllerConfig, 'When and how the arm moves.')
    guard: GuardConfig = section(GuardConfig, 'What the command guard lets through.')

    @classmethod
    def of_task(cls, task: str, path: Path | None = None, changes: Sequence[str] = (), agent: str | None = None) -> Self:
        """Read the settings of a task and of an agent for it.

        Args:
            task: Name of the task.
            path: Of a file to read instead of `config/tasks/<task>.yaml`.
            changes: Of single settings, such as `planner.horizon=9`.
            agent: Name of the agent; that in the file, or the usual one, when left out.

        Raises:
            ConfigError: No such file or agent, or a key or value that does not fit.
        """
        return cls.read('tasks', task, config_file('tasks', str(path or task)), changes, agent)

    def for_controller(self) -> dict[str, Any]:
        """What the controller node takes of it, as nested parameters."""
        return {'rate_hz': self.control_rate_hz, 'control': self.control.to_mapping(), **self.rewards.to_mapping(),
                **self.agent_config.acting().to_mapping()}

    def for_trainer(self) -> dict[str, Any]:
        """What the trainer node takes of it, likewise."""
        return {'control_rate_hz': self.control_rate_hz, 'learner': self.agent_config.learner.to_mapping()}

    def for_manager(self) -> dict[str, Any]:
        """What the episode manager node takes of it, likewise. Nobody demonstrates there."""
        return {'episodes': {'control_rate_hz': self.control_rate_hz, 'max_episode_steps': self.max_episode_steps,
                             'exploration_episodes': self.explorations}}
