"""`state_estimator`: filters joint states and object poses into one stamped state at a fixed rate."""

import dataclasses
import functools
import time
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState

from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import ConfigError, MeasurementError
from mbrl_ros.estimation.config import EstimatorConfig
from mbrl_ros.estimation.estimator import Estimate, StateEstimator, Status
from mbrl_ros.estimation.grid import LockstepSchedule
from mbrl_ros.estimation.measurements import BodyMeasurement, JointMeasurement
from mbrl_ros.robots.profile import load_driver, load_robot
from mbrl_ros.ros import convert, diagnostics, params, priority, qos, runtime, topics

_POLL_S = 0.05
_REPORT_S = 0.5
_SILENCE_S = 1.5
_REPEAT_S = 10.0
_STANDING_S = 0.5
#: In lockstep the measurements of a whole period may arrive before the best-effort `/clock`.
_LOCKSTEP_FUTURE_LIMIT_S = 1.0
_LEVELS = {Status.TRACKING: diagnostics.OK, Status.COASTING: diagnostics.WARN, Status.WAITING: diagnostics.WARN,
           Status.LOST: diagnostics.ERROR}


@dataclasses.dataclass(frozen=True)
class EstimatorNodeConfig(Config):
    """Settings of the state estimator node."""

    robot: str = setting('panda', 'Robot profile: a name in config/robots or the path of a YAML file.')
    driver: str = setting('simulated', 'Driver profile: a name in config/drivers or the path of a YAML file.')
    rate_hz: float = setting(100.0, 'Rate of the state.', unit='Hz', low=1.0, high=1000.0)
    lockstep: bool = setting(False, 'Whether the stamps of the measurements, rather than a clock, say when a state is due.')
    lockstep_patience_s: float = setting(2.0, 'Longest wait for a measurement in lockstep, wall time.', unit='s', low=0.0)
    realtime_priority: int = setting(40, priority.DESCRIPTION, low=0, high=99)
    track_object: bool = setting(True, 'Whether the pose of the driver profile\'s object is part of the state.')
    estimator: EstimatorConfig = section(EstimatorConfig, 'How measurements are filtered.')


class StateEstimatorNode(Node):
    """Feeds the estimator, and publishes its state as long as the estimate is reliable.

    Raises:
        ConfigError: A parameter does not fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('state_estimator', **kwargs)
        self._config = config = params.declare_config(self, EstimatorNodeConfig)
        simulated, lockstep = self.get_parameter('use_sim_time').value, config.lockstep
        if lockstep and not simulated:
            raise ConfigError('state_estimator: lockstep needs use_sim_time: true')
        self._robot = load_robot(config.robot)
        driver = load_driver(config.driver)
        self._body = driver.object_name if config.track_object and driver.object_pose_topic else None
        settings = config.estimator
        if lockstep:
            settings = dataclasses.replace(settings, future_limit_s=max(settings.future_limit_s, _LOCKSTEP_FUTURE_LIMIT_S))
        self._estimator = StateEstimator(self._robot, [self._body] if self._body else [], settings, in_order=lockstep)
        self._estimate: Estimate | None = None
        self._newest_msg: JointState | None = None
        self._sent_s = 0.0
        self._num_published = 0
        self._start_s = self._report_s = time.monotonic()
        self._refusal_told_s: dict[tuple[str, str], float] = {}
        input_qos = qos.RECORD if lockstep else qos.SENSOR
        self._diagnostics = diagnostics.Diagnostics(self, self._robot.name)
        self._state_pub = qos.advertise(self, JointState, topics.STATE, qos.RECORD if lockstep else qos.STATE)
        self._heard_s: dict[str, float | None] = {}
        for topic in driver.joint_state_topics:
            self._listen(JointState, topic, self.on_joints, input_qos)
        if self._body:
            self._listen(PoseStamped, driver.object_pose_topic, self.on_pose, input_qos)
        self._schedule = LockstepSchedule(round(1e9 / config.rate_hz), config.lockstep_patience_s)
        if lockstep:
            runtime.steady_timer(self, _POLL_S, self.on_poll)
        elif simulated:
            self.create_timer(1.0 / config.rate_hz, self.on_tick)
        else:
            runtime.steady_timer(self, 1.0 / config.rate_hz, self.on_tick)
        runtime.steady_timer(self, _REPORT_S, self.on_report)
        if not lockstep:
            priority.request_priority(self, config.realtime_priority)
        self.get_logger().info(f'configuration: {config.to_mapping()}')

    def on_joints(self, topic: str, message: JointState) -> None:
        """Take in a joint state message."""
        stamp_ns = convert.stamp_from_msg(message.header.stamp)
        measurement = JointMeasurement(stamp_ns, message.name, message.position, message.velocity)
        self._take(topic, self._estimator.on_joints, measurement)

    def on_pose(self, topic: str, message: PoseStamped) -> None:
        """Take in a pose of the tracked object."""
        place, turn = message.pose.position, message.pose.orientation
        measurement = BodyMeasurement(convert.stamp_from_msg(message.header.stamp), self._body, (place.x, place.y, place.z),
                                      (turn.x, turn.y, turn.z, turn.w), message.header.frame_id)
        self._take(topic, self._estimator.on_body, measurement)

    def on_tick(self) -> None:
        """Publish the state for the present time."""
        self._publish(self._now_ns())

    def on_poll(self) -> None:
        """In lockstep, publish the states that are due; while time stands, repeat the newest for late subscribers."""
        for stamp_ns in self._schedule.due(self._estimator.received_ns, self._now_ns(), time.monotonic()):
            self._publish(stamp_ns)
        if self._newest_msg and time.monotonic() - self._sent_s > _STANDING_S:
            self._send(self._newest_msg)

    def on_report(self) -> None:
        """Update the diagnostics, and log notices of the estimator and what it lacks."""
        for notice in self._estimator.take_notices():
            self.get_logger().info(notice)
        now_s = time.monotonic()
        rate_hz = self._num_published / (now_s - self._report_s)
        self._num_published, self._report_s = 0, now_s
        estimate = self._estimate
        status = estimate.status if estimate else Status.WAITING
        reason = estimate.reason if estimate else ''
        if needs := self._needs(now_s):
            reason = needs
            self.get_logger().warning(needs, throttle_duration_sec=_REPEAT_S)
        level = max(_LEVELS[status], diagnostics.WARN if reason else diagnostics.OK)
        self._diagnostics.update('State', level, f'{status.value}: {reason}' if reason else status.value,
                                 status=status.value, rate_hz=rate_hz, age_s=estimate.age_s if estimate else float('inf'),
                                 held=' '.join(estimate.held) if estimate else '', **self._estimator.counts)

    def _listen(self, kind: type, topic: str, callback: Any, profile: Any) -> None:
        name = self.resolve_topic_name(topic)
        self._heard_s[name] = None
        qos.subscribe(self, kind, topic, functools.partial(callback, name), profile)

    def _take(self, topic: str, take: Any, measurement: JointMeasurement | BodyMeasurement) -> None:
        self._heard_s[topic] = time.monotonic()
        # In simulated time, before the first `/clock`, the measurement's own stamp stands for the time.
        now_ns = self._now_ns() or measurement.stamp_ns
        try:
            take(measurement, now_ns)
        except MeasurementError as error:
            self._tell_refusal(topic, error)
        if self._config.lockstep:
            self.on_poll()

    def _publish(self, stamp_ns: int) -> None:
        before, self._estimate = self._estimate, self._estimator.estimate(stamp_ns)
        estimate = self._estimate
        if estimate.state is not None:
            self._send(convert.state_to_msg(estimate.state, self._robot.base_link))
            self._num_published += 1
        if before and before.status is not estimate.status:
            self._tell_change(before.status, estimate)
        if estimate.held and estimate.held != (before.held if before else ()):
            self.get_logger().warning(f'{", ".join(estimate.held)} out of sight, held at rest')

    def _send(self, message: JointState) -> None:
        self._newest_msg, self._sent_s = message, time.monotonic()
        self._state_pub.publish(message)

    def _tell_change(self, before: Status, estimate: Estimate) -> None:
        if estimate.status is Status.LOST:
            self.get_logger().error(f'{topics.STATE} is no longer published: {estimate.reason}')
        elif before in (Status.LOST, Status.WAITING) and estimate.state is not None:
            self.get_logger().info(f'{topics.STATE} is published')

    def _tell_refusal(self, topic: str, error: MeasurementError) -> None:
        """Log a refusal, for each topic and kind of refusal at most once in `_REPEAT_S`."""
        key, now_s = (topic, getattr(error, 'reason', '')), time.monotonic()
        if now_s - self._refusal_told_s.get(key, -_REPEAT_S) >= _REPEAT_S:
            self._refusal_told_s[key] = now_s
            self.get_logger().warning(f'{topic}: {error}')

    def _needs(self, now_s: float) -> str:
        """What estimation lacks, in words; empty if nothing is missing, or if it is too early to tell.

        In lockstep a topic that was heard once may be silent for long, while time stands.
        """
        if now_s - self._start_s < _SILENCE_S:
            return ''
        silent = [topic for topic, heard_s in self._heard_s.items()
                  if heard_s is None or (not self._config.lockstep and now_s - heard_s > _SILENCE_S)]
        if silent:
            return f'no message on {", ".join(silent)}; waiting'
        if missing := self._estimator.missing:
            return f'no usable measurement yet of {", ".join(missing)}; waiting'
        return ''

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds
