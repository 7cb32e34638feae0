"""`scripted_demonstrator`: a scripted expert demonstrates a task over the table."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState

from mbrl_ros.agents.experts.demonstrator import DEMONSTRATED, Demonstrator
from mbrl_ros.agents.experts.scripted import ScriptedEpisodes
from mbrl_ros.config import Config, setting
from mbrl_ros.errors import MbrlError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, params, qos, topics
from mbrl_ros.ros.refusals import Refusals
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.types import DemonstratedAction, EpisodeReport


@dataclasses.dataclass(frozen=True)
class ScriptedDemonstratorConfig(Config):
    """Settings of the scripted demonstrator."""

    robot: str = setting('panda', 'Robot profile: a name in config/robots or the path of a YAML file.')
    task: str = setting('lift', 'Task to demonstrate.', choices=tuple(DEMONSTRATED))
    noise_std: float = setting(0.1, 'Standard deviation of noise on the actions, for data off the path.', low=0.0, high=1.0)
    seed: int = setting(0, 'Seed of that noise.', low=0)


class ScriptedDemonstratorNode(Node):
    """Carries states and reports to the expert, and its actions to the controller.

    Raises:
        ConfigError: A parameter does not fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('scripted_demonstrator', **kwargs)
        config = params.declare_config(self, ScriptedDemonstratorConfig)
        torch.set_num_threads(1)
        self._episodes = ScriptedEpisodes(make_task(config.task, load_robot(config.robot)),
                                          Demonstrator(config.task, noise_std=config.noise_std, seed=config.seed))
        self._refusals = Refusals(self)
        self._action_pub = qos.advertise(self, JointState, topics.DEMONSTRATED_ACTION, qos.LATCHED)
        qos.subscribe(self, JointState, topics.STATE, self.on_state, qos.STATE)
        qos.subscribe(self, DiagnosticArray, topics.EPISODE, self.on_report, qos.LATCHED)
        self.get_logger().info(f'configuration: {config.to_mapping()}')

    def on_state(self, message: JointState) -> None:
        """Give a state to the expert."""
        self._show(topics.STATE, lambda: self._episodes.on_state(convert.state_from_msg(message)))

    def on_report(self, message: DiagnosticArray) -> None:
        """Give a report of the episode manager to the expert."""
        self._show(topics.EPISODE, lambda: self._episodes.on_report(convert.report_from_msg(message, EpisodeReport)))

    def _show(self, topic: str, take: Callable[[], DemonstratedAction | None]) -> None:
        try:
            shown = take()
        except MbrlError as error:
            self._refusals.tell(topic, error)
            return
        if shown is not None:
            self._action_pub.publish(convert.demonstrated_to_msg(shown))
