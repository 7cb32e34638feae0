"""The command guard: the last word before the driver, at the driver's rate.

The controller asks for a velocity once a control period. The guard fills the time in between within the limits of velocity,
acceleration and jerk, compares what the arm was told with what it does, and brakes the arm when commands cease. It plans
nothing and waits for nobody; the same object runs in the `command_guard` node and in the loop without ROS.
"""

import dataclasses
import math

import numpy as np

from mbrl_ros.config import Config, section, setting
from mbrl_ros.control.safety.command_filter import HOLD_PERIODS, CommandFilter, CommandFilterConfig
from mbrl_ros.control.safety.following import FollowingConfig, FollowingWatch
from mbrl_ros.control.safety.hold import EmergencyStop, StopSequence
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.control.safety.reference import PositionReference
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import AppliedCommand, RobotState

#: Periods of the guard for which a command has to be safe: the next one may be late by one.
_LATE_PERIODS = 2.0
#: Longest rest after holds in a row, where positions stay the same to the last bit: an arm that moves would do so unseen.
_UNSEEN_SETTLE_S = 30.0
#: Speed, in velocity limits, that a standing arm does not reach between two measurements by itself.
_PUT_SPEED = 2.0


@dataclasses.dataclass(frozen=True)
class GuardConfig(Config):
    """When the guard lets a command through, and when it brakes."""

    command_periods: float = setting(HOLD_PERIODS, 'Silence of the controller after which the arm brakes.', low=1.0, high=100.0,
                                     unit='control periods')
    ramp_s: float = setting(0.05, 'Time for the way to a commanded velocity, at an even acceleration; at most a control period.',
                            unit='s', low=0.0, high=1.0)
    max_state_age_s: float = setting(0.1, 'Oldest joint state by which the arm moves.', unit='s', low=0.001, high=5.0)
    max_state_future_s: float = setting(0.05, 'How far in the future a joint state may be stamped.', unit='s', low=0.0, high=5.0)
    slow_from: float = setting(0.5, 'Share of max_state_age_s from which the arm slows down, to stand at the whole of it.',
                               low=0.0, high=1.0)
    standing_s: float = setting(0.3, 'Time for which a stopped arm is told to stand, before silence.', unit='s', low=0.01,
                                high=60.0)
    safety: CommandFilterConfig = section(CommandFilterConfig, 'The command filter.')
    following: FollowingConfig = section(FollowingConfig, 'Whether the arm follows.')


@dataclasses.dataclass(frozen=True)
class GuardOutcome:
    """What one tick of the guard decided.

    Attributes:
        velocity: What the driver is told until the next tick, shape (J,), rad/s; None for silence.
        start: Reference position at this tick, shape (J,), rad; None for silence, or where no joint state has arrived.
        before: Velocity that the driver was told until this tick, shape (J,), rad/s.
        applied: What a control period that has now ended came to; None while one lasts.
        hold: Why the guard brakes; None while it follows the controller.
        detail: The figures behind the hold; may be empty.
        clamped: Rules of the command filter that acted.
    """

    velocity: np.ndarray | None
    start: np.ndarray | None
    before: np.ndarray
    applied: AppliedCommand | None
    hold: HoldReason | None
    detail: str
    clamped: tuple[str, ...]


class CommandGuard:
    """Follows the controller's commands as far as they are safe.

    Args:
        robot: Profile with a resolved URDF.
        config: Settings.
        period_s: Period of the guard.
        control_period_s: Period of the controller.
        latency_s: From sending a command to the arm obeying it.
        late_s: Silence after which the driver stops by itself; 0 where it never does.
        lockstep: Whether time moves only with commands, so that nothing is ever late.
        emergency_stop: The latch to obey; its own when left out.

    Attributes:
        hold_s: Time for which each of its commands is safe to go on.

    Raises:
        ConfigError: The robot's URDF cannot be used.
    """

    def __init__(self, robot: RobotProfile, config: GuardConfig, *, period_s: float, control_period_s: float,
                 latency_s: float = 0.0, late_s: float = 0.0, lockstep: bool = False,
                 emergency_stop: EmergencyStop | None = None) -> None:
        self.emergency_stop = emergency_stop or EmergencyStop()
        self._robot, self._config, self._lockstep = robot, config, lockstep
        self._period_s, self._control_period_s, self._latency_ns = period_s, control_period_s, round(latency_s * 1e9)
        self.hold_s = _LATE_PERIODS * period_s + latency_s
        self._filter = CommandFilter(robot, config.safety, late_s)
        self._following = FollowingWatch(robot.joints, config.following)
        self._stop = StopSequence(max(1, round(config.standing_s / period_s)))
        self._reference = PositionReference()
        self._last_tick_of_period_ns = round((control_period_s - 1.5 * period_s) * 1e9)
        self._speed_limits = config.following.max_speed_factor * np.array(robot.max_velocity_rad_s)
        self.reset()

    @property
    def response_s(self) -> float:
        """Time by which the arm follows late, as identified; NaN before it moved."""
        return self._following.response_s

    def configure(self, config: GuardConfig) -> None:
        """Take over the settings that may change between two ticks."""
        self._filter.velocity_scale = config.safety.velocity_scale

    def reset(self) -> None:
        """Begin anew with an arm that stands, wherever it is."""
        self._filter.restart(np.zeros(len(self._robot.joints)))
        self._following.reset()
        self._reference.rest()
        self._command: AppliedCommand | None = None
        self._accepted_ns = 0
        #: The command of the control period that lasts, and when it began; None between commands.
        self._begun: AppliedCommand | None = None
        self._begun_ns = 0
        self._recorded: AppliedCommand | None = None
        self._fault: tuple[HoldReason, str] | None = None
        self._fault_end_ns, self._settle_s, self._is_stalled = 0, 0.0, False
        self._last_tick_ns: int | None = None
        self._is_resting = True
        self._seen: RobotState | None = None

    def accept(self, command: AppliedCommand, now_ns: int) -> None:
        """Take the controller's newest command.

        Args:
            command: Wanted velocities of the robot's joints in its order; not trusted.
            now_ns: When it arrived, by the clock of `tick`.
        """
        self._command, self._accepted_ns = command, now_ns

    def dismiss(self) -> None:
        """Forget the controller's command: the arm brakes."""
        self._command = None

    def tick(self, now_ns: int, state: RobotState | None, other_commanders: str = '',
             inactive_controller: str = '') -> GuardOutcome:
        """Decide what the driver is told until the next tick.

        Args:
            now_ns: The time, by the clock of the states' stamps.
            state: Newest measured positions and velocities of the arm's joints, if any.
            other_commanders: Who else commands the arm, in words; empty for nobody.
            inactive_controller: The driver's controller, in words, while it takes no commands; empty while it does.
        """
        late = self._lateness(now_ns, state)
        hold, detail = self._reason_to_hold(now_ns, state, other_commanders, inactive_controller, late)
        if hold is None and not self._filter.previous.any():
            self._start_from(state)
        applied = self._begin_period(now_ns, hold)
        before, clamped = self._filter.previous, ()
        if hold is None:
            at = state.positions(self._robot.joints) + self._following.pending(state.stamp_ns, now_ns)
            share = self._share(now_ns, state)
            filtered = self._filter.apply(share * self._command.velocity, at, self._period_s, self.hold_s,
                                          within_s=self._ramp_s(now_ns) if share == 1.0 else 0.0)
            velocity, clamped = filtered.velocity, filtered.clamped
            if filtered.refusal:
                hold, detail = HoldReason.COMMAND_REFUSED, filtered.refusal
                self._note_held()
            self._stop.restart()
        else:
            velocity = self._stopping(hold)
        if now_ns - self._begun_ns >= self._last_tick_of_period_ns:
            applied = self._end_period() or applied
        start = self._refer(now_ns, state, before, velocity)
        return GuardOutcome(velocity, start, before, applied, hold, detail, clamped)

    def _ramp_s(self, now_ns: int) -> float:
        """Time left for the way to the wanted velocity, in whole periods of the guard."""
        left_s = min(self._config.ramp_s, self._control_period_s) - (now_ns - self._accepted_ns) * 1e-9
        return self._period_s * round(left_s / self._period_s)

    def _share(self, now_ns: int, state: RobotState) -> float:
        """Share of the wanted velocity that a state of this age allows."""
        share = (now_ns - state.stamp_ns) * 1e-9 / self._config.max_state_age_s
        return 1.0 if self._lockstep else float(np.clip((1.0 - share) / (1.0 - self._config.slow_from + 1e-9), 0.0, 1.0))

    def _lateness(self, now_ns: int, state: RobotState | None) -> str:
        """After a gap in the ticks the arm goes on from its measured velocity; the gap in words, or ''.

        A clock that was set back is a gap, too. In lockstep a gap is a world that was put back: the arm rests.
        """
        if state is None:
            return ''
        last_ns, self._last_tick_ns = self._last_tick_ns, now_ns
        gap_s = (now_ns - last_ns) * 1e-9 if last_ns is not None else math.inf
        if 0.0 <= gap_s <= self._control_period_s:
            return ''
        if self._lockstep:
            command = self._command
            self.reset()
            self._command, self._last_tick_ns = command, now_ns
            return ''
        if last_ns is not None and self._is_resting:
            return ''
        self._filter.restart(state.velocities(self._robot.joints))
        self._following.reset()
        self._stop.restart()
        self._command = None
        return 'the first tick' if last_ns is None else f'{gap_s:.3f} s after the tick before'

    def _reason_to_hold(self, now_ns: int, state: RobotState | None, other_commanders: str, inactive_controller: str,
                        late: str) -> tuple[HoldReason | None, str]:
        untimely = self._untimely(now_ns, state)
        if untimely is None:
            self._watch(now_ns, state)
        if self.emergency_stop.is_pressed:
            return HoldReason.EMERGENCY_STOP, ''
        if other_commanders:
            return HoldReason.OTHER_COMMANDER, other_commanders
        if inactive_controller:
            return HoldReason.CONTROLLER_INACTIVE, inactive_controller
        if untimely is not None:
            return untimely
        if self._fault is not None:
            return self._fault
        if late:
            return HoldReason.LATE_TICK, late
        silent_s = (now_ns - self._accepted_ns) * 1e-9
        if self._command is None or (silent_s > self._config.command_periods * self._control_period_s and not self._lockstep):
            return HoldReason.NO_COMMAND, ''
        return None, ''

    def _untimely(self, now_ns: int, state: RobotState | None) -> tuple[HoldReason, str] | None:
        """The hold for want of a state of this moment; in lockstep any state is."""
        if state is None:
            return HoldReason.NO_STATE, ''
        age_s = (now_ns - state.stamp_ns) * 1e-9
        if age_s > self._config.max_state_age_s and not self._lockstep:
            return HoldReason.STALE_STATE, f'{age_s:.3f} s old, at most {self._config.max_state_age_s:g} s is allowed'
        if -age_s > self._config.max_state_future_s and not self._lockstep:
            return HoldReason.FUTURE_STATE, f'{-age_s:.3f} s ahead, at most {self._config.max_state_future_s:g} s is allowed'
        return None

    def _watch(self, now_ns: int, state: RobotState) -> None:
        """Compare the newest state with the command; a fault holds the arm until it has been away for a while.

        An arm that nobody commands may be put elsewhere by hand.
        """
        if self._fault is not None and now_ns >= self._fault_end_ns:
            self._fault = None
        if self._begun is None:
            return
        speeds = np.abs(state.velocities(self._robot.joints))
        worst = int(np.argmax(speeds - self._speed_limits))
        if speeds[worst] > self._speed_limits[worst]:
            self._begin_fault(now_ns, HoldReason.TOO_FAST, f'{self._robot.joints[worst]} at {speeds[worst]:.2f} rad/s, at most '
                                                           f'{self._speed_limits[worst]:.2f} rad/s is allowed')
        elif self._was_put_elsewhere(state):
            self._following.reset()
        elif detail := self._following.check(state.stamp_ns, state.positions(self._robot.joints)):
            self._is_stalled = self._following.is_stalled(state.velocities(self._robot.joints))
            self._begin_fault(now_ns, HoldReason.NOT_FOLLOWING, detail)

    def _was_put_elsewhere(self, state: RobotState) -> bool:
        """Whether an arm that was told to stand is suddenly elsewhere, as when a simulator puts it back."""
        last, self._seen = self._seen, state
        if last is None or self._filter.previous.any():
            return False
        possible = _PUT_SPEED * np.array(self._robot.max_velocity_rad_s) * (state.stamp_ns - last.stamp_ns) * 1e-9
        moved = np.abs(state.positions(self._robot.joints) - last.positions(self._robot.joints))
        return bool((moved > np.maximum(possible, self._config.following.tolerance_rad)).any())

    def _begin_fault(self, now_ns: int, reason: HoldReason, detail: str) -> None:
        settings = self._config.following
        if self._fault is None:
            is_in_a_row = self._settle_s and (now_ns - self._fault_end_ns) * 1e-9 < self._settle_s
            longest_s = max(settings.max_settle_s, _UNSEEN_SETTLE_S) if self._following.is_still else settings.max_settle_s
            self._settle_s = min(2.0 * self._settle_s, longest_s) if is_in_a_row else settings.settle_s
            self._fault = reason, detail
        self._fault_end_ns = now_ns + round(self._settle_s * 1e9)

    def _start_from(self, state: RobotState) -> None:
        """An arm that was told to stand begins to move: from where it is, as it is."""
        if self._begun is None:
            self._following.reset()
        if self._is_resting:
            self._is_resting = False
            self._filter.restart(state.velocities(self._robot.joints))

    def _begin_period(self, now_ns: int, hold: HoldReason | None) -> AppliedCommand | None:
        """With another command, or a hold, a control period begins; what the one before came to, if it had not ended."""
        command = self._command if hold is None else None
        if command is self._begun:
            return None
        if hold is not None:
            self._note_held()
        ended = self._end_period()
        self._begun = self._recorded = command
        self._begun_ns = now_ns
        return ended

    def _note_held(self) -> None:
        """Note in the control period that lasts that the arm was held."""
        if self._recorded is not None:
            self._recorded = dataclasses.replace(self._recorded, is_held=True)

    def _end_period(self) -> AppliedCommand | None:
        """What the control period came to for the arm: the velocity that was reached; None where that was said already."""
        ended, self._recorded = self._recorded, None
        if ended is None:
            return None
        return dataclasses.replace(ended, stamp_ns=self._begun_ns + self._latency_ns, velocity=self._filter.previous)

    def _stopping(self, hold: HoldReason) -> np.ndarray | None:
        """Next velocity of the controlled stop, shape (J,); None for silence. In lockstep time waits for the next command."""
        if not self._reference.is_near:
            return self._filter.brake(self._period_s)
        velocity = self._stop.step(self._filter, self._period_s)
        if velocity is None and self._lockstep and hold is not HoldReason.OTHER_COMMANDER:
            return self._filter.brake(self._period_s)
        return velocity

    def _refer(self, now_ns: int, state: RobotState | None, before: np.ndarray, velocity: np.ndarray | None) -> np.ndarray | None:
        """Note what the driver is told; the reference position that it goes on from, shape (J,)."""
        if velocity is None:
            self._is_resting, self._command = True, None
            self._reference.rest()
            return None
        self._following.told(now_ns, velocity)
        if state is None:
            return None
        return self._reference.advance(0.5 * (before + velocity), self._period_s, state.positions(self._robot.joints),
                                       self._following.lead(now_ns), in_doubt=self._fault is not None and self._is_stalled)
