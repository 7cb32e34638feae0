"""`keyboard_teleop`: a person demonstrates a task over the table with the keys of this node's own terminal."""

import contextlib
import dataclasses
import time
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rich.live import Live
from sensor_msgs.msg import JointState

from mbrl_ros.agents.experts.demonstrator import DEMONSTRATED
from mbrl_ros.agents.experts.panel import draw
from mbrl_ros.agents.experts.pilot import KeyboardPilot, PilotConfig
from mbrl_ros.agents.experts.terminal import KeyTerminal
from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import MeasurementError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, params, qos, runtime, topics
from mbrl_ros.ros.refusals import Refusals
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.types import DemonstratedAction, EpisodeReport, Phase


@dataclasses.dataclass(frozen=True)
class KeyboardTeleopConfig(Config):
    """Settings of the keyboard teleoperation."""

    robot: str = setting('panda', 'Robot profile: a name in config/robots or the path of a YAML file.')
    task: str = setting('lift', 'Task to demonstrate.', choices=tuple(DEMONSTRATED))
    rate_hz: float = setting(10.0, "Rate of keys and actions, by default that of the task's control steps; in lockstep the pace.",
                             unit='Hz', low=1.0, high=200.0)
    keys: PilotConfig = section(PilotConfig, 'What keys do.')


class KeyboardTeleopNode(Node):
    """Turns keys into demonstrated actions, and shows the state of the episode in the terminal.

    During a demonstrated episode an action goes out at every tick, even without a key: time must go on, for example while the
    arm holds a body. Each action has the stamp of the episode manager's newest report.

    Raises:
        ConfigError: A parameter does not fit, or the process has no terminal.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('keyboard_teleop', **kwargs)
        self._config = params.declare_config(
            self, KeyboardTeleopConfig, {'task': lambda task: {'rate_hz': TaskLoopConfig.of_task(task).control_rate_hz}})
        terminal = KeyTerminal('keyboard_teleop')
        torch.set_num_threads(1)
        self._names = make_task(self._config.task, load_robot(self._config.robot)).action_names
        self._pilot = KeyboardPilot(self._config.keys)
        self._report: EpisodeReport | None = None
        self._hold = ''
        self._refusals = Refusals(self)
        self._action_pub = qos.advertise(self, JointState, topics.DEMONSTRATED_ACTION, qos.LATCHED)
        qos.subscribe(self, DiagnosticArray, topics.EPISODE, self.on_report, qos.LATCHED)
        qos.subscribe(self, DiagnosticArray, topics.CONTROLLER_STATUS, self.on_controller_status, qos.STATE)
        runtime.steady_timer(self, 1.0 / self._config.rate_hz, self.on_timer)
        with contextlib.ExitStack() as opened:
            self._terminal = opened.enter_context(terminal)
            self._live = opened.enter_context(Live(auto_refresh=False))
            self._opened = opened.pop_all()

    def on_report(self, message: DiagnosticArray) -> None:
        """Keep the newest report of the episode manager; an episode begins with an open gripper."""
        try:
            report = convert.report_from_msg(message, EpisodeReport)
        except MeasurementError as error:
            self._refusals.tell(topics.EPISODE, error)
            return
        if self._report is None or report.start_ns != self._report.start_ns:
            self._pilot.reset()
        self._report = report

    def on_controller_status(self, message: DiagnosticArray) -> None:
        """Note whether the arm is held."""
        self._hold = convert.status_values(message).get('hold', '')

    def on_timer(self) -> None:
        """Read the keys, publish their action, and draw the panel."""
        now_s = time.monotonic()
        for key in self._terminal.read():
            self._pilot.press(key, now_s)
        if self._report is not None and self._report.phase is Phase.DEMONSTRATED:
            shown = DemonstratedAction(self._report.stamp_ns, self._names, self._pilot.action(now_s))
            self._action_pub.publish(convert.demonstrated_to_msg(shown))
        self._live.update(draw(self._pilot, now_s, self._report, self._hold, self._config.task), refresh=True)

    def close(self) -> None:
        """Restore the terminal."""
        self._opened.close()
