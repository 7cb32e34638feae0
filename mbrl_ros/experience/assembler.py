"""Transitions from three streams: states, applied commands and episode reports.

The streams come over separate topics, so that any of them may run ahead of the others. What is built depends on the
stamps alone: the same messages give the same transitions in every interleaving, live and from a bag.
"""

import dataclasses
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import MeasurementError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import BODY_JOINTS, TAGS, AppliedCommand, ArmCommand, EpisodeReport, Phase, RobotState, Tag, Transition

if TYPE_CHECKING:
    # Named by annotations alone: what only records need not load torch.
    from mbrl_ros.spaces.space import ActionSpace

#: Phases in which nothing is commanded, so that a missing next command is no reason to wait for it.
_STANDING = (Phase.RESETTING, Phase.TRAINING, Phase.WAITING, Phase.FINISHED)
#: A next command this early, in control periods, means that the one before was not held for its period.
_HELD_FRACTION = 0.9
#: Older than its stream's newest by more than this, a message belongs to a clock that was set back.
_CLOCK_RESET_NS = 1_000_000_000
#: Positions (rad, m) and velocities beyond this are of no arm; one of them would spoil the scales of everything learned.
_IMPLAUSIBLE = 1e3
#: How the names of a tracked body's angles end.
_ANGLES = tuple(f'_{axis}' for axis in BODY_JOINTS[3:])


@dataclasses.dataclass(frozen=True)
class AssemblerConfig(Config):
    """When two states belong together, and how long a stream may lag behind the states."""

    max_gap_s: float = setting(0.05, 'Longest distance between states that may be interpolated.', unit='s', low=0.001, high=1.0)
    jump_factor: float = setting(
        2.0, 'A joint that moves faster than this many times its velocity limit was put elsewhere.', low=1.0)
    jump_margin_rad: float = setting(0.05, 'Movement between two states that is never a jump.', unit='rad or m', low=0.0)
    max_body_speed_m_s: float = setting(3.0, 'A tracked body that moves faster was put elsewhere.', unit='m/s', low=0.01)
    patience_s: float = setting(
        2.0, 'How far states may run ahead before a missing command or report counts as absent.', unit='s', low=0.1, high=60.0)
    max_pending: int = setting(20_000, 'Most commands, and most reports, that wait for states.', low=100)


class TransitionAssembler:
    """Joins states, applied commands and episode reports into transitions, one per control period.

    A command stamped t gives the observations at t and one period later, made of raw states that are taken or linearly
    interpolated, a body's angles the shorter way round. It is dropped, and the reason counted, where it was superseded
    early, where the states have a gap or a jump in between, and where the newest report at or before t is not of an episode.
    With no report at all, every phase counts. Without an opening of its own it goes with the last one that the gripper was told
    in that episode, for that is what the gripper goes on doing.

    Args:
        robot: Profile that tells jumps from motion, and names the joints that are commanded.
        space: Makes observations of raw states, and actions of commands.
        period_s: Control period.
        config: Limits.
        in_order: Whether no message comes late, as in lockstep; then the clock may be set back by less than messages are late
            elsewhere.

    Attributes:
        num_kept: Transitions returned so far.
        dropped: Reason to the number of commands and messages dropped for it.
    """

    def __init__(self, robot: RobotProfile, space: 'ActionSpace', period_s: float, config: AssemblerConfig | None = None, *,
                 in_order: bool = False) -> None:
        config = config or AssemblerConfig()
        self._max_late_ns = 0 if in_order else _CLOCK_RESET_NS
        self._space, self._joints, self._names = space, robot.joints, space.raw_names
        self._fastest = np.array([_fastest(name, robot, config) for name in self._names])
        self._turns = np.array([name not in robot.state_names and name.endswith(_ANGLES) for name in self._names])
        self._jump_margin = config.jump_margin_rad
        self._period_ns, self._gap_ns = round(period_s * 1e9), round(config.max_gap_s * 1e9)
        self._patience_ns = round(config.patience_s * 1e9)
        self._max_pending = config.max_pending
        self._states: deque[_Sample] = deque()
        self._commands: deque[tuple[int, ArmCommand]] = deque()
        #: Episode, and the last opening that the gripper was told in it.
        self._told: tuple[int | None, float | None] = None, None
        self._reports: deque[EpisodeReport] = deque()
        self._report_seen = False
        self.num_kept = 0
        self.dropped: Counter[str] = Counter()

    def on_state(self, state: RobotState) -> list[Transition]:
        """Take the next state; returns the transitions that are now certain, oldest first.

        Raises:
            MeasurementError: The state lacks an entry that observations are made of.
        """
        position, velocity = state.positions(self._names), state.velocities(self._names)
        if not ((np.abs(position) <= _IMPLAUSIBLE) & (np.abs(velocity) <= _IMPLAUSIBLE)).all():
            self.dropped['state is not finite or not plausible'] += 1
            return []
        ready = self._admit(self._states, state.stamp_ns, 'state')
        if ready is None:
            return []
        connected = bool(self._states) and self._connects(self._states[-1], state.stamp_ns, position)
        self._states.append(_Sample(state.stamp_ns, position, velocity, connected))
        return ready + self._resolve()

    def on_applied(self, command: AppliedCommand) -> list[Transition]:
        """Take the next applied command; returns as `on_state`.

        Raises:
            MeasurementError: The command lacks a joint, or names and values differ in number.
        """
        velocity = np.asarray(command.velocity, dtype=np.float64)
        if missing := [name for name in self._joints if name not in command.names]:
            raise MeasurementError(f'applied command lacks {", ".join(missing)}; it has {", ".join(command.names)}')
        if velocity.shape != (len(command.names),):
            raise MeasurementError(f'applied command has {len(command.names)} names but velocities of shape {velocity.shape}')
        if not (np.abs([*velocity, command.opening_m or 0.0]) <= _IMPLAUSIBLE).all():
            self.dropped['command is not finite or not plausible'] += 1
            return []
        ready = self._admit(self._commands, command.stamp_ns, 'command')
        if ready is None:
            return []
        ordered = velocity[[command.names.index(name) for name in self._joints]]
        self._commands.append((command.stamp_ns, ArmCommand(ordered, command.opening_m)))
        if len(self._commands) > self._max_pending:
            self._commands.popleft()
            self.dropped['command waited too long for states'] += 1
        return ready + self._resolve()

    def on_report(self, report: EpisodeReport) -> list[Transition]:
        """Take the next episode report; returns as `on_state`.

        The manager may speak twice of one state, as when a reset's reply comes after it; then its last word holds.
        """
        if self._reports and report.stamp_ns == self._reports[-1].stamp_ns:
            self._reports[-1] = report
            return self._resolve()
        ready = self._admit(self._reports, report.stamp_ns, 'report')
        if ready is None:
            return []
        self._reports.append(report)
        self._report_seen = True
        if len(self._reports) > self._max_pending:
            self._reports.popleft()
        return ready + self._resolve()

    def flush(self) -> list[Transition]:
        """Resolve what can be resolved when nothing more will come, as at the end of a bag; drop the rest."""
        ready = self._resolve(final=True)
        self.dropped['no state one period after the command'] += len(self._commands)
        self.dropped += Counter()  # Leaves out reasons that were counted zero times.
        self._commands.clear()
        return ready

    def _admit(self, stream: deque, stamp_ns: int, kind: str) -> list[Transition] | None:
        """Transitions made certain by a clock set back, or None when the message is a repeat or late."""
        newest = _stamp(stream[-1]) if stream else None
        if newest is None or stamp_ns > newest:
            return []
        if newest - stamp_ns <= self._max_late_ns:
            self.dropped[f'{kind} is repeated or late'] += 1
            return None
        ready = self.flush()
        self._told = None, None
        for other in (self._states, self._commands, self._reports):
            if other and _stamp(other[-1]) > stamp_ns + self._max_late_ns:
                other.clear()
        return ready

    def _connects(self, before: '_Sample', stamp_ns: int, position: np.ndarray) -> bool:
        elapsed_ns = stamp_ns - before.stamp_ns
        moved = np.abs(self._way(before.position, position))
        return elapsed_ns <= self._gap_ns and bool((moved <= self._jump_margin + self._fastest * elapsed_ns * 1e-9).all())

    def _way(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """From one raw position to another; for a body's angles the shorter way round."""
        way = end - start
        return np.where(self._turns, np.remainder(way + np.pi, 2.0 * np.pi) - np.pi, way)

    def _resolve(self, final: bool = False) -> list[Transition]:
        ready = []
        while self._commands and self._is_certain(final):
            stamp_ns, command = self._commands[0]
            report = self._report_at(stamp_ns)
            command = self._with_opening(command, report)
            reason = self._refusal(stamp_ns, report)
            if reason:
                self.dropped[reason] += 1
            else:
                state, next_state = self._state_at(stamp_ns), self._state_at(stamp_ns + self._period_ns)
                ready.append(Transition(self._space.observe(state), self._space.action(command, state),
                                        self._space.observe(next_state), stamp_ns, **self._words_on(stamp_ns, report)))
            self._commands.popleft()
        self._forget()
        self.num_kept += len(ready)
        return ready

    def _words_on(self, stamp_ns: int, report: EpisodeReport | None) -> dict[str, Any]:
        """What the episode manager said of a control step, by the fields of a transition."""
        if report is None:
            return {'episode': 0}
        after = self._report_at(stamp_ns + self._period_ns)
        has_ended = after.episode != report.episode or not after.phase.is_episode
        is_success = after.episode == report.episode and after.success
        return {'episode': report.episode, 'goal': report.goal_m, 'terminated': has_ended and is_success,
                'truncated': has_ended and not is_success, 'tags': TAGS.get(report.phase, Tag(0))}

    def _report_at(self, stamp_ns: int) -> EpisodeReport | None:
        """The report in force at a moment."""
        return next((report for report in reversed(self._reports) if report.stamp_ns <= stamp_ns), None)

    def _with_opening(self, command: ArmCommand, report: EpisodeReport | None) -> ArmCommand:
        """The oldest command, with what the gripper was told before where it says nothing of it."""
        episode = report.episode if report and report.phase.is_episode else None
        if command.opening_m is None and self._told[0] == episode:
            command = dataclasses.replace(command, opening_m=self._told[1])
        self._told = episode, command.opening_m
        return command

    def _is_certain(self, final: bool) -> bool:
        """Whether no later message can change what the oldest command gives."""
        stamp_ns = self._commands[0][0]
        end_ns = stamp_ns + self._period_ns
        newest_ns = self._states[-1].stamp_ns if self._states else None
        if newest_ns is None or newest_ns < end_ns:
            return False
        if final or newest_ns >= end_ns + self._patience_ns:
            return True
        report = self._reports[-1] if self._reports else None
        if report is None or report.stamp_ns <= stamp_ns:
            return False
        return len(self._commands) > 1 or (report.stamp_ns >= end_ns and report.phase in _STANDING)

    def _refusal(self, stamp_ns: int, report: EpisodeReport | None) -> str:
        """Why the oldest command gives no transition, or ''."""
        if self._report_seen and (report is None or not report.phase.is_episode):
            return 'outside an episode'
        if len(self._commands) > 1 and self._commands[1][0] - stamp_ns < _HELD_FRACTION * self._period_ns:
            return 'superseded early'
        if self._states[0].stamp_ns > stamp_ns:
            return 'no state before the command'
        end_ns = stamp_ns + self._period_ns
        start = _index_at_or_before(self._states, stamp_ns)
        for index in range(start + 1, len(self._states)):
            if not self._states[index].connected:
                return 'gap or jump in the states'
            if self._states[index].stamp_ns >= end_ns:
                break
        return ''

    def _state_at(self, stamp_ns: int) -> RobotState:
        index = _index_at_or_before(self._states, stamp_ns)
        before = self._states[index]
        if before.stamp_ns == stamp_ns:
            return RobotState(stamp_ns, self._names, before.position, before.velocity)
        after = self._states[index + 1]
        weight = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
        position = before.position + weight * self._way(before.position, after.position)
        return RobotState(stamp_ns, self._names, position, before.velocity + weight * (after.velocity - before.velocity))

    def _forget(self) -> None:
        """Drop what no command can need: one still to come may be as old as the patience allows."""
        if not self._states:
            return
        horizon_ns = self._states[-1].stamp_ns - self._patience_ns - 2 * self._period_ns
        if self._commands:
            horizon_ns = min(horizon_ns, self._commands[0][0])
        for stream in (self._states, self._reports):
            while len(stream) > 1 and _stamp(stream[1]) <= horizon_ns:
                stream.popleft()


@dataclasses.dataclass(frozen=True)
class _Sample:
    """Raw positions and velocities, shape (S,) each, and whether they continue those before without a gap or a jump."""

    stamp_ns: int
    position: np.ndarray
    velocity: np.ndarray
    connected: bool


def _stamp(entry: '_Sample | EpisodeReport | tuple[int, ArmCommand]') -> int:
    return entry[0] if isinstance(entry, tuple) else entry.stamp_ns


def _index_at_or_before(states: deque[_Sample], stamp_ns: int) -> int:
    # From the newest, because commands are recent; a deque is fast to walk from either end only.
    for back, sample in enumerate(reversed(states), start=1):
        if sample.stamp_ns <= stamp_ns:
            return len(states) - back
    raise IndexError(stamp_ns)


def _fastest(name: str, robot: RobotProfile, config: AssemblerConfig) -> float:
    """Speed beyond which an entry of the raw state was put elsewhere; a body's angles tell too little for one."""
    limits = dict(zip(robot.joints, robot.max_velocity_rad_s))
    if robot.gripper:
        limits[robot.gripper.name] = robot.gripper.max_velocity_m_s
    if name in limits:
        return config.jump_factor * limits[name]
    return np.inf if name.endswith(_ANGLES) else config.max_body_speed_m_s
