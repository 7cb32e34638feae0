"""`arm_simulator`: the simulated arm with a driver's command interface, in real time or in lockstep.

In real time a thread steps the physics by the steady clock and stamps measurements by the node's clock, like a driver. In
lockstep the node owns `/clock`: each arm command steps one period of `command_rate_hz`, then time stands until the next command.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.config import setting
from mbrl_ros.errors import ConfigError, GoalError
from mbrl_ros.robots.profile import load_driver, load_robot
from mbrl_ros.ros import convert, diagnostics, params, priority, qos, runtime, topics
from mbrl_ros.ros.refusals import Refusals
from mbrl_ros.types import RobotState
from mbrl_ros.video import EpisodeVideo, require_video
from mbrl_sim import wire
from mbrl_sim.command_interfaces import TrajectoryCommand
from mbrl_sim.engines import engine_defaults, make_world
from mbrl_sim.faults import FaultConfig, JointSample, PoseSample
from mbrl_sim.pacing import Pacer
from mbrl_sim.scene import tabletop_config
from mbrl_sim.simulated_driver import NANOSECONDS, DriverConfig, Measurement, SimulatedDriver

#: Time from the start or a reset until measurements count as those of the new world; the estimator settles in it.
_FRESH_S = 0.25
#: In lockstep a world begins at a multiple of this time, in which control periods and the estimator's end, and the clock need not
#: come more often while joint states tell the time as well.
_GRID_NS = 50_000_000
_REPEAT_S = 0.1
#: After this long without a command, a node may have restarted and missed the last measurement.
_SILENCE_S = 1.0


@dataclasses.dataclass(frozen=True)
class ArmSimulatorConfig(DriverConfig):
    """Settings of the node."""

    robot: str = setting('panda', 'Robot profile: a name in config/robots or the path of a YAML file.')
    driver: str = setting('simulated', 'Driver profile: a name in config/drivers or the path of a YAML file.')
    lockstep: bool = setting(False, 'Publish /clock and step one period for each arm command.')
    command_rate_hz: float = setting(120.0, 'Rate of arm commands; in lockstep each lasts one period.', unit='Hz', low=1.0,
                                     high=1000.0)
    realtime_priority: int = setting(40, priority.DESCRIPTION, low=0, high=99)
    tabletop: bool = setting(False, 'Whether the world has the defaults of tasks over the table: another cube at each reset.')
    video_path: str = setting('', 'GIF or MP4 of the first episodes; only in lockstep, because drawing would delay an arm in '
                                  'real time.')
    video_episodes: int = setting(3, 'Number of episodes in the video; each reset begins one.', low=1)
    seed: int = setting(0, 'Seed of cube and faults; setting it restarts both from it at the next reset.', low=0, live=True)

    def check(self) -> None:
        """Raise `ConfigError` when the rates do not fit, or a video is wanted and cannot be made."""
        super().check()
        steps = self.steps_per_command
        if self.lockstep and abs(steps - round(steps)) > 1e-6:
            raise ConfigError(f'ArmSimulatorConfig.command_rate_hz needs a divisor of the {self.world.physics_hz} Hz of '
                              f'physics, got {self.command_rate_hz}')
        if self.video_path and self.simulator == 'mujoco':
            raise ConfigError('ArmSimulatorConfig.video_path needs the simulator pybullet; mujoco draws no pictures')
        if self.video_path:
            require_video(Path(self.video_path))

    @property
    def steps_per_command(self) -> float:
        """Physics steps in the period of one command."""
        return self.world.physics_hz / self.command_rate_hz


class ArmSimulatorNode(Node):
    """Carries messages between ROS and a `SimulatedDriver`, and steps the driver.

    Raises:
        ConfigError: A parameter does not fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('arm_simulator', **kwargs)
        following = {'tabletop': _world_of, 'simulator': engine_defaults}
        self._config = params.declare_config(self, ArmSimulatorConfig, following)
        if self.get_parameter('use_sim_time').value and not self._config.lockstep:
            raise ConfigError('arm_simulator: use_sim_time needs lockstep: true; in real time it would publish no /clock')
        self._robot, self._refusals = load_robot(self._config.robot), Refusals(self)
        self._profile = load_driver(self._config.driver)
        joints = self._profile.joint_order(self._robot)
        self._command_order = [joints.index(joint) for joint in self._robot.joints]
        world = make_world(self._robot, self._config, self._config.seed)
        self._driver = SimulatedDriver(world, self._config, self._config.seed, self._profile.command_type)
        self._driver.set_faults(self._faults(self._config))
        self._video = EpisodeVideo(
            self._driver.world.render, Path(self._config.video_path), 1.0 / self._config.command_rate_hz,
            self._config.video_episodes) if self._config.video_path and self._config.lockstep else None
        self._lock = threading.Lock()
        self._pending_seed: int | None = None
        self._refusal = ''
        self.exit_code: int | None = None
        self._make_publishers()
        self._make_subscriptions()
        self.create_service(Trigger, '~/reset', self.on_reset)
        if self._profile.command_type == 'trajectory':
            controller = self._profile.command_topic.rpartition('/')[0]
            self.create_service(GetParameters, f'{controller}/get_parameters', self.on_controller_parameters)
        params.watch_live(self, self._config, self.on_config)
        self.add_on_set_parameters_callback(self.check_parameters)
        self.add_post_set_parameters_callback(self.on_parameters)
        #: In lockstep, when the clock came last, and the newest time that was told.
        self._clock_ns = self._told_ns = -1
        self._diagnostics = diagnostics.Diagnostics(self, self._robot.name)
        runtime.steady_timer(self, 1.0, self.on_diagnostics)
        if not self._config.lockstep:
            priority.request_priority(self, self._config.realtime_priority)
        self._start_lockstep() if self._config.lockstep else self._start_realtime()

    def close(self) -> None:
        """Stop stepping and disconnect from the physics server."""
        if self._thread:
            self._stop.set()
            self._thread.join()
        self._film(EpisodeVideo.end)
        self._driver.close()

    def on_command(self, message: Float64MultiArray | JointTrajectory) -> None:
        """Take an arm command; in lockstep, step one period of it, even if the command is refused."""
        if self._config.lockstep:
            self._take_gripper_commands()
        with self._lock:
            self._note_refusal(self._driver.command(self._command_from_msg(message)))
            if self._config.lockstep:
                self._first_command_seen = True
                self._advance(round(self._config.steps_per_command))
                self._film(EpisodeVideo.on_step)

    def on_gripper(self, message: Float64MultiArray) -> None:
        """Take a gripper command."""
        with self._lock:
            self._note_refusal(self._driver.command_gripper(message.data))

    def on_goal(self, message: PoseStamped) -> None:
        """Show a goal in the window and in the video."""
        try:
            point, _ = convert.goal_from_msg(message, self._robot.base_link)
        except GoalError as error:
            self._refusals.tell(topics.GOAL, error)
            return
        with self._lock:
            self._driver.world.show_goal(point)

    def on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Reset the world; the reply's message is the stamp, ns, from which on measurements are of the new world."""
        with self._lock:
            self._driver.reset(self._pending_seed)
            self._pending_seed = None
            self._film(EpisodeVideo.begin)
            if self._config.lockstep:
                self._advance(round(_FRESH_S * self._config.world.physics_hz))
                self._advance_to_grid()
            fresh_ns = self._now_ns()
            if not self._config.lockstep:
                fresh_ns += round(_FRESH_S * NANOSECONDS)
            response.success, response.message = True, str(fresh_ns)
        return response

    def on_controller_parameters(self, request: GetParameters.Request,
                                 response: GetParameters.Response) -> GetParameters.Response:
        """Answer for the joint_trajectory_controller; its parameters have the same names in this node."""
        response.values = [self.get_parameter_or(name).get_parameter_value() for name in request.names]
        return response

    def on_config(self, config: ArmSimulatorConfig) -> None:
        """Use other live settings."""
        with self._lock:
            self._driver.set_faults(self._faults(config))
            self._driver.set_world(config.world)

    def check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse a joint to be stuck that the arm does not have."""
        known = ('', *self._robot.joints)
        for parameter in parameters:
            if parameter.name == 'faults.stuck_joint' and parameter.value not in known:
                return SetParametersResult(successful=False, reason=f'faults.stuck_joint needs one of {", ".join(known[1:])}')
        return SetParametersResult(successful=True)

    def on_parameters(self, parameters: list[Parameter]) -> None:
        """Remember a seed that was set, even one equal to the seed before."""
        with self._lock:
            for parameter in parameters:
                if parameter.name == 'seed':
                    self._pending_seed = parameter.value

    def on_diagnostics(self) -> None:
        """Report who commands, what was refused, and whether the physics keeps up."""
        commanders = self.get_publishers_info_by_topic(self._command_sub.topic_name)
        names = ', '.join(sorted(info.node_name for info in commanders)) or 'nobody'
        if len(commanders) > 1:
            text = f'{len(commanders)} publishers on {self._command_sub.topic_name} ({names}); the arm needs one'
            self.get_logger().warning(text, throttle_duration_sec=10.0)
        else:
            text = self._refusal or ('holding' if self._driver.holding else 'moving')
        level = diagnostics.WARN if len(commanders) > 1 or self._refusal else diagnostics.OK
        self._diagnostics.update('commands', level, text, publishers=names)
        self._refusal = ''
        if self._thread:
            skipped = self._pacer.num_skipped
            level, text = ((diagnostics.WARN, 'too slow for real time') if skipped > self._reported_skips
                           else (diagnostics.OK, 'on time'))
            self._diagnostics.update('physics', level, text, skipped_steps=skipped)
            self._reported_skips = skipped

    def on_repeat(self) -> None:
        """While time stands, repeat the last measurements for late subscribers."""
        silent = time.monotonic() - self._last_advance_s > _SILENCE_S
        if silent or not self._first_command_seen:
            self._publish_clock()
            for publisher, message in self._newest.values():
                publisher.publish(message)

    def _film(self, do: Callable[[EpisodeVideo], None]) -> None:
        """Do something with the video, if there is one; an error, for example of a full disk, is logged."""
        if self._video is None:
            return
        try:
            do(self._video)
        except OSError as error:
            self.get_logger().error(f'{self._video.path}: cannot be written ({error.strerror})')

    def _faults(self, config: ArmSimulatorConfig) -> FaultConfig:
        """The faults; a driver with several topics of joint states publishes the gripper apart from the arm."""
        apart = config.faults.separate_gripper or len(self._profile.joint_state_topics) > 1
        return dataclasses.replace(config.faults, separate_gripper=apart)

    def _command_from_msg(self, message: Float64MultiArray | JointTrajectory) -> Sequence[float] | TrajectoryCommand:
        if self._profile.command_type == 'trajectory':
            return wire.trajectory_from_msg(message, self._now_ns(), self._driver.now_s)
        if len(message.data) != len(self._command_order):
            return message.data
        return [message.data[index] for index in self._command_order]

    def _take_gripper_commands(self) -> None:
        """Take the waiting gripper commands, because the executor may call `on_command` before `on_gripper`."""
        while self._gripper_sub is not None:
            with self._gripper_sub.handle:
                taken = self._gripper_sub.handle.take_message(self._gripper_sub.msg_type, self._gripper_sub.raw)
            if taken is None:
                return
            self._gripper_sub.callback(taken[0])

    def _make_publishers(self) -> None:
        # In lockstep the messages of a period leave in one burst, and none may be lost.
        profile = qos.RECORD if self._config.lockstep else qos.DRIVER
        self._joint_pubs = [qos.advertise(self, JointState, topic, profile) for topic in self._profile.joint_state_topics]
        self._pose_pub = qos.advertise(self, PoseStamped, self._profile.object_pose_topic or 'object_pose', profile)
        self._truth_pub = qos.advertise(self, JointState, '~/ground_truth', profile) \
            if self._config.publish_ground_truth else None
        self._clock_pub = qos.advertise(self, Clock, '/clock', qos.DRIVER) if self._config.lockstep else None
        self._description_pub = qos.advertise(self, String, topics.ROBOT_DESCRIPTION, qos.LATCHED)
        self._description_pub.publish(String(data=Path(self._robot.urdf_path).read_text(encoding='utf-8')))

    def _make_subscriptions(self) -> None:
        kind = JointTrajectory if self._profile.command_type == 'trajectory' else Float64MultiArray
        self._command_sub = qos.subscribe(self, kind, self._profile.command_topic, self.on_command, qos.DRIVER)
        self._gripper_sub = qos.subscribe(self, Float64MultiArray, self._profile.gripper_topic, self.on_gripper, qos.DRIVER) \
            if self._profile.gripper_topic else None
        if self._config.world.gui or self._video:
            qos.subscribe(self, PoseStamped, topics.GOAL, self.on_goal, qos.LATCHED)

    def _start_lockstep(self) -> None:
        self._thread = None
        self._first_command_seen = False
        self._newest: dict[Any, tuple[Any, Any]] = {}
        # These first measurements are not published, because an estimator that received only some of them would start
        # differently in each run. `on_repeat` publishes the newest until the first command.
        self._advance(round(_FRESH_S * self._config.world.physics_hz), publish=False)
        runtime.steady_timer(self, _REPEAT_S, self.on_repeat)

    def _start_realtime(self) -> None:
        self._stop = threading.Event()
        self._reported_skips = 0
        self._pacer = Pacer(self._config.world.physics_hz, time.monotonic())
        self._thread = threading.Thread(target=self._run_realtime, name='physics', daemon=True)
        self._thread.start()

    def _run_realtime(self) -> None:
        try:
            while not self._stop.wait(self._pacer.wait_s(time.monotonic())):
                for late_s in self._pacer.due(time.monotonic()):
                    with self._lock:
                        self._handle(self._driver.step(self._now_ns() - int(late_s * NANOSECONDS)))
        except Exception as error:  # The process must end too; an arm without physics would look alive.
            self.get_logger().fatal(f'physics stopped: {error}')
            self.exit_code = 1

    def _advance_to_grid(self) -> None:
        """Go on until estimator and controller have a state of this very moment: after a crash within a period they have none."""
        for _ in range(self._config.world.physics_hz):
            if self._driver.stamp_ns % _GRID_NS == 0:
                return
            self._advance(1)

    def _advance(self, steps: int, *, publish: bool = True) -> None:
        """Step the physics in lockstep; the clock tells when that is done."""
        for _ in range(steps):
            self._handle(self._driver.step(self._driver.next_stamp_ns), publish=publish)
        if publish and self._told_ns != self._now_ns():
            self._publish_clock()
        self._last_advance_s = time.monotonic()

    def _handle(self, measurements: list[Measurement], *, publish: bool = True) -> None:
        """Publish measurements; in lockstep, keep the newest message of each kind for `on_repeat`."""
        if publish and measurements and self._clock_pub and self._now_ns() // _GRID_NS != self._clock_ns // _GRID_NS:
            self._publish_clock()
        for sample in measurements:
            kind, publisher, message = self._message(sample)
            if publish:
                publisher.publish(message)
                if self._tells_time(sample):
                    self._told_ns = sample.stamp_ns
            if self._config.lockstep and kind is not RobotState:  # The ground truth is not a measurement.
                self._newest[kind] = (publisher, message)

    def _tells_time(self, sample: Measurement) -> bool:
        """Whether the command guard takes the time from a measurement: one of all joints of the arm, at this very moment."""
        return (isinstance(sample, JointSample) and sample.stamp_ns == self._driver.stamp_ns
                and set(self._robot.joints) <= set(sample.names) and bool(np.isfinite(sample.position).all()))

    def _message(self, sample: Measurement) -> tuple[Any, Any, Any]:
        """Kind, publisher and message of a measurement."""
        frame = self._robot.base_link
        if isinstance(sample, JointSample):
            publisher = self._joint_pubs[0 if self._robot.joints[0] in sample.names else -1]
            return frozenset(sample.names), publisher, wire.joint_state_to_msg(sample, frame)
        if isinstance(sample, PoseSample):
            return PoseSample, self._pose_pub, wire.pose_to_msg(sample, frame)
        return RobotState, self._truth_pub, convert.state_to_msg(sample, frame)

    def _publish_clock(self) -> None:
        self._clock_ns = self._told_ns = self._now_ns()
        self._clock_pub.publish(Clock(clock=convert.stamp_to_msg(self._now_ns())))

    def _now_ns(self) -> int:
        return self._driver.stamp_ns if self._config.lockstep else self.get_clock().now().nanoseconds

    def _note_refusal(self, reason: str) -> None:
        if reason:
            self._refusal = reason
            self.get_logger().warning(reason, throttle_duration_sec=1.0)


def _world_of(tabletop: bool) -> dict[str, Any]:
    """Defaults of the world that follow from `tabletop`."""
    return {'world': tabletop_config().to_mapping()} if tabletop else {}
