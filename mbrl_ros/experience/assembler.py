"""Transitions from three streams: states, applied commands and episode reports.

The streams come over separate topics, so any of them may run ahead of the others. The result depends on the stamps alone: the
same messages give the same transitions in every interleaving, live and from a bag.
"""

import dataclasses
import itertools
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import MeasurementError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import BODY_JOINTS, TAGS, AppliedCommand, ArmCommand, EpisodeReport, Phase, RobotState, Tag, Transition

if TYPE_CHECKING:
    # Annotations alone need it: a process that only records does not load torch.
    from mbrl_ros.spaces.space import ActionSpace

#: In these phases nothing is commanded, so no next command is waited for.
_STANDING = (Phase.RESETTING, Phase.TRAINING, Phase.WAITING, Phase.FINISHED)
#: A command counts as superseded if the next one comes before this share of the control period.
_HELD_FRACTION = 0.9
#: A message that is older than the newest of its stream by more than this means that the clock was set back.
_CLOCK_RESET_NS = 1_000_000_000
#: No arm has positions (rad, m) or velocities beyond this; a single one would spoil the scales of every learned feature.
_IMPLAUSIBLE = 1e3
#: Endings of the names of a tracked body's angles.
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

    A command stamped t gives the observations at t and one period later. Raw states between two measured ones are interpolated
    linearly, a body's angles the shorter way round. A command without an opening takes the last opening of its episode, because
    the gripper still follows that one. A step in which the arm was held, as the command says, is tagged so.

    A command is dropped, and the reason counted, if it was superseded early, if the states have a gap or a jump within its
    period, or if the newest report at or before t is not of an episode. Without any report, every phase counts.

    Args:
        robot: Names the commanded joints; its velocity limits tell a jump from motion.
        space: Makes observations from raw states and actions from commands.
        period_s: Control period.
        config: Limits.
        in_order: Whether no message comes late, as in lockstep; an older stamp then always means a clock that was set back.

    Attributes:
        dropped: Number of commands and messages dropped, by reason.
        decided_ns: Stamp of the newest command that has become a transition or was dropped; -1 before the first.
    """

    def __init__(self, robot: RobotProfile, space: 'ActionSpace', period_s: float, config: AssemblerConfig | None = None, *,
                 in_order: bool = False) -> None:
        self._config = config = config or AssemblerConfig()
        self._max_late_ns = 0 if in_order else _CLOCK_RESET_NS
        self._space, self._joints, self._names = space, robot.joints, space.raw_names
        self._fastest = np.array([_fastest(name, robot, config) for name in self._names])
        self._turns = np.array([name not in robot.state_names and name.endswith(_ANGLES) for name in self._names])
        self._period_ns, self._gap_ns = round(period_s * 1e9), round(config.max_gap_s * 1e9)
        self._patience_ns = round(config.patience_s * 1e9)
        self._states: deque[_Sample] = deque()
        self._commands: deque[AppliedCommand] = deque()
        #: Episode, and the last opening commanded in it.
        self._told: tuple[int | None, float | None] = None, None
        self._reports: deque[EpisodeReport] = deque()
        self._report_seen = False
        self.dropped: Counter[str] = Counter()
        self.decided_ns = -1

    def on_state(self, state: RobotState) -> list[Transition]:
        """Take the next state; return the transitions that are now certain, oldest first.

        Raises:
            MeasurementError: The state lacks an entry that observations need.
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
        """Take the next applied command; return the transitions that are now certain, oldest first.

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
        self._commands.append(dataclasses.replace(command, names=self._joints, velocity=ordered))
        if len(self._commands) > self._config.max_pending:
            self._commands.popleft()
            self.dropped['command waited too long for states'] += 1
        return ready + self._resolve()

    def on_report(self, report: EpisodeReport) -> list[Transition]:
        """Take the next episode report; return the transitions that are now certain, oldest first.

        Of two reports with one stamp the later one holds: a reset's reply may come after the first report.
        """
        if self._reports and report.stamp_ns == self._reports[-1].stamp_ns:
            self._reports[-1] = report
            return self._resolve()
        ready = self._admit(self._reports, report.stamp_ns, 'report')
        if ready is None:
            return []
        self._reports.append(report)
        self._report_seen = True
        if len(self._reports) > self._config.max_pending:
            self._reports.popleft()
        return ready + self._resolve()

    def flush(self) -> list[Transition]:
        """End the streams, as at the end of a bag: return the last transitions and drop the other commands."""
        ready = self._resolve(final=True)
        self.dropped['no state one period after the command'] += len(self._commands)
        self.dropped += Counter()  # Removes reasons with a count of zero.
        self._commands.clear()
        return ready

    def _admit(self, stream: deque, stamp_ns: int, kind: str) -> list[Transition] | None:
        """Transitions that become certain because the clock was set back; None if the message is repeated or late."""
        newest = stream[-1].stamp_ns if stream else None
        if newest is None or stamp_ns > newest:
            return []
        if newest - stamp_ns <= self._max_late_ns:
            self.dropped[f'{kind} is repeated or late'] += 1
            return None
        ready = self.flush()
        self._told = None, None
        for other in (self._states, self._commands, self._reports):
            if other and other[-1].stamp_ns > stamp_ns + self._max_late_ns:
                other.clear()
        return ready

    def _connects(self, before: '_Sample', stamp_ns: int, position: np.ndarray) -> bool:
        elapsed_ns = stamp_ns - before.stamp_ns
        moved = np.abs(self._way(before.position, position))
        plausible = moved <= self._config.jump_margin_rad + self._fastest * elapsed_ns * 1e-9
        return elapsed_ns <= self._gap_ns and bool(plausible.all())

    def _way(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Difference of two raw positions; for a body's angles the shorter way round."""
        way = end - start
        return np.where(self._turns, np.remainder(way + np.pi, 2.0 * np.pi) - np.pi, way)

    def _resolve(self, final: bool = False) -> list[Transition]:
        ready = []
        while self._commands and self._is_certain(final):
            command = self._commands[0]
            stamp_ns, report = command.stamp_ns, self._report_at(command.stamp_ns)
            opening_m = self._opening_m(command, report)
            if reason := self._refusal(stamp_ns, report):
                self.dropped[reason] += 1
            else:
                state, next_state = self._state_at(stamp_ns), self._state_at(stamp_ns + self._period_ns)
                action = self._space.action(ArmCommand(command.velocity, opening_m), state)
                ready.append(Transition(self._space.observe(state), action, self._space.observe(next_state), stamp_ns,
                                        **self._reported(command, report)))
            self._commands.popleft()
            self.decided_ns = stamp_ns
        self._forget()
        return ready

    def _reported(self, command: AppliedCommand, report: EpisodeReport | None) -> dict[str, Any]:
        """Fields of a transition that the command and the episode reports tell."""
        tags = Tag.HELD if command.is_held else Tag(0)
        if report is None:
            return {'episode': 0, 'tags': tags}
        after = self._report_at(command.stamp_ns + self._period_ns)
        has_ended = after.episode != report.episode or not after.phase.is_episode
        return {'episode': report.episode, 'goal': report.goal_m, 'truncated': has_ended,
                'tags': tags | TAGS.get(report.phase, Tag(0))}

    def _report_at(self, stamp_ns: int) -> EpisodeReport | None:
        """The report in force at a moment."""
        return next((report for report in reversed(self._reports) if report.stamp_ns <= stamp_ns), None)

    def _opening_m(self, command: AppliedCommand, report: EpisodeReport | None) -> float | None:
        """Opening that the gripper follows during the oldest command; the last of its episode if the command has none."""
        episode = report.episode if report and report.phase.is_episode else None
        opening_m = self._told[1] if command.opening_m is None and self._told[0] == episode else command.opening_m
        self._told = episode, opening_m
        return opening_m

    def _is_certain(self, final: bool) -> bool:
        """Whether no later message can change the transition of the oldest command."""
        stamp_ns = self._commands[0].stamp_ns
        end_ns = stamp_ns + self._period_ns
        if not self._states or self._states[-1].stamp_ns < end_ns:
            return False
        if final or self._states[-1].stamp_ns >= end_ns + self._patience_ns:
            return True
        if not self._reports or self._reports[-1].stamp_ns <= stamp_ns:
            return False
        report = self._reports[-1]
        return len(self._commands) > 1 or (report.stamp_ns >= end_ns and report.phase in _STANDING)

    def _refusal(self, stamp_ns: int, report: EpisodeReport | None) -> str:
        """Why the oldest command gives no transition, or ''."""
        if self._report_seen and (report is None or not report.phase.is_episode):
            return 'outside an episode'
        if len(self._commands) > 1 and self._commands[1].stamp_ns - stamp_ns < _HELD_FRACTION * self._period_ns:
            return 'superseded early'
        if self._states[0].stamp_ns > stamp_ns:
            return 'no state before the command'
        for sample in itertools.islice(self._states, _index_at_or_before(self._states, stamp_ns) + 1, None):
            if not sample.connected:
                return 'gap or jump in the states'
            if sample.stamp_ns >= stamp_ns + self._period_ns:
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
        """Drop states and reports that no command can need; a command may still come as late as the patience allows."""
        if not self._states:
            return
        horizon_ns = self._states[-1].stamp_ns - self._patience_ns - 2 * self._period_ns
        if self._commands:
            horizon_ns = min(horizon_ns, self._commands[0].stamp_ns)
        for stream in (self._states, self._reports):
            while len(stream) > 1 and stream[1].stamp_ns <= horizon_ns:
                stream.popleft()


@dataclasses.dataclass(frozen=True)
class _Sample:
    """Raw positions and velocities, shape (S,) each; `connected` if neither gap nor jump lies between them and those before."""

    stamp_ns: int
    position: np.ndarray
    velocity: np.ndarray
    connected: bool


def _index_at_or_before(states: deque[_Sample], stamp_ns: int) -> int:
    # Search from the newest, because commands are recent and a deque is slow in the middle.
    for back, sample in enumerate(reversed(states), start=1):
        if sample.stamp_ns <= stamp_ns:
            return len(states) - back
    raise IndexError(stamp_ns)


def _fastest(name: str, robot: RobotProfile, config: AssemblerConfig) -> float:
    """Speed beyond which an entry of the raw state has jumped; a body's angles have no such limit."""
    limits = dict(zip(robot.joints, robot.max_velocity_rad_s))
    if robot.gripper:
        limits[robot.gripper.name] = robot.gripper.max_velocity_m_s
    if name in limits:
        return config.jump_factor * limits[name]
    return np.inf if name.endswith(_ANGLES) else config.max_body_speed_m_s
