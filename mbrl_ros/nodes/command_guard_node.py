"""`command_guard`: the only node that commands the arm's driver; filters, fills, watches, and stops.

It runs without torch and waits for nobody, so that neither planning nor learning nor a large message makes it late.
"""

import dataclasses
import gc
import math
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from mbrl_ros.config import Config, load_yaml, section, setting
from mbrl_ros.control.safety.guard import CommandGuard, GuardConfig
from mbrl_ros.control.safety.hold import EmergencyStop
from mbrl_ros.control.safety.measured import MeasuredJoints
from mbrl_ros.control.safety.reasons import IDLE, HoldReason
from mbrl_ros.errors import ConfigError, MeasurementError
from mbrl_ros.resources import config_file
from mbrl_ros.robots.profile import load_driver, load_robot
from mbrl_ros.ros import convert, diagnostics, memory, params, priority, qos, runtime, topics
from mbrl_ros.ros.driver_port import DriverPort
from mbrl_ros.ros.guard_inbox import GuardInbox
from mbrl_ros.ros.guard_thread import GuardReport, GuardThread
from mbrl_ros.ros.loop_figures import LoopFigures
from mbrl_ros.ros.refusals import Refusals
from mbrl_ros.ros.stop_socket import Answer, StopSocket

#: Longest time between two statuses while the guard ticks.
_HEARTBEAT_S = 0.1
#: Control periods, and seconds, that have to lie between the identified response and the profile's latency, and for how many
#: seconds, until the guard says so.
_OFF_PERIODS, _OFF_S, _OFF_SECONDS = 0.5, 0.02, 3


@dataclasses.dataclass(frozen=True)
class CommandGuardConfig(Config):
    """Settings of the command guard node."""

    robot: str = setting('panda', 'Robot profile: a name in config/robots or the path of a YAML file.')
    driver: str = setting('simulated', 'Driver profile: a name in config/drivers or the path of a YAML file.')
    rate_hz: float = setting(120.0, "Rate of the driver's commands.", unit='Hz', low=20.0, high=1000.0)
    control_rate_hz: float = setting(20.0, "Rate of the controller's commands.", unit='Hz', low=1.0, high=500.0)
    task: str = setting('', 'Task whose settings have the defaults of that rate and of the guard; empty for none.')
    lockstep: bool = setting(False, "Whether commands follow the simulator's clock.")
    realtime_priority: int = setting(50, priority.DESCRIPTION, low=0, high=99)
    output_dir: str = setting('', 'Folder that keeps a pressed emergency stop over a restart; empty keeps none.')
    gripper_opening_m: float = setting(-1.0, 'Opening commanded at the start; negative leaves the gripper alone.', unit='m',
                                       low=-1.0, high=1.0)
    guard: GuardConfig = section(GuardConfig, 'What the guard lets through.')

    def check(self) -> None:
        """Raise ConfigError when the rates do not fit each other in lockstep."""
        ratio = self.rate_hz / self.control_rate_hz
        if self.lockstep and abs(ratio - round(ratio)) > 1e-6:
            raise ConfigError(f'CommandGuardConfig.rate_hz needs a multiple of control_rate_hz {self.control_rate_hz:g} Hz in '
                              f'lockstep, got {self.rate_hz:g}')


class CommandGuardNode(Node):
    """Wires topics to a `CommandGuard` that ticks in a thread of its own.

    Raises:
        ConfigError: A parameter does not fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('command_guard', **kwargs)
        self._config = config = params.declare_config(self, CommandGuardConfig, {'task': _of_task},
                                                      blank={'control_rate_hz': 0.0})
        self._robot, driver = load_robot(config.robot), load_driver(config.driver)
        self._stop = EmergencyStop(Path(config.output_dir) / 'emergency_stop' if config.output_dir else None)
        period_s, control_period_s = 1.0 / config.rate_hz, 1.0 / config.control_rate_hz
        self._guard = CommandGuard(self._robot, config.guard, period_s=period_s, control_period_s=control_period_s,
                                   latency_s=driver.command_latency_s, late_s=driver.command_timeout_s,
                                   lockstep=config.lockstep, emergency_stop=self._stop)
        self._measured = MeasuredJoints(self._robot)
        self._inbox = GuardInbox(round(period_s * 1e9), round(control_period_s * 1e9), round(driver.command_latency_s * 1e9))
        self._port = DriverPort(self, self._robot, driver, period_s, self._guard.hold_s - period_s)
        self._figures, self._latest, self._last_hold = LoopFigures(), None, None
        self._status_s = 0.0
        self._short_step: tuple[int, int] | None = None
        self._latency_s, self._off_seconds = driver.command_latency_s, 0
        self._is_gripper_told = config.gripper_opening_m < 0.0
        self.exit_code: int | None = None
        self._applied_pub = qos.advertise(self, JointState, topics.APPLIED_COMMAND, qos.LATCHED_RECORD)
        self._status_pub = qos.advertise(self, DiagnosticArray, topics.GUARD_STATUS, qos.LATCHED)
        self._diagnostics, self._refusals = diagnostics.Diagnostics(self, self._robot.name), Refusals(self)
        self.create_service(Trigger, '~/stop', self.on_stop)
        self.create_service(Trigger, '~/release', self.on_release)
        params.watch_live(self, config, lambda new: self._guard.configure(new.guard))
        self._subscribe(driver.joint_state_topics)
        runtime.steady_timer(self, 1.0, self.on_second)
        self.get_logger().info(f'configuration: {config.to_mapping()}')
        if self._stop.is_pressed:
            self.get_logger().error('the emergency stop is still pressed; ~/release lets the arm move')
        if not config.lockstep:
            priority.request_priority(self, config.realtime_priority)
        memory.keep_freed_memory()
        # What lives this long need not be looked at by every later collection, which would pause the loop.
        gc.collect()
        gc.freeze()
        self._thread = GuardThread(self._guard, self._inbox, self._port, self.get_clock(), period_s=period_s,
                                   lockstep=config.lockstep, on_tick=self._on_tick, on_fault=self._on_fault)
        self._thread.start()
        self._socket = self._listen()

    def close(self) -> None:
        """Leave the arm stopped; called while publishers still work."""
        self._thread.stop()
        if self._socket is not None:
            self._socket.close()
        gc.unfreeze()

    def _subscribe(self, joint_state_topics: tuple[str, ...]) -> None:
        profile = qos.RECORD if self._config.lockstep else qos.SENSOR
        for topic in joint_state_topics:
            qos.subscribe(self, JointState, topic, partial(self.on_joints, topic), profile)
        qos.subscribe(self, JointState, topics.COMMAND, self.on_command, qos.COMMAND)
        qos.subscribe(self, Bool, topics.EMERGENCY_STOP, self.on_stop_topic, qos.LATCHED)
        if self._config.lockstep:
            qos.subscribe(self, Clock, '/clock', self.on_clock, qos.DRIVER)

    # Inputs, in the executor's thread.

    def on_joints(self, topic: str, message: JointState) -> None:
        """Keep the newest joint state that has all joints of the arm."""
        try:
            state = self._measured.state(convert.stamp_from_msg(message.header.stamp), message.name, message.position,
                                         message.velocity)
        except MeasurementError as error:
            self._refusals.tell(topic, error)
            return
        if state is not None:
            self._inbox.put_state(state)

    def on_command(self, message: JointState) -> None:
        """Keep the controller's newest command."""
        try:
            self._inbox.put_command(convert.applied_from_msg(message).ordered(self._robot.joints))
        except MeasurementError as error:
            self._refusals.tell(topics.COMMAND, error)

    def on_clock(self, message: Clock) -> None:
        """Take the simulator's time."""
        self._inbox.put_clock(convert.stamp_from_msg(message.clock))

    def on_stop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Latch the emergency stop."""
        response.success, response.message = self._press('~/stop')
        return response

    def on_stop_topic(self, message: Bool) -> None:
        """Latch the emergency stop; false changes nothing, as only a release lifts it."""
        if message.data:
            self._press(topics.EMERGENCY_STOP)

    def on_release(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Release the emergency stop."""
        response.success, response.message = self._release()
        return response

    # The stop itself, in the executor's thread or in that of the socket.

    def _press(self, by: str) -> Answer:
        text = 'the arm is stopped until ~/release'
        try:
            self._stop.press()
        except OSError as error:
            text += f', or until a restart of the command guard, as {error.filename} cannot be written ({error.strerror})'
        self.get_logger().error(f'emergency stop pressed by {by}: {text}')
        return True, text

    def _release(self) -> Answer:
        was_pressed = self._stop.is_pressed
        try:
            self._stop.release()
        except OSError as error:
            return False, f'still pressed: {error.filename}: {error.strerror}'
        return True, 'released' if was_pressed else 'it was not pressed'

    def _listen(self) -> StopSocket | None:
        """Hear `mbrl-ros stop` and `mbrl-ros release`; a system without such sockets has the services."""
        try:
            return StopSocket(self.context.get_domain_id(), self.get_namespace(), lambda: self._press('mbrl-ros stop'),
                              self._release)
        except OSError as error:
            self.get_logger().warning(f'mbrl-ros stop has to use the service, which is slower ({error})')
            return None

    # Outputs, in the guard's thread.

    def _on_tick(self, tick: GuardReport) -> None:
        outcome, self._latest = tick.outcome, tick
        if outcome.applied is not None:
            gripper = self._robot.gripper.name if self._robot.gripper else ''
            self._applied_pub.publish(convert.applied_to_msg(outcome.applied, self._robot.base_link, gripper))
        self._figures.add(latency_ms=1e3 * tick.latency_s, state_age_ms=1e3 * tick.state_age_s)
        now_s = time.monotonic()
        if tick.is_answer or outcome.hold is not self._last_hold or now_s - self._status_s >= _HEARTBEAT_S:
            self._status_s = now_s
            self._status_pub.publish(self._status(tick))
        self._note_hold(outcome.hold, outcome.detail)

    def _status(self, tick: GuardReport) -> DiagnosticArray:
        outcome = tick.outcome
        values = {'hold': outcome.hold.value if outcome.hold else '', 'detail': outcome.detail,
                  'clamped': ' '.join(outcome.clamped), 'latency_ms': 1e3 * tick.latency_s,
                  'state_age_ms': 1e3 * tick.state_age_s, 'response_ms': 1e3 * self._guard.response_s, 'skipped': tick.skipped}
        return convert.status_to_msg(tick.stamp_ns, f'{self.get_name()}: Tick', values, level=_level(outcome.hold),
                                     message=outcome.hold.explanation if outcome.hold else 'moving', hardware_id=self._robot.name)

    def _note_hold(self, hold: HoldReason | None, detail: str) -> None:
        if hold is self._last_hold:
            return
        self._last_hold = hold
        if hold in (None, *IDLE):
            self.get_logger().debug('moving' if hold is None else f'holding ({hold.value}): {hold.explanation}')
        else:
            note = f' ({detail})' if detail else ''
            self.get_logger().warning(f'holding ({hold.value}): {hold.explanation}{note} {hold.way_back}')

    def _on_fault(self, error: Exception) -> None:
        lines = ''.join(traceback.format_exception(error))
        self.get_logger().fatal(f'the guard thread broke; the arm was stopped\n{lines}')
        self.exit_code = 1

    def on_second(self) -> None:
        """Say how the guard is doing; tell the gripper its first opening once it listens."""
        if not self._is_gripper_told and self._port.has_gripper and not self._stop.is_pressed:
            self._is_gripper_told = True
            self._port.send_gripper(self._config.gripper_opening_m)
        self._compare_response()
        last, self._short_step = self._short_step, self._inbox.short_step()
        if self._short_step is not None and self._short_step == last:
            sent_ns, now_ns = last
            self._refusals.tell('/clock', f'time stands {(now_ns - sent_ns) * 1e-6:.1f} ms after a command, which is for '
                                          f'{1e3 / self._config.rate_hz:.1f} ms; give the simulator command_rate_hz: '
                                          f'{self._config.rate_hz:g}')
        tick = self._latest
        if tick is None:
            self._diagnostics.update('Command Guard', diagnostics.WARN, 'no tick yet')
            return
        hold = tick.outcome.hold
        self._diagnostics.update(
            'Command Guard', _level(hold), hold.explanation if hold else 'moving', rate_hz=self._config.rate_hz,
            latency_ms_p50=self._figures.percentile('latency_ms', 50), latency_ms_p99=self._figures.percentile('latency_ms', 99),
            state_age_ms=self._figures.percentile('state_age_ms', 50), response_ms=1e3 * self._guard.response_s,
            skipped=tick.skipped)

    def _compare_response(self) -> None:
        """Say once that the arm obeys later, or sooner, than the profile says, so that plans begin from another state."""
        response_s = self._guard.response_s
        is_off = abs(response_s - self._latency_s) > max(_OFF_PERIODS / self._config.control_rate_hz, _OFF_S)
        self._off_seconds = self._off_seconds + 1 if is_off else min(self._off_seconds, 0)
        if self._off_seconds == _OFF_SECONDS:
            self._off_seconds = -math.inf
            self.get_logger().warning(
                f'the arm obeys {1e3 * response_s:.0f} ms after a command, and plans count on {1e3 * self._latency_s:.0f} ms; '
                f'command_latency_s: {response_s:.3f} in the driver profile would make them fit')


def _of_task(task: str) -> dict[str, Any]:
    """What the settings of a task say of the guard; all of them cannot be had without torch."""
    settings = load_yaml(config_file('tasks', task)) if task else {}
    return {key: settings[key] for key in ('control_rate_hz', 'guard') if key in settings}


def _level(hold: HoldReason | None) -> bytes:
    if hold in (None, *IDLE):
        return diagnostics.OK
    return diagnostics.ERROR if hold is HoldReason.EMERGENCY_STOP else diagnostics.WARN
