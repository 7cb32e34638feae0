"""The episode state machine: reset, goal, explore or run, stop, learn, again.

Once a control tick it makes an `EpisodeReport`, which states what the arm is to do from then on. A lost or repeated report
therefore does no harm, and a restarted controller knows at once what to do. Every decision follows from states, training
reports and reset replies, never from the time of their arrival.
"""

import dataclasses

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import GoalError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.runs.progress import TaskProgress
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
    standing_rad_s: float = setting(0.01, 'Joint speed below which the arm stands.', unit='rad/s', low=1e-4)
    standing_steps: int = setting(8, 'Consecutive control steps below standing_rad_s before the world is reset.', low=1)
    home_tolerance_rad: float = setting(0.02, 'Joint error below which the arm is home.', unit='rad', low=1e-4)
    phase_timeout_s: float = setting(10.0, 'Longest time to come to a stop, by the stamps.', unit='s', low=0.1)
    wait_for_training: bool = setting(True, 'Whether the next episode waits for the model to learn from the last.')
    training_timeout_s: float = setting(60.0, 'Longest wait for the trainer, by the wall clock.', unit='s', low=0.1)
    wait_for_operator: bool = setting(False, 'Whether a person has to call ~/proceed before each episode.')


class EpisodeMachine:
    """Runs the episodes of one task; the goal of episode `i` is drawn from `(seed, i)`.

    Between episodes the driver resets the world if `can_reset` is true. Otherwise the arm drives home.
    """

    def __init__(self, robot: RobotProfile, task: Task, config: EpisodeConfig, *, seed: int, can_reset: bool) -> None:
        self._robot = robot
        self._task = task
        self._config = config
        self._seed = seed
        self._can_reset = can_reset
        self._period_ns = round(_NANOSECONDS / config.control_rate_hz)
        self._phase = Phase.WAITING
        self._start_ns = 0
        self._next_tick_ns = 0
        self._episode = -1
        self._total_steps = 0
        self._progress = TaskProgress(task, 1.0 / config.control_rate_hz, config.max_episode_steps)
        self._standing = 0
        self._goal_stamp_ns = 0
        self._training: TrainingReport | None = None
        self._fresh_ns: int | None = None
        self._training_deadline_s: float | None = None
        self._operator_ready = not config.wait_for_operator
        self._state: RobotState | None = None
        self._first_ns = 0
        self._spoken_ns = -1
        self._repeats = 0
        self._is_abandoned = False
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
            goal_stamp_ns=self._goal_stamp_ns, model_version=needed)

    def on_state(self, state: RobotState, clock_ns: int | None = None) -> EpisodeReport | None:
        """Take a state; on a control tick, return a report.

        Ticks that had no state of their own count with this state and get its reward. `clock_ns` is as for
        `RobotState.precedes_clock_reset`.

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
            self._put_back() if self._is_slow() else self._enter(Phase.STOPPING)
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
            return self._after_training()
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

    def on_emergency_stop(self, is_pressed: bool) -> None:
        """Note whether the emergency stop is pressed; no episode begins while it is."""
        self._is_stopped = is_pressed

    def on_operator(self) -> EpisodeReport | None:
        """Take a person's permission for the next episode."""
        self._operator_ready = True
        if self._phase is not Phase.WAITING or self._state is None:
            return None
        self._begin_when_allowed()
        return self._speak()

    def on_clock(self, now_s: float) -> EpisodeReport | None:
        """Limit the wait for training by the wall clock; call it regularly with a steady time."""
        if self._phase is not Phase.TRAINING:
            self._training_deadline_s = None
            return None
        if self._training_deadline_s is None:
            self._training_deadline_s = now_s + self._config.training_timeout_s
        return self._after_training() if now_s >= self._training_deadline_s else None

    def _go_on_from(self, state: RobotState) -> EpisodeReport:
        """Start again from the first state after the clock was set back; the world is new, so a running episode ends.

        The arm stops first, because until it is told to, the controller moves the new world as it moved the old one.
        """
        self._state, self._first_ns, self._repeats = state, 0, 0
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
        if self._phase.is_episode:
            before = self._progress.step
            self._progress.advance(self._task.space.observe(self._state), steps)
            self._total_steps += self._progress.step - before
            if self._progress.is_over:
                self._enter(Phase.STOPPING)
        elif self._phase is Phase.STOPPING:
            elapsed_ns = self._state.stamp_ns - self._start_ns
            if self._stands() or elapsed_ns > self._config.phase_timeout_s * _NANOSECONDS:
                self._enter(Phase.TRAINING)
                must_wait = self._config.wait_for_training and self._trained_episode() < self._episode
                if self._is_abandoned or not must_wait:
                    self._after_training()
        elif self._phase is Phase.HOMING:
            error = np.abs(self._robot.way_home(self._state.positions(self._robot.joints))).max()
            if error <= self._config.home_tolerance_rad and self._stands():
                self._begin_when_allowed()
        elif self._phase is Phase.WAITING or (self._phase is Phase.RESETTING and self._is_fresh()):
            self._begin_when_allowed()

    def _trained_episode(self) -> int:
        """Newest episode trained on; -1 if the report is older than the first state and so counts another manager's episodes."""
        training = self._training
        return training.trained_episode if training and training.stamp_ns >= self._first_ns else -1

    def _after_training(self) -> EpisodeReport:
        config = self._config
        if 0 < config.episodes <= self._episode + 1 or 0 < config.max_total_steps <= self._total_steps:
            self._enter(Phase.FINISHED)
        else:
            self._put_back()
        return self._speak()

    def _put_back(self) -> None:
        self._fresh_ns = None
        self._enter(Phase.RESETTING if self._can_reset else Phase.HOMING)

    def _is_fresh(self) -> bool:
        return self._fresh_ns is not None and self._state.stamp_ns >= self._fresh_ns

    def _begin_when_allowed(self) -> None:
        if self._operator_ready and not self._is_stopped:
            self._operator_ready = not self._config.wait_for_operator
            self._begin_episode()
        elif self._phase is not Phase.WAITING:
            self._enter(Phase.WAITING)

    def _begin_episode(self) -> None:
        config = self._config
        self._episode += 1
        self._is_abandoned = False
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
        self._standing = 0

    def _stands(self) -> bool:
        self._standing = self._standing + 1 if self._is_slow() else 0
        return self._standing >= self._config.standing_steps

    def _is_slow(self) -> bool:
        return bool(np.abs(self._state.velocities(self._robot.joints)).max() <= self._config.standing_rad_s)

    def _model_version(self) -> int:
        return self._training.model_version if self._training else 0

    def _speak(self) -> EpisodeReport:
        self._spoken_ns = self._state.stamp_ns
        return self.report
