"""Settings of a task, one file per task in `config/tasks`, together with its agent's settings.

They concern several components, so they have a module of their own. The loop without ROS and the nodes read the same file.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbrl_ros.agents.settings import RunConfig
from mbrl_ros.config import section, setting
from mbrl_ros.control.safety.guard import GuardConfig
from mbrl_ros.control.tick import ControllerConfig
from mbrl_ros.resources import config_file
from mbrl_ros.spaces.joint_tool import ACTIONS
from mbrl_ros.tasks.registry import RewardsConfig

if TYPE_CHECKING:
    from typing import Self  # Python 3.10 has none.


@dataclasses.dataclass(frozen=True)
class TaskLoopConfig(RunConfig):
    """How a task is learned and played; `config/tasks` has one file a task."""

    control_rate_hz: float = setting(20.0, 'Rate of control steps.', unit='Hz', low=1.0, high=240.0)
    max_episode_steps: int = setting(100, 'Control steps after which an episode ends.', low=1)
    demonstrations: int = setting(0, 'Number of first episodes that the scripted expert plays.', low=0)
    demonstration_noise: float = setting(0.1, "Standard deviation of the noise on the expert's actions.", low=0.0, high=1.0)
    actions: str = setting('twist', "Actions of a task over the table besides the opening: the tool's twist or joint velocities.",
                           choices=ACTIONS)
    explorations: int = setting(0, 'Number of episodes of random motion after the demonstrations.', low=0)
    rewards: RewardsConfig = section(RewardsConfig, 'Rewards by task; a run uses those of its own task.')
    control: ControllerConfig = section(ControllerConfig, 'When and how the arm moves.')
    guard: GuardConfig = section(GuardConfig, 'What the command guard lets through.')

    @classmethod
    def of_task(cls, task: str, path: Path | None = None, changes: Sequence[str] = (), agent: str | None = None) -> 'Self':
        """Read the settings of a task and of an agent for it.

        Args:
            task: Name of the task.
            path: File to read instead of `config/tasks/<task>.yaml`.
            changes: As for `RunConfig.read`.
            agent: As for `RunConfig.read`.

        Raises:
            ConfigError: There is no such file or agent, or a key or value does not fit.
        """
        return cls.read('tasks', (task,), config_file('tasks', str(path or task)), changes, agent)

    def for_controller(self) -> dict[str, Any]:
        """Parameters of the controller node, nested."""
        return {'rate_hz': self.control_rate_hz, 'control': self.control.to_mapping(), **self.agent_config.acting().to_mapping()}

    def for_trainer(self) -> dict[str, Any]:
        """Parameters of the trainer node, nested."""
        return {'control_rate_hz': self.control_rate_hz, 'learner': self.agent_config.learner.to_mapping()}

    def for_manager(self, task: str) -> dict[str, Any]:
        """Parameters of the episode manager node, which owns the weights of its task; `demonstrations` is not among them."""
        return {'weights': getattr(self.rewards, task).weights.to_mapping(),
                'episodes': {'control_rate_hz': self.control_rate_hz, 'max_episode_steps': self.max_episode_steps,
                             'exploration_episodes': self.explorations}}
