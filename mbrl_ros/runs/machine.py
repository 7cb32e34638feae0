"""The episode state machine: reset, goal, explore or run, stop, learn, again.

Once a control tick it makes an `EpisodeReport`, which states what the arm is to do from then on. A lost or repeated report
therefore does no harm, and a restarted controller knows at once what to do. Every decision follows from states, training
reports and reset replies, never from the time of their arrival.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import GoalError, PhaseError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.runs.holds import CountedSteps, HoldRecord
from mbrl_ros.runs.progress import TaskProgress
from mbrl_ros.runs.rest import RestWatch
from mbrl_ros.tasks.task import Task
from mbrl_ros.types import EpisodeReport, Phase, RobotState, TrainingReport

_NANOSECONDS = 1_000_000_000
#: If a state is repeated this often, simulated time stands still; fewer repeats may come from a slow sender.
_STANDING_REPEATS = 3


@dataclasses.dataclass(frozen=True)
class EpisodeConfig(Config):
    """Settings of the episodes."""

    control_rate_hz: float = setting(20.0, 'Rate of control steps.', unit='Hz', low=1.0, high=1000.0)
    episodes: int = setting(32, 'Episodes to run; 0 goes on until stopped.', low=0)
    demonstrations: int = setting(0, 'First episodes, which somebody demonstrates.', low=0)
    exploration_episodes: int = setting(2, 'Episodes of random motion after those.', low=0)
    max_episode_steps: int = setting(50, 'Control steps after which an episode ends.', low=1)
    max_total_steps: int = setting(0, 'Control steps after which no further episode begins; 0 for no bound.', low=0)
    max_held_steps: int = setting(200, 'Control steps in which the arm is held, and which do not count, until an episode ends.',
                                  low=1)
    standing_rad: float = setting(0.005, 'Motion of a joint within standing_steps up to which the arm stands.', unit='rad',
                                  low=1e-4)
    standing_steps: int = setting(8, 'Consecutive control steps in which the arm has to stand.', low=1)
    home_tolerance_rad: float = setting(0.02, 'Joint error below which the arm is home.', unit='rad', low=1e-4)
    phase_timeout_s: float = setting(10.0, 'Longest time to come to a stop, or on the way home without coming nearer, by the '
                                           'stamps.', unit='s', low=0.1)
    homing_pause_s: float = setting(30.0, 'Pause after a way home in vain until the next attempt; with wait_for_operator, only '
                                          '~/proceed ends it.', unit='s', low=0.1)
    wait_for_training: bool = setting(True, 'Whether the next episode waits for the model to learn from the last.')
    training_timeout_s: float = setting(60.0, 'Longest wait for the trainer, by the wall clock.', unit='s', low=0.1)
    wait_for_operator: bool = setting(False, 'Whether a person has to call ~/proceed before each episode.')


class Counts(NamedTuple):
    """What an earlier manager has counted in the same run.

    Attributes:
        episodes: Finished episodes.
        total_steps: Their control steps, without those in which the arm was held.
        held_steps: Their control steps in which the arm was held.
    """

    episodes: int = 0
    total_steps: int = 0
    held_steps: int = 0


_NEW_RUN = Counts()


class EpisodeMachine:
    """Runs the episodes of one task; the goal of episode `i` is drawn from `(seed, i)`.

    Between episodes the driver resets the world if `can_reset` is true. Otherwise the arm drives home. If it does not get there,
    it waits and tries again.

    Args:
        robot: Profile of the arm.
        task: Task to pursue; the machine owns the weights of its reward.
        config: Settings.
        seed: Seed of the goals.
        can_reset: Whether the driver can reset the world.
        counts: Where to go on with counting.
    """

    def __init__(self, robot: RobotProfile, task: Task, config: EpisodeConfig, *, seed: int, can_reset: bool,
                 counts: Counts = _NEW_RUN) -> None:
        self._robot = robot
        self._task = task
        self._config = config
        self._seed = seed
        self._can_reset = can_reset
        self._period_ns = round(_NANOSECONDS / config.control_rate_hz)
        self._phase = Phase.WAITING
        self._start_ns = 0
        self._next_tick_ns = 0
        self._episode = counts.episodes - 1
        self._total_steps, self._held_steps = counts.total_steps, counts.held_steps
        self._held_before = counts.held_steps
        self._progress = TaskProgress(task, 1.0 / config.control_rate_hz, config.max_episode_steps)
        self._holds = HoldRecord()
        self._rest = RestWatch(robot, standing_rad=config.standing_rad, standing_steps=config.standing_steps,
                               home_tolerance_rad=config.home_tolerance_rad)
        self._reason, self._is_lost = '', False
        self._goal_stamp_ns = 0
        self._training: TrainingReport | None = None
        self._fresh_ns: int | None = None
        self._training_deadline_s: float | None = None
        self._operator_ready = not config.wait_for_operator
        self._state: RobotState | None = None
        self._first_ns = 0
        self._spoken_ns = -1
        self._repeats = 0
        self._is_abandoned = True  # There is no episode of this manager yet that could be learned from.
        self._is_stopped = False

    @property
    def phase(self) -> Phase:
        """What the arm is to do now."""
        return self._phase

    @property
    def wants_reset(self) -> bool:
        """Whether the world is to be reset and no reply has come yet."""
        return self._phase is Phase.RESETTING and self._fresh_ns is None

    @property
    def reason(self) -> str:
        """What went wrong before this phase, or what it waits for, in words; empty for nothing."""
        if self._reason or self._phase is not Phase.WAITING:
            return self._reason
        if self._is_stopped:
            return 'the emergency stop is pressed'
        return '' if self._operator_ready else 'a person has to call ~/proceed'

    @property
    def was_held_too_long(self) -> bool:
        """Whether the arm was held in `max_held_steps` of the newest episode."""
        return self._held_steps - self._held_before >= self._config.max_held_steps

    @property
    def report(self) -> EpisodeReport | None:
        """Newest report; None before the first state."""
        if self._state is None:
            return None
        progress = self._progress
        needed = self._model_version() if self._phase is Phase.RUNNING and self._config.wait_for_training else 0
        return EpisodeReport(
            stamp_ns=self._state.stamp_ns, phase=self._phase, start_ns=self._start_ns, episode=max(self._episode, 0),
            step=progress.step, total_steps=self._total_steps, reward=progress.reward, episode_return=progress.episode_return,
            distance_m=progress.distance_m, success=progress.success, goal_m=tuple(map(float, progress.goal)),
            goal_stamp_ns=self._goal_stamp_ns, model_version=needed, held_steps=self._held_steps, reason=self.reason,
            weights=dict(vars(self._task.weights)))

    def on_state(self, state: RobotState, clock_ns: int | None = None) -> EpisodeReport | None:
        """Take a state; on a control tick, return a report.

        Ticks that had no state of their own count with this state and get its reward. Steps in which the arm was held are
        uncounted one tick later. `clock_ns` is as for `RobotState.precedes_clock_reset`.

        Raises:
            MeasurementError: The state lacks a joint of the arm.
        """
        state.positions(self._robot.joints)
        before = self._state
        if before is not None and state.stamp_ns < before.stamp_ns:
            return self._go_on_from(state) if state.precedes_clock_reset(before, clock_ns) else None
        if before is not None and state.stamp_ns == before.stamp_ns:
            return self._on_repeat()
        self._state, self._repeats = state, 0
        if before is None:
            self._first_ns = state.stamp_ns
            # An earlier manager may have left the arm in motion; the world is only reset while the arm stands.
            self._go_on() if self._is_slow() else self._enter(Phase.STOPPING)
        elif self._phase is Phase.RESETTING and self._is_fresh() and before.stamp_ns < self._fresh_ns:
            self._begin_when_allowed()
        elif state.stamp_ns < self._next_tick_ns:
            return None
        else:
            steps = 1 + (state.stamp_ns - self._next_tick_ns) // self._period_ns
            self._next_tick_ns += steps * self._period_ns
            self._tick(steps)
        return self._speak()

    def on_training(self, training: TrainingReport) -> EpisodeReport | None:
        """Take a training report; it may end the wait for training.

        A restarted trainer reports no trained episode. Such a report does not replace an earlier one, whose model stays in use.
        """
        if training.trained_episode >= 0 or self._training is None:
            self._training = training
        if self._phase is Phase.TRAINING and self._trained_episode() >= self._episode:
            self._go_on()
            return self._speak()
        return None

    def on_reset(self, fresh_ns: int | None) -> EpisodeReport | None:
        """Take the reset's reply: the stamp from which the world is fresh, or None after a failure; then the arm drives home."""
        if self._phase is not Phase.RESETTING:
            return None
        self._fresh_ns = fresh_ns
        if fresh_ns is None:
            self._enter(Phase.HOMING)
        elif not self._is_fresh() or self._spoken_ns < self._state.stamp_ns:
            return None  # In lockstep the controller only reads reports of ticks, so an episode begins on a tick.
        else:
            self._begin_when_allowed()
        return self._speak()

    def on_goal(self, point_m: np.ndarray, stamp_ns: int) -> None:
        """Take a goal from outside, shape (3,), metres; it holds for the running episode from the next tick on.

        Raises:
            GoalError: The goal is out of reach, or no episode is running.
        """
        if reason := self._task.goal_refusal(np.asarray(point_m)):
            raise GoalError(reason)
        if not self._phase.is_episode:
            raise GoalError(f'a goal can be changed while an episode runs; the phase is {self._phase.value!r}')
        self._progress.aim(point_m)
        self._goal_stamp_ns = stamp_ns

    def on_weights(self, weights: Config) -> EpisodeReport | None:
        """Take new weights of the reward, which hold from the next tick on.

        A state that was reported already is reported anew, because while simulated time stands there is no next tick.
        """
        self._task.weights = weights
        return self.report if self._state is not None and self._spoken_ns == self._state.stamp_ns else None

    def on_controller(self, stamp_ns: int, is_held: bool) -> None:
        """Take what the controller says of its tick at a stamp: whether it held the arm, for no reason of the agent."""
        self._holds.note(stamp_ns, is_held)

    def on_emergency_stop(self, is_pressed: bool) -> None:
        """Note whether the emergency stop is pressed; no episode begins while it is."""
        self._is_stopped = is_pressed

    def on_operator(self) -> EpisodeReport | None:
        """Take a person's permission for the one episode that is waited with, or for another attempt to get home.

        Raises:
            PhaseError: Nobody waits for a person.
        """
        if self._phase is not Phase.WAITING or self._state is None:
            raise PhaseError(f'call this while the episode manager waits for a person; its phase is {self._phase.value!r}')
        if self._is_stopped:
            raise PhaseError('the emergency stop is pressed; release it first, then call this')
        if self._is_lost:
            self._put_back()
        elif self._operator_ready:
            raise PhaseError('nobody waits for a person: the next episode may begin already')
        else:
            self._operator_ready = True
            if self._spoken_ns < self._state.stamp_ns:
                return None  # As after a reset, an episode begins on a tick.
            self._begin_when_allowed()
        return self._speak()

    def on_clock(self, now_s: float) -> EpisodeReport | None:
        """Limit the wait for training by the wall clock; call it regularly with a steady time."""
        if self._phase is not Phase.TRAINING:
            self._training_deadline_s = None
            return None
        if self._training_deadline_s is None:
            self._training_deadline_s = now_s + self._config.training_timeout_s
        if now_s < self._training_deadline_s:
            return None
        self._go_on()
        return self._speak()

    def _go_on_from(self, state: RobotState) -> EpisodeReport:
        """Start again from the first state after the clock was set back; the world is new, so a running episode ends.

        The arm stops first, because until it is told to, the controller moves the new world as it moved the old one.
        """
        self._state, self._first_ns, self._repeats = state, 0, 0
        self._holds.clear()
        if self._phase.is_episode or self._phase is Phase.STOPPING:
            self._is_abandoned = True
            self._enter(Phase.STOPPING)
        elif self._phase in (Phase.RESETTING, Phase.HOMING):
            self._put_back()
        else:
            self._enter(self._phase)
        return self._speak()

    def _on_repeat(self) -> EpisodeReport | None:
        """Tick on a repeated state: if simulated time stands still between two ticks, all nodes are waiting for a report."""
        self._repeats += 1
        if self._repeats < _STANDING_REPEATS or self._spoken_ns == self._state.stamp_ns:
            return None
        self._next_tick_ns = self._state.stamp_ns + self._period_ns
        self._tick()
        return self._speak()

    def _tick(self, steps: int = 1) -> None:
        self._rest.note(self._state)
        for held in self._holds.take_held(self._state.stamp_ns):
            self._uncount(held)
        if self._phase.is_episode:
            self._count(steps)
        elif self._phase is Phase.STOPPING:
            self._come_to_a_stop()
        elif self._phase is Phase.HOMING:
            self._come_home()
        elif self._phase is Phase.WAITING and self._is_lost:
            is_over = self._rest.elapsed_s >= self._config.homing_pause_s
            if is_over and not self._is_stopped and not self._config.wait_for_operator:
                self._put_back()
        elif self._phase is Phase.WAITING or (self._phase is Phase.RESETTING and self._is_fresh()):
            self._begin_when_allowed()

    def _count(self, steps: int) -> None:
        """Count control steps of the episode, and end it after the last."""
        progress, before = self._progress, self._progress.step
        progress.advance(self._task.space.observe(self._state), steps)
        counted = progress.step - before
        self._total_steps += counted
        now_ns = self._state.stamp_ns
        self._holds.count(CountedSteps(now_ns - steps * self._period_ns, now_ns, counted, progress.reward))
        if progress.is_over or self.was_held_too_long:
            self._enter(Phase.STOPPING)

    def _uncount(self, held: CountedSteps) -> None:
        """Count control steps apart, in which the arm turned out to be held."""
        self._progress.withdraw(held.count, held.reward)
        self._total_steps -= held.count
        self._held_steps += held.count

    def _come_to_a_stop(self) -> None:
        """Go on once the arm stands; one that never does must not end the episodes."""
        rest, reason = self._rest, ''
        if not rest.stands:
            if rest.elapsed_s <= self._config.phase_timeout_s:
                return
            reason = f'stopping for {rest.elapsed_s:.0f} s: {rest.describe(on_the_way_home=False)}'
        self._enter(Phase.TRAINING)
        must_wait = self._config.wait_for_training and self._trained_episode() < self._episode
        if self._is_abandoned or not must_wait:
            self._go_on()
        self._reason = reason

    def _come_home(self) -> None:
        """Begin once the arm stands at home; if it comes no nearer, wait."""
        rest = self._rest
        if rest.is_home and rest.stands:
            self._begin_when_allowed()
        elif rest.stuck_s > self._config.phase_timeout_s:
            reason = f'homing for {rest.elapsed_s:.0f} s: {rest.describe(on_the_way_home=True)}'
            self._enter(Phase.WAITING)
            self._reason, self._is_lost = reason, True

    def _trained_episode(self) -> int:
        """Newest episode trained on; -1 if the report is older than the first state and so counts another manager's episodes."""
        training = self._training
        return training.trained_episode if training and training.stamp_ns >= self._first_ns else -1

    def _go_on(self) -> None:
        """Prepare the next episode, or finish after the last."""
        config = self._config
        if 0 < config.episodes <= self._episode + 1 or 0 < config.max_total_steps <= self._total_steps:
            self._enter(Phase.FINISHED)
        else:
            self._put_back()

    def _put_back(self) -> None:
        self._fresh_ns = None
        self._enter(Phase.RESETTING if self._can_reset else Phase.HOMING)

    def _is_fresh(self) -> bool:
        return self._fresh_ns is not None and self._state.stamp_ns >= self._fresh_ns

    def _begin_when_allowed(self) -> None:
        if self._is_stopped or not self._operator_ready:
            if self._phase is not Phase.WAITING:
                self._enter(Phase.WAITING)
        elif self._fresh_ns is None and not self._rest.is_home:
            self._put_back()  # It was moved while it waited.
        else:
            self._operator_ready = not self._config.wait_for_operator
            self._begin_episode()

    def _begin_episode(self) -> None:
        config = self._config
        self._episode += 1
        self._is_abandoned, self._held_before = False, self._held_steps
        goal = self._task.sample_goal(np.random.default_rng([self._seed, self._episode]), self._state)
        self._progress.begin(goal, self._task.space.observe(self._state))
        self._goal_stamp_ns = self._state.stamp_ns
        if self._episode < config.demonstrations:
            self._enter(Phase.DEMONSTRATED)
        elif self._episode < config.demonstrations + config.exploration_episodes or self._model_version() == 0:
            self._enter(Phase.EXPLORING)
        else:
            self._enter(Phase.RUNNING)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._start_ns = self._state.stamp_ns
        self._next_tick_ns = self._start_ns + self._period_ns
        self._rest.restart(self._state)
        self._reason, self._is_lost = '', False

    def _is_slow(self) -> bool:
        """Whether the velocities alone say that the arm stands."""
        fastest = self._config.standing_rad / (self._config.standing_steps * self._period_ns / _NANOSECONDS)
        return bool(np.abs(self._state.velocities(self._robot.joints)).max() <= fastest)

    def _model_version(self) -> int:
        return self._training.model_version if self._training else 0

    def _speak(self) -> EpisodeReport:
        self._spoken_ns = self._state.stamp_ns
        return self.report
