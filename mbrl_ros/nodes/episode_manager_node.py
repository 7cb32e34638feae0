"""`episode_manager`: resets, goals, weights of the reward, success, returns, and the printed table of scores."""

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from mbrl_ros.config import Config, extended, section, setting
from mbrl_ros.control.safety.reasons import OF_AGENT, HoldReason
from mbrl_ros.errors import ConfigError, GoalError, MeasurementError, PhaseError
from mbrl_ros.robots.profile import load_driver, load_robot
from mbrl_ros.ros import convert, diagnostics, params, qos, runtime, topics
from mbrl_ros.ros.refusals import Refusals
from mbrl_ros.runs.curve import save_learning_curve
from mbrl_ros.runs.machine import Counts, EpisodeConfig, EpisodeMachine
from mbrl_ros.runs.run_mark import RunMark
from mbrl_ros.runs.scores import HELD, EpisodeScore, ScoreBoard, ScoreConfig, load_scores
from mbrl_ros.spaces.joint_tool import ACTIONS
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.reach import ReachGoalConfig, ReachTask
from mbrl_ros.tasks.registry import TASKS, make_task, weights_config
from mbrl_ros.types import EpisodeReport, Phase, TrainingReport

_POLL_S = 0.1
_SILENCE_S = 2.0
#: Time from seeing a subscription until it has matched all publishers.
_MATCHING_S = 1.0
#: Topics that a node must have subscribed to before an episode may begin.
_HEARD_BY = {
    'command_guard': (topics.COMMAND,),
    'mpc_controller': (topics.STATE, topics.EPISODE, topics.MODEL),
    'model_trainer': (topics.STATE, topics.APPLIED_COMMAND, topics.EPISODE),
    'experience_logger': (topics.STATE, topics.APPLIED_COMMAND, topics.EPISODE),
    'scripted_demonstrator': (topics.STATE, topics.EPISODE),
    'keyboard_teleop': (topics.EPISODE,),
}


@dataclasses.dataclass(frozen=True)
class EpisodeManagerConfig(Config):
    """Settings of the episode manager."""

    robot: str = setting('panda', 'Robot profile: a name in config/robots or the path of a YAML file.')
    driver: str = setting('simulated', 'Driver profile: a name in config/drivers or the path of a YAML file.')
    task: str = setting(ReachTask.name, 'Task to score; sets the defaults of episodes and has weights of its own.',
                        choices=tuple(TASKS))
    actions: str = setting('twist', 'Action over the table besides the opening: tool twist or joint velocities.', choices=ACTIONS)
    seed: int = setting(0, 'Seed of the goals.', low=0)
    output_dir: str = setting('', 'Folder for scores.csv and learning_curve.png; empty writes none.')
    reset_timeout_s: float = setting(10.0, 'Longest wait for the reset service before the arm goes home by itself.',
                                     unit='s', low=0.1)
    wait_for: tuple[str, ...] = setting(('command_guard', 'mpc_controller', 'model_trainer', 'experience_logger'),
                                        'Nodes that have to be up before the first episode.')
    wait_for_s: float = setting(60.0, 'Longest wait for them; then episodes begin without.', unit='s', low=0.0)
    exit_when_finished: bool = setting(False, 'Whether the process ends after the last episode, with 0 if the arm learned.')
    episodes: EpisodeConfig = section(EpisodeConfig, 'How episodes run.')
    reach: ReachGoalConfig = section(ReachGoalConfig, 'When the goal of the reach task is reached.')
    scores: ScoreConfig = section(ScoreConfig, 'When the arm counts as having learned.')


class EpisodeManagerNode(Node):
    """Feeds the episode machine, publishes its reports and prints the scores.

    Raises:
        ConfigError: A parameter does not fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('episode_manager', **kwargs)
        kind = extended(EpisodeManagerConfig, weights_config(params.given(self, 'task', ReachTask.name)))
        self._config = params.declare_config(
            self, kind, {'task': lambda task: TaskLoopConfig.of_task(task).for_manager(task)},
            blank={'episodes.control_rate_hz': 0.0, 'episodes.exploration_episodes': -1})
        params.watch_live(self, self._config, self.on_settings)
        torch.set_num_threads(1)
        self._is_simulated = self.get_parameter('use_sim_time').value
        self._robot = load_robot(self._config.robot)
        driver = load_driver(self._config.driver)
        self._task = make_task(self._config.task, self._robot, TaskLoopConfig.of_task(self._config.task).rewards,
                               reach_goal=self._config.reach, actions=self._config.actions)
        self._task.weights = self._config.weights
        self._output_dir = Path(self._config.output_dir) if self._config.output_dir else None
        self._mark = self._output_dir and RunMark(self._output_dir / '.episode_manager', self._identity())
        scores = self._scores_so_far()
        self._board = ScoreBoard(self._config.scores, self._output_dir and self._output_dir / 'scores.csv', scores)
        counts = Counts(scores[-1].episode + 1, scores[-1].total_steps, sum(score.held_steps for score in scores)) \
            if scores else Counts()
        self._machine = EpisodeMachine(self._robot, self._task, self._config.episodes, seed=self._config.seed,
                                       can_reset=bool(driver.reset_service), counts=counts)
        self._held_steps = counts.held_steps
        self._published: EpisodeReport | None = None
        self._training: TrainingReport | None = None
        self._plan_ms: list[float] = []
        self._misses = self._skipped = 0
        self._holds: Counter[str] = Counter()
        self._reset: Future | None = None
        self._reset_deadline_s: float | None = None
        self._reset_start_ns = 0
        self._start_s = self._last_state_s = self._scored_s = time.monotonic()
        self._peers_since_s: float | None = None
        self._ready = False
        self.exit_code: int | None = None

        self._diagnostics, self._refusals = diagnostics.Diagnostics(self, self._robot.name), Refusals(self)
        self._report_pub = qos.advertise(self, DiagnosticArray, topics.EPISODE, qos.LATCHED)
        self._goal_pub = qos.advertise(self, PoseStamped, topics.GOAL, qos.LATCHED)
        self._reset_client = self.create_client(Trigger, driver.reset_service) if driver.reset_service else None
        self.create_service(Trigger, '~/proceed', self.on_proceed)
        # Against the wall clock a report on an old state is too old for the controller; simulated time waits for each report.
        qos.subscribe(self, JointState, topics.STATE, self.on_state, qos.RECORD if self._is_simulated else qos.STATE)
        qos.subscribe(self, PoseStamped, topics.GOAL, self.on_goal, qos.LATCHED)
        qos.subscribe(self, DiagnosticArray, topics.TRAINING, self.on_training, qos.LATCHED)
        qos.subscribe(self, DiagnosticArray, topics.CONTROLLER_STATUS, self.on_controller_status, qos.RECORD)
        runtime.steady_timer(self, _POLL_S, self.on_timer)
        self.get_logger().info(f'configuration: {self._config.to_mapping()}')

    def on_state(self, message: JointState) -> None:
        """Feed a state to the machine."""
        self._last_state_s = time.monotonic()
        if not self._ready:
            return
        try:
            clock_ns = self.get_clock().now().nanoseconds if self._is_simulated else None
            self._speak(self._machine.on_state(convert.state_from_msg(message), clock_ns))
        except MeasurementError as error:
            self._refusals.tell(topics.STATE, error)

    def on_goal(self, message: PoseStamped) -> None:
        """Take a goal from another node; the manager's own goals, which arrive here too, change nothing."""
        try:
            point, stamp_ns = convert.goal_from_msg(message, self._robot.base_link)
            report = self._machine.report
            if report is None or (stamp_ns == report.goal_stamp_ns and np.allclose(point, report.goal_m)):
                return
            self._machine.on_goal(point, stamp_ns)
        except GoalError as error:
            self._refusals.tell(topics.GOAL, error)

    def on_settings(self, config: EpisodeManagerConfig) -> None:
        """Take new weights of the reward, which all others hear in the reports."""
        before, self._config = vars(self._config.weights), config
        changes = [f'{name} {before[name]:g} -> {weight:g}' for name, weight in vars(config.weights).items()
                   if weight != before[name]]
        if changes:
            _show([f'{"":>7}  new weights of the reward: {", ".join(changes)}'])
        self._speak(self._machine.on_weights(config.weights))

    def on_training(self, message: DiagnosticArray) -> None:
        """Take a training report; it may end a wait."""
        before = self._training
        try:
            self._training = convert.report_from_msg(message, TrainingReport)
        except MeasurementError as error:
            self._refusals.tell(topics.TRAINING, error)
            return
        if self._training.following != (before.following if before else ''):
            _show([f'{"":>7}  {self._training.following}'])
        # Exploration visits new states on purpose, so only planned episodes may report a change.
        if self._training.changed and self._board.scores and self._board.scores[-1].phase == Phase.RUNNING.value:
            self._board.note_change()
            _show([f'{"":>7}  {self._training.reason}'])
        self._speak(self._machine.on_training(self._training))

    def on_controller_status(self, message: DiagnosticArray) -> None:
        """Collect planning times, missed deadlines and holds of the running episode."""
        values = convert.status_values(message)
        try:
            plan_ms, skipped = float(values.get('plan_ms', 'nan')), int(values.get('skipped', '0'))
        except ValueError as error:
            self._refusals.tell(topics.CONTROLLER_STATUS, f'plan_ms or skipped is no number ({error})')
            return
        missed = (values.get('deadline_missed') == 'True') + max(skipped - self._skipped, 0)
        self._skipped = skipped
        # In simulated time the controller publishes nothing while time stands, so the manager would never see a release.
        if not self._is_simulated:
            self._machine.on_emergency_stop(values.get('hold') == HoldReason.EMERGENCY_STOP.value)
        hold = values.get('hold', '')
        is_held = hold not in ('', HoldReason.PHASE.value)  # PHASE: a status of the phase before.
        self._machine.on_controller(convert.stamp_from_msg(message.header.stamp), is_held and hold not in OF_AGENT)
        if self._machine.phase.is_episode:
            self._misses += missed
            if np.isfinite(plan_ms):
                self._plan_ms.append(plan_ms)
            if is_held:
                self._holds[hold] += 1

    def on_proceed(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Allow the next episode, or another attempt to get home, as a person asks by this service."""
        try:
            self._speak(self._machine.on_operator())
        except PhaseError as error:
            response.success, response.message = False, str(error)
            return response
        is_homing = self._machine.phase in (Phase.HOMING, Phase.RESETTING)
        response.success = True
        response.message = 'the arm goes home first' if is_homing else 'the next episode begins'
        return response

    def close(self) -> None:
        """End the run in order: a manager that is started later begins another one."""
        if self._mark:
            self._write(self._mark.end)

    def on_timer(self) -> None:
        """Bound the waits by the wall clock, and update the diagnostics."""
        now_s = time.monotonic()
        if not self._ready:
            self._await_peers(now_s)
            self._scored_s = now_s
        self._speak(self._machine.on_clock(now_s))
        if self._machine.wants_reset:
            self._drive_reset(now_s)
        report, is_silent = self._machine.report, now_s - self._last_state_s > _SILENCE_S
        if is_silent and (report is None or report.phase.is_episode):
            self.get_logger().warning(f'no message on {self.resolve_topic_name(topics.STATE)} for '
                                      f'{now_s - self._last_state_s:.0f} s', throttle_duration_sec=5.0)
        text = report.phase.value if report else 'waiting for the first state'
        reason = report.reason if report else ''
        self._diagnostics.update(
            'Episodes', diagnostics.WARN if reason or (report is None and is_silent) else diagnostics.OK,
            f'{text}: {reason}' if reason else text, episode=report.episode if report else 0,
            total_steps=report.total_steps if report else 0,
            held_steps=report.held_steps if report else 0, successes_of_last=sum(score.success for score in self._board.last),
            last=len(self._board.last))

    def _await_peers(self, now_s: float) -> None:
        """Let episodes begin once all peers have been up for a moment; a later peer would miss the first messages."""
        missing = {name for name in self._config.wait_for if not self._is_up(name)}
        if missing:
            self._peers_since_s = None
            if now_s - self._start_s < self._config.wait_for_s:
                return
            self.get_logger().warning(f'{", ".join(sorted(missing))} did not come up within {self._config.wait_for_s:g} s; '
                                      'episodes begin without')
        elif self._peers_since_s is None:
            self._peers_since_s = now_s
        self._ready = bool(missing) or now_s - self._peers_since_s >= _MATCHING_S

    def _is_up(self, name: str) -> bool:
        """Whether a node has subscribed to the topics of `_HEARD_BY`; its name is visible before its subscriptions are.

        The trainer must also have reported that messages reach it, because it cannot learn from messages that it missed.
        """
        own = self.get_namespace()
        if (name, own) not in self.get_node_names_and_namespaces():
            return False
        if name == 'model_trainer' and self._training is None:
            return False
        heard = (self.get_subscriptions_info_by_topic(self.resolve_topic_name(topic)) for topic in _HEARD_BY.get(name, ()))
        return all(any((info.node_name, info.node_namespace) == (name, own) for info in infos) for infos in heard)

    def _drive_reset(self, now_s: float) -> None:
        """Call the reset service once it is there; give up after `reset_timeout_s`."""
        start_ns = self._machine.report.start_ns
        if start_ns != self._reset_start_ns:
            # An earlier call may never be answered, for example by a simulator that has restarted.
            self._reset, self._reset_deadline_s, self._reset_start_ns = None, None, start_ns
        if self._reset_deadline_s is None:
            self._reset_deadline_s = now_s + self._config.reset_timeout_s
        if self._reset is None and self._reset_client.service_is_ready():
            self._reset = self._reset_client.call_async(Trigger.Request())
            self._reset.add_done_callback(self._on_reset_done)
        elif now_s >= self._reset_deadline_s:
            self.get_logger().warning(f'{self._reset_client.srv_name} did not answer within {self._config.reset_timeout_s} s; '
                                      'the arm goes home by itself')
            self._end_reset(None)

    def _on_reset_done(self, future: Future) -> None:
        if future is not self._reset:
            return
        response = future.result()
        if response.success and response.message.isdecimal():
            self._end_reset(int(response.message))
        else:
            self.get_logger().warning(f'{self._reset_client.srv_name} failed: {response.message}; the arm goes home by itself')
            self._end_reset(None)

    def _end_reset(self, fresh_ns: int | None) -> None:
        self._reset, self._reset_deadline_s = None, None
        self._speak(self._machine.on_reset(fresh_ns))

    def _speak(self, report: EpisodeReport | None) -> None:
        """Publish a report and its goal; show the score and drive the reset that follow from it."""
        if report is None:
            return
        before, self._published = self._published, report
        if report.phase.is_episode and (before is None or before.goal_stamp_ns != report.goal_stamp_ns):
            self._goal_pub.publish(convert.goal_to_msg(report.goal_m, report.goal_stamp_ns, self._robot.base_link))
        self._report_pub.publish(convert.report_to_msg(report))
        if report.reason and (before is None or before.reason != report.reason):
            self.get_logger().warning(f'{report.phase.value}: {report.reason}')
        if report.phase.is_episode and report.step == 0:
            self._plan_ms, self._misses, self._holds = [], 0, Counter()
        if before is not None and before.phase.is_episode and not report.phase.is_episode:
            self._show_score(before, report)
        if self._machine.wants_reset:
            self._drive_reset(time.monotonic())
        if report.phase is Phase.FINISHED and (before is None or before.phase is not Phase.FINISHED):
            self._finish()

    def _show_score(self, before: EpisodeReport, report: EpisodeReport) -> None:
        training, planned = self._training, np.array(self._plan_ms or [np.nan])
        since_s, self._scored_s = self._scored_s, time.monotonic()
        # The controller held the arm throughout and never tried to plan, so the episode says nothing about the policy.
        is_held = (self._machine.was_held_too_long and not report.success) or (
            before.phase is Phase.RUNNING and bool(self._holds) and not self._plan_ms
            and HoldReason.PLANNING_FAILED.value not in self._holds)
        held_steps, self._held_steps = report.held_steps - self._held_steps, report.held_steps
        if len(self._board.scores) % 20 == 0:
            _show(self._board.header())
        _show([self._board.add(EpisodeScore(
            episode=report.episode, total_steps=report.total_steps, phase=HELD if is_held else before.phase.value,
            success=None if is_held else report.success, distance_m=report.distance_m, episode_return=report.episode_return,
            model_version=training.model_version if training else 0,
            model_error=training.holdout_rmse if training else float('nan'),
            plan_ms_p50=float(np.percentile(planned, 50)), plan_ms_p99=float(np.percentile(planned, 99)),
            deadline_misses=self._misses, wall_s=self._scored_s - since_s, held_steps=held_steps,
            retraining=training.retraining if training else False, follow_s=training.follow_s if training else float('nan')))])
        reasons = ', '.join(hold for hold, _ in self._holds.most_common()) or 'the controller was silent'
        if is_held:
            why = f'held in {held_steps} more' if self._plan_ms else 'nothing was planned, the arm was held'
            _show([f'{"":>7}  not scored: {why} ({reasons})'])
        elif held_steps:
            _show([f'{"":>7}  and {held_steps} steps in which the arm was held ({reasons})'])
        self._write(self._board.save)

    def _finish(self) -> None:
        activity, folder = self._config.task.replace('_', ' and '), self._output_dir
        _show(['', *self._board.summary(activity)])
        if folder is not None:
            if any(score.phase != Phase.DEMONSTRATED.value for score in self._board.scores):
                self._write(lambda: save_learning_curve(
                    self._board.scores, folder / 'learning_curve.png', tolerance_m=self._task.goal_tolerance_m,
                    title=f'{self._robot.name}: {activity}, seed {self._config.seed}'))
            files = {'learning curve': 'learning_curve.png', 'scores': 'scores.csv', 'recording': 'bag',
                     'model': 'model.safetensors', 'video': 'episodes.gif'}
            _show([f'{what + ":":<15} {folder / name}' for what, name in files.items() if (folder / name).exists()])
        if self._config.exit_when_finished:
            self.exit_code = 0 if self._board.learned else 1

    def _identity(self) -> str:
        config = self._config
        return f'{config.task} {config.actions} {config.robot} {config.driver} {config.seed}'

    def _scores_so_far(self) -> list[EpisodeScore]:
        """Scores of a predecessor that was killed in this run; none in a new run."""
        if self._mark is None:
            return []
        path = self._output_dir / 'scores.csv'
        try:
            scores = load_scores(path) if self._mark.begin() and path.exists() else []
        except (OSError, ConfigError) as error:
            self.get_logger().error(f'episodes are counted from 0: {error}')
            return []
        if scores:
            self.get_logger().warning(f'going on after episode {scores[-1].episode} of {path}')
        return scores

    def _write(self, save: Callable[[], None]) -> None:
        """Save a file; an error, for example of a full disk, is logged and episodes go on."""
        try:
            save()
        except OSError as error:
            self.get_logger().error(f'{error.filename or self._output_dir}: cannot be written ({error.strerror}); '
                                    'episodes go on')


def _show(lines: Sequence[str]) -> None:
    """Print without a log prefix, so that the table stays a table."""
    print('\n'.join(lines), file=sys.stdout, flush=True)
