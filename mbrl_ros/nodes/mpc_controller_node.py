"""`mpc_controller`: asks the agent for a decision each control period; what it asks of the arm goes to the command guard.

It is a managed node: configuring builds and warms up everything, activating lets the arm move, deactivating stops it.
"""

import dataclasses
import gc
import time
import traceback
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.registry import DEFAULT_AGENT, agent_kind
from mbrl_ros.config import Config, extended, part, section, setting
from mbrl_ros.control.controller import Controller
from mbrl_ros.control.safety.reasons import IDLE, HoldReason
from mbrl_ros.control.tick import ControllerConfig
from mbrl_ros.errors import ConfigError, GoalError, MbrlError, MeasurementError, ModelError, shortened
from mbrl_ros.robots.profile import load_driver, load_robot
from mbrl_ros.ros import convert, diagnostics, params, priority, qos, runtime, topics
from mbrl_ros.ros.command_port import CommandPort
from mbrl_ros.ros.control_inbox import ControlInbox
from mbrl_ros.ros.control_thread import ControlThread, ControlTiming, TickReport
from mbrl_ros.ros.loop_figures import LoopFigures
from mbrl_ros.ros.plan_messages import paths_to_msg, plan_to_msg
from mbrl_ros.ros.refusals import Refusals
from mbrl_ros.spaces.joint_tool import ACTIONS
from mbrl_ros.spaces.space import state_at_home
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import TASKS, make_task
from mbrl_ros.types import EpisodeReport


@dataclasses.dataclass(frozen=True)
class MpcControllerConfig(Config):
    """Settings of the controller node."""

    robot: str = setting('panda', 'Robot profile: a name in config/robots or the path of a YAML file.')
    agent: str = setting(DEFAULT_AGENT, 'Agent that decides, a name or module:KIND; it adds its own settings.')
    driver: str = setting('simulated', 'Driver profile: a name in config/drivers or the path of a YAML file.')
    task: str = setting('reach', 'Task to pursue; sets the defaults of planning and moving.', choices=tuple(TASKS))
    actions: str = setting('twist', 'Action over the table besides the opening: tool twist or joint velocities.', choices=ACTIONS)
    rate_hz: float = setting(20.0, 'Control rate.', unit='Hz', low=1.0, high=500.0)
    lockstep: bool = setting(False, 'Tick by the stamps of states instead of the clock, and plan without a deadline.')
    autostart: bool = setting(True, 'Whether the node configures and activates itself.')
    seed: int = setting(0, 'Seed of planning and exploring.', low=0)
    realtime_priority: int = setting(40, priority.DESCRIPTION, low=0, high=99)
    device: str = setting('auto', 'Device of the agent; auto leaves it to the settings of the agent, which take a GPU if there '
                                  'is one.', choices=('auto', 'cpu', 'cuda'))
    torch_threads: int = setting(1, 'Threads of torch.', low=1, high=256)
    control: ControllerConfig = section(ControllerConfig, 'When and how the arm moves.')


class MpcControllerNode(LifecycleNode):
    """Connects topics to a `Controller` that ticks in a thread of its own.

    Raises:
        ConfigError: A parameter does not fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('mpc_controller', **kwargs)
        agent = params.given(self, 'agent', DEFAULT_AGENT)
        self._kind = kind = agent_kind(agent)
        self._config = params.declare_config(
            self, extended(MpcControllerConfig, kind.acting),
            {'task': lambda task: TaskLoopConfig.of_task(task, agent=agent).for_controller(), 'device': kind.acting.on_device},
            blank={'rate_hz': 0.0})
        params.watch_live(self, self._config, self.on_settings)
        self._thread: ControlThread | None = None
        self._owned: list = []
        self._diagnostics, self._refusals = diagnostics.Diagnostics(self, self._config.robot), Refusals(self)
        self.exit_code: int | None = None
        self._failure_code = 1
        self.get_logger().info(f'configuration: {self._config.to_mapping()}')
        success = TransitionCallbackReturn.SUCCESS
        if self._config.autostart and (self.trigger_configure() is not success or self.trigger_activate() is not success):
            self.exit_code = self._failure_code

    # Lifecycle callbacks.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Build everything and decide a few times, so that the first real tick is no slower than the others."""
        try:
            self._build()
            self._warm_up()
        except Exception as error:  # rclpy swallows exceptions of lifecycle callbacks without a log line.
            name = '' if isinstance(error, MbrlError) else f'{type(error).__name__}: '
            self.get_logger().error(f'cannot be configured: {name}{error}')
            self._failure_code = runtime.refusal_code(error)
            self._tear_down()
            return TransitionCallbackReturn.FAILURE
        self._subscribe()
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the arm move."""
        timing = ControlTiming(1.0 / self._config.rate_hz, self._config.lockstep, self._driver.command_latency_s)
        self._thread = ControlThread(self._controller, self._inbox, self._port, self.get_clock(), timing,
                                     self._on_tick, self._on_fault)
        if not self._config.lockstep:
            priority.request_priority(self, self._config.realtime_priority)
        self._thread.start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the arm within its limits; returns after the last command."""
        self._stop_thread()
        return super().on_deactivate(state)

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the arm and destroy what `on_configure` made."""
        self._tear_down()
        return TransitionCallbackReturn.SUCCESS

    on_shutdown = on_error = on_cleanup

    def close(self) -> None:
        """Stop the arm; called while publishers still work."""
        self._stop_thread()
        gc.unfreeze()

    def _build(self) -> None:
        config = self._config
        torch.set_num_threads(config.torch_threads)
        self._robot, self._driver = load_robot(config.robot), load_driver(config.driver)
        self._task = make_task(config.task, self._robot, TaskLoopConfig.of_task(config.task).rewards, actions=config.actions)
        self._period_s = 1.0 / config.rate_hz
        space = self._task.space
        self._contract = Contract.of(config.agent, space, robot=self._robot.name, task=self._task.name, period_s=self._period_s)
        self._agent = self._kind.make_agent(
            self._contract, space, part(config, self._kind.acting), is_repeatable=config.lockstep,
            max_action_change=space.largest_change(config.control.safety.acceleration_scale, self._period_s))
        self._controller = Controller(self._robot, self._task, config.control, period_s=self._period_s, seed=config.seed)
        self._inbox, self._figures, self._last_hold = ControlInbox(), LoopFigures(), None
        self._port = CommandPort(self, self._robot)
        self._latest: TickReport | None = None
        self._status_pub = self._advertise(DiagnosticArray, topics.CONTROLLER_STATUS, qos.DRIVER)
        self._plan_pub = self._advertise(JointTrajectory, topics.PLAN, qos.STATE)
        self._path_pub = self._advertise(MarkerArray, topics.PREDICTED_PATH, qos.STATE)

    def _warm_up(self) -> None:
        obs = self._task.space.observe(state_at_home(self._robot, self._task.space))
        self.get_logger().info(self._agent.prepare(obs, self._task.objective(self._robot.workspace.lower_m)))
        self._inbox.put(agent=self._agent)
        # Objects that live this long are taken out of later garbage collections, which would pause the loop.
        gc.collect()
        gc.freeze()

    def _subscribe(self) -> None:
        for kind, topic, callback, profile in (
                (JointState, topics.STATE, self.on_state, qos.STATE),
                (DiagnosticArray, topics.EPISODE, self.on_report, qos.LATCHED),
                (PoseStamped, topics.GOAL, self.on_goal, qos.LATCHED),
                (UInt8MultiArray, topics.MODEL, self.on_model, qos.LATCHED),
                (JointState, topics.DEMONSTRATED_ACTION, self.on_demonstrated, qos.LATCHED),
                (DiagnosticArray, topics.GUARD_STATUS, self.on_guard_status, qos.LATCHED)):
            self._owned.append((self.destroy_subscription, qos.subscribe(self, kind, topic, callback, profile)))
        self._owned.append((self.destroy_timer, runtime.steady_timer(self, 1.0, self.on_second)))

    def _advertise(self, kind: type, topic: str, profile: qos.QoSProfile) -> object:
        publisher = qos.advertise(self, kind, topic, profile)
        self._owned.append((self.destroy_publisher, publisher))
        return publisher

    def _stop_thread(self) -> None:
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def _tear_down(self) -> None:
        self._stop_thread()
        gc.unfreeze()
        for destroy, entity in self._owned:
            destroy(entity)
        self._owned.clear()
        if hasattr(self, '_port'):
            self._port.destroy()
            del self._port

    # Inputs, called in the executor's thread.

    def on_state(self, message: JointState) -> None:
        """Keep the newest state."""
        try:
            clock_ns = self.get_clock().now().nanoseconds if self._config.lockstep else None
            self._inbox.put_state(convert.state_from_msg(message), clock_ns)
        except MeasurementError as error:
            self._refusals.tell(topics.STATE, error)

    def on_report(self, message: DiagnosticArray) -> None:
        """Keep the newest report of the episode manager, with the weights of the reward."""
        try:
            report = convert.report_from_msg(message, EpisodeReport)
            self._inbox.put(report=report, weights=self._task.weights_of(report.weights))
        except (ConfigError, MeasurementError) as error:
            self._refusals.tell(topics.EPISODE, error)

    def on_goal(self, message: PoseStamped) -> None:
        """Keep the newest goal; a goal without a stamp is stamped now."""
        try:
            goal_m, stamp_ns = convert.goal_from_msg(message, self._robot.base_link)
        except GoalError as error:
            self._refusals.tell(topics.GOAL, error)
            return
        self._inbox.put(goal_m=goal_m, goal_stamp_ns=stamp_ns or self.get_clock().now().nanoseconds)

    def on_model(self, message: UInt8MultiArray) -> None:
        """Swap the agent's weights; a bundle that does not fit is refused, and the last good one stays."""
        try:
            agent = self._agent.with_bundle(AgentBundle.from_bytes(convert.bytes_from_msg(message)))
        except (ModelError, ConfigError) as error:
            kept = self._inbox.newest().agent.version
            stays = f'version {kept} stays' if kept else 'there is no other model'
            self._refusals.tell(topics.MODEL, f'refused, {stays}: {error}')
            self._inbox.put(bundle_refused=True)
            return
        self._inbox.put(agent=agent, bundle_refused=False)

    def on_demonstrated(self, message: JointState) -> None:
        """Keep the newest demonstrated action."""
        try:
            self._inbox.put(demonstrated=convert.demonstrated_from_msg(message))
        except MeasurementError as error:
            self._refusals.tell(topics.DEMONSTRATED_ACTION, error)

    def on_settings(self, config: MpcControllerConfig) -> None:
        """Use other live settings from the next tick on."""
        self._config = config
        if hasattr(self, '_controller'):
            self._controller.configure(config.control)

    def on_guard_status(self, message: DiagnosticArray) -> None:
        """Keep what the command guard holds the arm for, if for more than the want of commands."""
        values = convert.status_values(message)
        try:
            hold = HoldReason(values['hold']) if values.get('hold') else None
        except ValueError:
            self._refusals.tell(topics.GUARD_STATUS, f'unknown hold {values["hold"]!r}')
            return
        self._inbox.put(guard_hold=None if hold in (None, *IDLE) else (hold, shortened(values.get('detail', ''))),
                        guard_received_s=time.monotonic())

    # Outputs, called in the control thread.

    def _on_tick(self, tick: TickReport) -> None:
        outcome = tick.outcome
        self._status_pub.publish(self._status(tick))
        plan = outcome.decision.plan if outcome.decision is not None else None
        if plan is not None and outcome.hold is None and outcome.applied is not None:
            start_ns = outcome.applied.stamp_ns
            # Only a model of the joints predicts joint positions.
            if self._task.state_names == self._robot.joints and self._plan_pub.get_subscription_count():
                self._plan_pub.publish(plan_to_msg(plan, self._robot, start_ns, self._period_s))
            if self._path_pub.get_subscription_count():
                paths = self._task.paths(torch.from_numpy(plan.mean_obs))
                self._path_pub.publish(paths_to_msg(paths, self._robot.base_link, start_ns))
        self._note_hold(outcome.hold, outcome.detail)

    def _status(self, tick: TickReport) -> DiagnosticArray:
        outcome, decision = tick.outcome, tick.outcome.decision
        uncertainty, plan = (decision.uncertainty, decision.plan) if decision else (None, None)
        figures = {
            'plan_ms': decision.elapsed_s * 1e3 if decision else float('nan'), 'state_age_ms': outcome.state_age_s * 1e3,
            'state_to_command_ms': tick.state_to_command_s * 1e3, 'period_ms': tick.period_s * 1e3,
            'disagreement': float('nan') if uncertainty is None else uncertainty,
        }
        self._figures.add(**figures)
        self._latest = tick
        values = {
            'hold': outcome.hold.value if outcome.hold else '', 'detail': outcome.detail,
            'phase': outcome.phase.value if outcome.phase else '', **figures, 'deadline_missed': outcome.is_late,
            'misses': outcome.misses, 'skipped': tick.skipped, 'iterations': plan.iterations if plan else 0,
            'model_version': outcome.model_version, 'on_tail': outcome.on_tail, 'clamped': ' '.join(outcome.clamped),
        }
        return convert.status_to_msg(tick.stamp_ns, f'{self.get_name()}: Tick', values, level=_level(outcome.hold),
                                     message=outcome.hold.explanation if outcome.hold else 'moving', hardware_id=self._robot.name)

    def _note_hold(self, hold: HoldReason | None, detail: str) -> None:
        if hold is self._last_hold:
            return
        self._last_hold = hold
        if hold is None:
            self.get_logger().info('moving')
        elif hold in (HoldReason.PHASE, HoldReason.NOT_ACTIVE):
            self.get_logger().info(f'holding ({hold.value}): {hold.explanation}')
        else:
            note = f' ({detail})' if detail else ''
            self.get_logger().warning(f'holding ({hold.value}): {hold.explanation}{note} {hold.way_back}')

    def _on_fault(self, error: Exception) -> None:
        lines = ''.join(traceback.format_exception(error))
        self.get_logger().fatal(f'the control thread broke; the arm was stopped\n{lines}')
        self.exit_code = 1

    def on_second(self) -> None:
        """Update the diagnostics of the control loop."""
        tick = self._latest
        if tick is None or self._thread is None:
            self._diagnostics.update('Control Loop', diagnostics.WARN, HoldReason.NOT_ACTIVE.explanation)
            return
        outcome, period_ms = tick.outcome, self._figures.percentile('period_ms', 50)
        self._diagnostics.update(
            'Control Loop', _level(outcome.hold), outcome.hold.explanation if outcome.hold else 'moving',
            rate_hz=1e3 / period_ms, jitter_ms=self._figures.deviation('period_ms'),
            plan_ms_p50=self._figures.percentile('plan_ms', 50), plan_ms_p99=self._figures.percentile('plan_ms', 99),
            state_age_ms=self._figures.percentile('state_age_ms', 50), misses=outcome.misses, skipped=tick.skipped,
            model_version=outcome.model_version, disagreement=self._figures.percentile('disagreement', 50))


def _level(hold: HoldReason | None) -> bytes:
    if hold in (None, HoldReason.PHASE):
        return diagnostics.OK
    return diagnostics.ERROR if hold is HoldReason.EMERGENCY_STOP else diagnostics.WARN
