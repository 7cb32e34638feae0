"""`experience_logger`: records all that learning needs into a bag that every ROS tool opens."""

import dataclasses
import importlib
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import ParameterEvent
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import JointState
from std_msgs.msg import String, UInt8MultiArray

from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import ConfigError, MeasurementError
from mbrl_ros.experience.bags.metadata import BagTopic
from mbrl_ros.experience.bags.recorder import ExperienceRecorder, RecorderConfig
from mbrl_ros.experience.bags.schemas import schema_text, type_hash
from mbrl_ros.robots.profile import load_driver
from mbrl_ros.ros import convert, diagnostics, params, qos, runtime, topics
from mbrl_ros.ros.parameter_collector import ParameterCollector
from mbrl_ros.ros.refusals import Refusals
from mbrl_ros.types import EpisodeReport

_CONFIGURATION = 'configuration'
_PARAMETER_EVENTS = '/parameter_events'
_STACK = ('arm_simulator', 'state_estimator', 'model_trainer', 'mpc_controller', 'command_guard', 'episode_manager',
          'scripted_demonstrator', 'keyboard_teleop')
_POLL_S = 1.0
_DEPTH = 1000


@dataclasses.dataclass(frozen=True)
class LoggerNodeConfig(Config):
    """Settings of the experience logger node."""

    driver: str = setting('simulated', 'Driver profile: a name in config/drivers or the path of a YAML file.')
    output_dir: str = setting('runs/latest', 'Folder of the run; the bag is its subfolder "bag".')
    record_model: bool = setting(True, 'Whether each version of the model is recorded.')
    extra_topics: tuple[str, ...] = setting((), 'More topics, each as "<name> <package>/msg/<Type>".')
    recorder: RecorderConfig = section(RecorderConfig, 'How the bag is written.')


@dataclasses.dataclass(frozen=True)
class _Source:
    """A topic to record: name, message class, QoS of its publishers, and longest message as for `qos.subscribe`."""

    name: str
    kind: type
    latched: bool = False
    reliable: bool = True
    max_bytes: int = 0


class ExperienceLoggerNode(Node):
    """Hands every message, still serialised, to the recorder.

    Raises:
        ConfigError: A parameter does not fit, or a topic would be recorded twice.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('experience_logger', **kwargs)
        self._config = params.declare_config(self, LoggerNodeConfig)
        sources = _sources(self._config)
        names = [self.resolve_topic_name(source.name) for source in sources]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f'experience_logger would record {name} twice; leave it out of extra_topics')
        self._configuration_topic = self.resolve_topic_name(_CONFIGURATION)
        bag_topics = [_bag_topic(name, source) for name, source in zip(names, sources)]
        bag_topics.append(_bag_topic(self._configuration_topic, _Source(_CONFIGURATION, String, latched=True)))
        own = self._config.to_mapping()
        self._recorder = ExperienceRecorder(Path(self._config.output_dir) / 'bag', self._config.recorder, bag_topics,
                                            {self.get_name(): own}, os.environ.get('ROS_DISTRO', 'kilted'))
        self._diagnostics, self._refusals = diagnostics.Diagnostics(self), Refusals(self)
        self._tell(self._recorder.start(time.monotonic()))
        for file in self._recorder.recovered:
            self.get_logger().warning(f'{file.path} was not closed; recovered {file.num_messages} messages ({file.tail})')
        if not self._recorder.error:
            self.get_logger().info(f'recording into {self._recorder.path}')
        self._collector = ParameterCollector(self, _STACK)
        self._stack_parameters = {self.get_name(): own}
        self._record_configuration()
        runtime.steady_timer(self, _POLL_S, self.on_poll)
        for name, source in zip(names, sources):
            qos.subscribe(self, source.kind, name, partial(self.on_message, name),
                          qos.profile(_DEPTH, reliable=source.reliable, latched=source.latched), raw=True,
                          max_bytes=source.max_bytes)
        self._episode_topic = self.resolve_topic_name(topics.EPISODE)

    def on_message(self, topic: str, data: bytes, info: dict) -> None:
        """Record one message unchanged."""
        self._record(topic, data, info['source_timestamp'])
        if topic == self._episode_topic:
            self._on_episode(data)

    def on_poll(self) -> None:
        """Update the diagnostics, and record the other nodes' parameters once they have answered."""
        if len(self._collector.found) > len(self._stack_parameters) - 1:
            self._stack_parameters.update(self._collector.found)
            self._record_configuration()
        self._collector.poll()
        recorder = self._recorder
        level = diagnostics.ERROR if recorder.error else diagnostics.OK
        self._diagnostics.update('recording', level, recorder.error or 'recording', path=recorder.path,
                                 messages=recorder.num_messages, lost=recorder.num_lost)

    def close(self) -> None:
        """Finish the bag."""
        text = self._recorder.close()
        if text:
            self.get_logger().error(text)
        else:
            self.get_logger().info(f'recorded {self._recorder.num_messages} messages into {self._recorder.path}')

    def _on_episode(self, data: bytes) -> None:
        try:
            report = convert.report_from_msg(convert.message_from_bytes(data, DiagnosticArray), EpisodeReport)
        except MeasurementError as error:
            self._refusals.tell(topics.EPISODE, error)
            return
        self._tell(self._recorder.on_phase(report.phase.is_episode, time.monotonic()))

    def _record_configuration(self) -> None:
        message = String(data=json.dumps(self._stack_parameters, sort_keys=True))
        self._record(self._configuration_topic, serialize_message(message), time.time_ns())

    def _record(self, topic: str, data: bytes, publish_time_ns: int) -> None:
        log_time_ns = self.get_clock().now().nanoseconds
        self._tell(self._recorder.record(topic, data, log_time_ns, max(publish_time_ns, 0), time.monotonic()))

    def _tell(self, text: str) -> None:
        if text and self._recorder.error:
            self.get_logger().error(text)
        elif text:
            self.get_logger().info(text)


def _sources(config: LoggerNodeConfig) -> list[_Source]:
    driver = load_driver(config.driver)
    # A driver's publishers may be best effort; a best-effort subscription hears reliable publishers too.
    sources = [_Source(name, JointState, reliable=False) for name in driver.joint_state_topics]
    if driver.object_pose_topic:
        sources.append(_Source(driver.object_pose_topic, PoseStamped, reliable=False))
    sources += [
        _Source(topics.STATE, JointState),
        _Source(topics.COMMAND, JointState),
        _Source(topics.APPLIED_COMMAND, JointState),
        _Source(topics.GUARD_STATUS, DiagnosticArray, latched=True),
        _Source(topics.DEMONSTRATED_ACTION, JointState, latched=True),
        _Source(topics.GOAL, PoseStamped, latched=True),
        _Source(topics.EPISODE, DiagnosticArray, latched=True),
        _Source(topics.TRAINING, DiagnosticArray, latched=True),
        _Source(topics.CONTROLLER_STATUS, DiagnosticArray),
        _Source(topics.ROBOT_DESCRIPTION, String, latched=True),
        _Source(_PARAMETER_EVENTS, ParameterEvent),
    ]
    if config.record_model:
        sources.append(_Source(topics.MODEL, UInt8MultiArray, latched=True))
    return sources + [_extra_source(text) for text in config.extra_topics]


def _extra_source(text: str) -> _Source:
    name, _, message_type = text.partition(' ')
    package, _, kind = message_type.strip().partition('/msg/')
    try:
        validate_topic_name(name)
        return _Source(name, getattr(importlib.import_module(f'{package}.msg'), kind), reliable=False,
                       max_bytes=qos.ANY_LENGTH)
    except (InvalidTopicNameException, ImportError, AttributeError, TypeError, ValueError):
        raise ConfigError(f'extra_topics needs "<name> <package>/msg/<Type>" of an installed type, got {text!r}') from None


def _bag_topic(name: str, source: _Source) -> BagTopic:
    package, _, _ = source.kind.__module__.partition('.')
    message_type = f'{package}/msg/{source.kind.__name__}'
    return BagTopic(name, message_type, schema_text(message_type), type_hash(message_type), source.latched)
