"""`model_trainer`: learns a model from live experience and earlier bags, in a process of its own.

A crash loses the experience in memory. A trainer that starts in the middle of a run, as the episode manager's count of steps
shows, loads the last good model and the experience of this run from `output_dir`.
"""

import dataclasses
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray

from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.registry import DEFAULT_AGENT, agent_kind
from mbrl_ros.config import Config, extended, section, setting
from mbrl_ros.errors import BagError, ConfigError, MeasurementError, ModelError, TrainingCancelled
from mbrl_ros.experience.assembler import AssemblerConfig, TransitionAssembler
from mbrl_ros.experience.buffer import ReplayBuffer, Transitions
from mbrl_ros.experience.replay import load_transitions
from mbrl_ros.experience.saved import SavedExperience
from mbrl_ros.resources import model_file
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, diagnostics, params, qos, runtime, topics
from mbrl_ros.spaces.joint_tool import ACTIONS
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import TASKS, make_task
from mbrl_ros.training.reward_watch import RewardWatch
from mbrl_ros.training.rounds import Rounds
from mbrl_ros.training.schedule import DueRound, RoundSchedule, ScheduleConfig
from mbrl_ros.types import EpisodeReport, TrainingReport, Transition

_POLL_S = 0.05
_REFUSAL_PERIOD_S = 2.0


@dataclasses.dataclass(frozen=True)
class ModelTrainerConfig(Config):
    """Settings of the model trainer."""

    robot: str = setting('panda', 'Robot profile: a name in config/robots or the path of a YAML file.')
    task: str = setting('reach', 'Task to learn; sets the observation and the defaults of learning.', choices=tuple(TASKS))
    agent: str = setting(DEFAULT_AGENT, 'Agent whose learner trains, a name or module:KIND; it adds its own settings.')
    actions: str = setting('twist', 'Action over the table besides the opening: tool twist or joint velocities.', choices=ACTIONS)
    lockstep: bool = setting(False, 'Whether rounds run only between episodes, when the episode manager waits for them.')
    seed: int = setting(0, 'Seed of training.', low=0)
    control_rate_hz: float = setting(20.0, 'Rate of control steps.', unit='Hz', low=1.0, high=1000.0)
    output_dir: str = setting('', 'Folder of the last good model and of the recording; empty keeps none.')
    model: str = setting('', 'Model to begin with, and the experience beside it: a name in config/models or the path of a '
                             '.safetensors file; empty for none.')
    resume: bool = setting(False, 'Whether to begin with the model in output_dir, even when the run is new.')
    learning: bool = setting(True, 'Whether to train at all; if not, the model to begin with is used unchanged.')
    experience_paths: tuple[str, ...] = setting((), 'Earlier bags to learn from too.')
    capacity: int = setting(100_000, 'Most transitions kept in memory.', low=1000)
    num_threads: int = setting(1, 'Threads for training.', low=1, high=64)
    niceness: int = setting(10, 'Added to the priority number of the training thread; control comes first.', low=0, high=19)
    assembler: AssemblerConfig = section(AssemblerConfig, 'How transitions are put together.')
    schedule: ScheduleConfig = section(ScheduleConfig, 'When to train.')

    def check(self) -> None:
        """Raise `ConfigError` when neither training nor loading gives a model."""
        if not (self.learning or self.model or self.resume):
            raise ConfigError('ModelTrainerConfig.learning needs true where neither model nor resume gives a model, got False')


class ModelTrainerNode(Node):
    """Collects transitions in the executor's thread and trains in another, so that training does not delay collecting.

    Raises:
        ConfigError: A parameter does not fit, or there is no such model.
        ModelError: The model to begin with does not fit.
        BagError: The experience beside that model is damaged or does not fit.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__('model_trainer', **arguments)
        agent = params.given(self, 'agent', DEFAULT_AGENT)
        kind = agent_kind(agent)
        self._config = config = params.declare_config(
            self, extended(ModelTrainerConfig, kind.learning),
            {'task': lambda task: TaskLoopConfig.of_task(task, agent=agent).for_trainer()}, blank={'control_rate_hz': 0.0})
        torch.set_num_threads(config.num_threads)
        self._robot = load_robot(config.robot)
        self._task = make_task(config.task, self._robot, TaskLoopConfig.of_task(config.task).rewards, actions=config.actions)
        period_s = 1.0 / config.control_rate_hz
        self._assembler = TransitionAssembler(self._robot, self._task.space, period_s, config.assembler, in_order=config.lockstep)
        self._buffer = ReplayBuffer(self._task.obs_size, self._task.action_size, config.capacity)
        contract = Contract.of(agent, self._task.space, robot=self._robot.name, task=config.task, period_s=period_s)
        learner = kind.make_learner(contract, self._task.space, config.learner, self._task)
        self._rounds = Rounds(learner, contract, config.learner, seed=config.seed, follows=kind.follows)
        # Without learning, no round has to wait for transitions.
        schedule = config.schedule if config.learning else dataclasses.replace(config.schedule, patience_s=0.0)
        self._schedule = RoundSchedule(schedule, background=config.learning and not config.lockstep)
        folder = Path(config.output_dir) if config.output_dir else None
        self._model_path, self._bag_path = (folder / 'model.safetensors', folder / 'bag') if folder else (None, None)
        self._num_of_run, self._steps_told, self._num_held = 0, -1, 0
        self._refused_s: dict[str, float] = {}
        self._watch, self._weights = RewardWatch(self._rounds, is_learning=config.learning), self._task.weights
        self._told: TrainingReport | None = None

        self._closing = threading.Event()
        # Linux has a niceness for each thread, so that only training gets a lower priority.
        self._worker = ThreadPoolExecutor(1, 'training', initializer=os.nice, initargs=(config.niceness,))
        self._jobs: deque[tuple[Future, Callable[[Any], None]]] = deque()
        self._job_done = self.create_guard_condition(self.on_jobs_done)
        self._diagnostics = diagnostics.Diagnostics(self, self._robot.name)
        self._model_pub = qos.advertise(self, UInt8MultiArray, topics.MODEL, qos.LATCHED)
        self._training_pub = qos.advertise(self, DiagnosticArray, topics.TRAINING, qos.LATCHED)
        self._is_announced, self._state_heard = False, False
        qos.subscribe(self, JointState, topics.STATE, self.on_state, qos.RECORD)
        # Latched and deep, so that a late trainer gets every command, and the newest report at once.
        self._matched_by_publishers = [
            qos.subscribe(self, JointState, topics.APPLIED_COMMAND, self.on_applied, qos.LATCHED_RECORD),
            qos.subscribe(self, DiagnosticArray, topics.EPISODE, self.on_report, qos.LATCHED_RECORD)]
        runtime.steady_timer(self, _POLL_S, self.on_timer)
        self.get_logger().info(f'configuration: {config.to_mapping()}')
        self._before: SavedExperience | None = None
        self._steps_before = 0
        if config.model:
            self._begin_with(model_file(config.model))
        if config.resume:
            self._resume_model()
        if config.experience_paths:
            self._start(lambda: self._load(config.experience_paths, on_damage=self.get_logger().warning), self._take_experience)

    def on_state(self, message: JointState) -> None:
        """Add a state to the experience."""
        self._state_heard = True
        self._collect(topics.STATE, lambda: self._assembler.on_state(convert.state_from_msg(message)))

    def on_applied(self, message: JointState) -> None:
        """Add an applied command to the experience."""
        self._collect(topics.APPLIED_COMMAND, lambda: self._assembler.on_applied(convert.applied_from_msg(message)))

    def on_report(self, message: DiagnosticArray) -> None:
        """Add a report of the episode manager to the experience, and to the schedule of rounds."""
        self._collect(topics.EPISODE, lambda: self._on_report(convert.report_from_msg(message, EpisodeReport)))

    def on_timer(self) -> None:
        """Start a round if one is due and no job is running."""
        if not self._is_announced:
            self._announce()
        if self._jobs:
            return
        # Count evicted transitions too, so that a full buffer still triggers rounds.
        num_transitions = self._buffer.num_seen
        due = self._schedule.due(time.monotonic(), num_transitions, self._num_of_run, self._assembler.decided_ns)
        if due is None:
            return
        # An answer has the stamp of the report that asked for it: a restarted trainer may not have heard `/clock` yet.
        stamp_ns = self._now_ns() if due.stamp_ns is None else due.stamp_ns
        if not self._config.learning:
            self._take_report((self._report(due.episode, 'no round: learning is off', stamp_ns), None))
            return
        everything = self._buffer.arrays()
        data = everything.chosen
        self._num_held = len(everything) - len(data)
        weights = self._weights
        self._start(lambda: self._train(data, weights, due, stamp_ns, num_transitions - self._num_held), self._take_report)

    def _announce(self) -> None:
        """Say once, for the episode manager, that states, commands and reports reach this node."""
        if self._state_heard and all(subscription.get_publisher_count() for subscription in self._matched_by_publishers):
            self._is_announced = True
            self._tell(self._report(-1, 'ready', self._now_ns()))

    def _report(self, episode: int, reason: str, stamp_ns: int) -> TrainingReport:
        """Training report without a round."""
        return TrainingReport(stamp_ns, episode, self._rounds.version, False, reason, 0, math.nan, math.nan, 0.0)

    def on_jobs_done(self) -> None:
        """Hand results of the worker to their `finish`."""
        while self._jobs and self._jobs[0][0].done():
            job, finish = self._jobs.popleft()
            try:
                finish(job.result())
            except (BagError, ModelError) as error:
                self.get_logger().error(str(error))
            except TrainingCancelled:
                return
        self.on_timer()

    def close(self) -> None:
        """End training soon; a running round is cancelled."""
        self._closing.set()
        self._worker.shutdown(cancel_futures=True)

    def _collect(self, topic: str, take: Callable[[], list[Transition]]) -> None:
        try:
            transitions = take()
        except (ConfigError, MeasurementError) as error:
            now_s = time.monotonic()
            # rclpy would throttle this line for all topics together.
            if now_s - self._refused_s.get(topic, -math.inf) >= _REFUSAL_PERIOD_S:
                self._refused_s[topic] = now_s
                self.get_logger().error(f'{topic}: {error}')
            return
        if transitions:
            self._buffer.extend(transitions)
            self._num_of_run += len(transitions)
        self.on_timer()

    def _on_report(self, report: EpisodeReport) -> list[Transition]:
        weights = self._task.weights_of(report.weights)
        if self._steps_told < 0 < report.all_steps and self._model_path:
            self.get_logger().warning(f'started in the middle of a run, at step {report.all_steps}; '
                                      f'taking model and experience from {self._model_path.parent}')
            self._resume_model()
            self._start(self._load_run, self._take_run)
        if report.all_steps < self._steps_told:
            # The manager has begun a new run; or it has started again, and plays an episode that was not finished anew.
            self._num_of_run = min(self._num_of_run, report.all_steps)
        self._steps_told = report.all_steps
        self._take_weights(weights)
        self._schedule.on_report(report, time.monotonic())
        return self._assembler.on_report(report)

    def _take_weights(self, weights: Config) -> None:
        """Learn with the weights of the newest report from the next round on, and say so if they are new."""
        self._weights = weights
        if self._watch.on_weights(vars(weights), time.monotonic()):
            self._schedule.hurries = self._watch.is_behind
            if self._told:
                self._tell(dataclasses.replace(self._told, changed=False, warnings=()))

    def _begin_with(self, path: Path) -> None:
        """Begin with a model of an earlier run and with its experience."""
        self._before = SavedExperience.load(path, self._task.obs_size, self._task.action_size)
        snapshot = AgentBundle.load(path)
        self._rounds.resume(snapshot, self._before and self._before.learned_stamp_ns)
        self._steps_before = snapshot.card.real_steps
        self._publish_model(snapshot)
        num_before = len(self._before.transitions.obs) if self._before else 0
        self.get_logger().info(f'beginning with {path} and {num_before} transitions of before')

    def _resume_model(self) -> None:
        """Use the model in the output folder if it is newer than the one in use."""
        if self._model_path is None or not self._model_path.exists():
            return
        try:
            snapshot = AgentBundle.load(self._model_path)
            if self._rounds.current and snapshot.version <= self._rounds.current.version:
                return
            self._rounds.resume(snapshot)
        except ModelError as error:
            kept = f'version {self._rounds.current.version}' if self._rounds.current else 'no model'
            self.get_logger().error(f'going on with {kept}: {error}')
            return
        self._publish_model(self._rounds.current)

    def _load(self, paths: Sequence[str | Path], namespace: str | None = None,
              on_damage: Callable[[str], None] | None = None) -> list[Transition]:
        return load_transitions(paths, self._robot, self._task.space, 1.0 / self._config.control_rate_hz, namespace=namespace,
                                config=self._config.assembler, on_damage=on_damage)

    def _load_run(self) -> list[Transition]:
        """Transitions in the running recording since the last reset of the clock."""
        loaded = self._load([self._bag_path], self.get_namespace())
        breaks = [index for index in range(1, len(loaded)) if loaded[index].stamp_ns <= loaded[index - 1].stamp_ns]
        return loaded[breaks[-1]:] if breaks else loaded

    def _take_experience(self, transitions: list[Transition]) -> None:
        """Insert loaded transitions after those of earlier bags and before those of this run."""
        self._buffer.insert(transitions, before=self._num_of_run)
        self.get_logger().info(f'{len(transitions)} transitions loaded from bags')

    def _take_run(self, transitions: list[Transition]) -> None:
        """Insert loaded transitions, without those that have arrived live in the meantime."""
        missed = self._buffer.missing(transitions, self._num_of_run)
        self._take_experience(missed)
        self._num_of_run += len(missed)

    def _train(self, data: Transitions, weights: Config, due: DueRound, stamp_ns: int,
               real_steps: int) -> tuple[TrainingReport, AgentBundle | None]:
        """Run one round in the worker's thread; returns its report, and the model if it was accepted."""
        start_s = time.monotonic()
        self._task.weights = weights  # The learner's reward; it is the same throughout a round.
        rows = self._before.followed_by(data) if self._before else data
        report = self._rounds.round(rows, episode=due.episode, round_index=due.index, stamp_ns=stamp_ns,
                                     real_steps=self._steps_before + real_steps, weights=vars(weights),
                                     is_cancelled=self._closing.is_set)
        snapshot = self._rounds.current if report.accepted else None
        if snapshot and self._model_path:
            try:
                snapshot.save(self._model_path)
            except ModelError as error:
                self.get_logger().error(f'model is published but not kept: {error}')
        return dataclasses.replace(report, duration_s=time.monotonic() - start_s), snapshot

    def _take_report(self, outcome: tuple[TrainingReport, AgentBundle | None]) -> None:
        report, snapshot = outcome
        if snapshot:
            self._publish_model(snapshot)
        self._watch.on_round(time.monotonic())
        self._schedule.hurries = self._watch.is_behind and report.accepted
        self._tell(report)
        self.get_logger().info(f'round on {report.num_transitions} transitions, {report.duration_s:.1f} s: {report.reason}')
        for warning in report.warnings:
            self.get_logger().warning(warning)

    def _tell(self, report: TrainingReport) -> None:
        """Publish a report, and put it into the status."""
        report, before = self._watch.marked(report), self._told.following if self._told else ''
        self._told = report
        if report.following != before:
            self.get_logger().info(report.following)
        self._training_pub.publish(convert.report_to_msg(report))
        is_as_wanted = report.accepted or not report.num_transitions  # Without any there was no round.
        level = diagnostics.OK if is_as_wanted and not (report.changed or report.retraining) else diagnostics.WARN
        self._diagnostics.update('training', level, report.following if report.retraining else report.reason,
                                 model_version=report.model_version, trained_episode=report.trained_episode,
                                 num_transitions=report.num_transitions, holdout_rmse=report.holdout_rmse,
                                 duration_s=report.duration_s, changed=report.changed, follow_s=report.follow_s,
                                 dropped={**self._assembler.dropped, 'the arm was held': self._num_held})

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _publish_model(self, snapshot: AgentBundle) -> None:
        self._model_pub.publish(convert.bytes_to_msg(snapshot.to_bytes()))

    def _start(self, work: Callable[[], Any], finish: Callable[[Any], None]) -> None:
        """Run `work` in the worker's thread, and then `finish` with its result in the executor's thread."""
        job = self._worker.submit(work)
        self._jobs.append((job, finish))
        job.add_done_callback(lambda _: self._job_done.trigger())
