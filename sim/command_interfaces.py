"""The command interfaces of ros2_control: velocity, position and trajectory.

An interface is pure: it takes commands, and before each physics step it gives the setpoint of the motors. It follows the last
valid command, stops in a controlled way when commands cease, and then holds.

Two things differ from ros2_control's forward controllers, which follow the last command forever: commands time out, unless the
time-out is 0, and after a command of wrong length the next valid one is followed without activating a controller again.
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_sim.urdf import wrapped

_END_VELOCITY_TOLERANCE = 1e-6
#: Sums of step lengths equal a trajectory's times only up to rounding.
_TIME_TOLERANCE_S = 1e-9
#: Beyond it a polynomial's coefficients might overflow.
_MAX_ACCELERATION = 1e6


@dataclasses.dataclass(frozen=True)
class InterfaceConfig(Config):
    """How the command interfaces treat commands."""

    command_timeout_s: float = setting(
        0.2, 'Silence after which a velocity or position command ends in a controlled stop; 0 for never, as in ros2_control.',
        unit='s', low=0.0, high=10.0)
    interpolate_from_desired_state: bool = setting(
        True, 'Start a trajectory at the reference; false, the default of ros2_control, starts it at the measured state.')
    allow_nonzero_velocity_at_trajectory_end: bool = setting(
        False, 'Accept trajectories whose last point moves; the arm then stops from that velocity.')


@dataclasses.dataclass(frozen=True)
class InterfaceLimits:
    """Joint names and the limits that the driver enforces; each array has shape (J,), rad, rad/s or rad/s²."""

    joints: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    max_velocity: np.ndarray
    max_acceleration: np.ndarray
    is_continuous: np.ndarray | bool = False

    def nearest(self, position: np.ndarray, to: np.ndarray) -> np.ndarray:
        """Position (J,) with whole turns added to continuous joints, so that it is as near as possible `to` another (J,)."""
        if not np.any(self.is_continuous):
            return position
        return np.where(self.is_continuous, to + wrapped(position - to), position)


@dataclasses.dataclass(frozen=True)
class Setpoint:
    """Setpoint of the motors: `position` (J,) with feed-forward `velocity` (J,), or `velocity` alone.

    The motors ignore `rates` (2, J): velocity and acceleration from which a trajectory that replaces the present one starts.
    """

    position: np.ndarray | None
    velocity: np.ndarray
    rates: np.ndarray | None = None


class Measured(NamedTuple):
    """Arm state that ros2_control's controllers read: positions (J,), rad, and velocities (J,), rad/s."""

    position: np.ndarray
    velocity: np.ndarray


@dataclasses.dataclass(frozen=True)
class TrajectoryPoint:
    """One point of a trajectory message, unchecked."""

    time_s: float
    positions: Sequence[float]
    velocities: Sequence[float] = ()
    accelerations: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class TrajectoryCommand:
    """A trajectory message, unchecked.

    Attributes:
        joints: Names, in the order of the points' entries.
        points: The points, timed from the start.
        start_s: Start by the time of the interface; None for at once.
    """

    joints: Sequence[str]
    points: Sequence[TrajectoryPoint]
    start_s: float | None = None


class CommandInterface(abc.ABC):
    """Base of the command interfaces: holding, time-out, and the controlled stop.

    Args:
        limits: Joints and limits.
        position: Position of the standing arm, shape (J,), rad.
        config: Settings.
    """

    def __init__(self, limits: InterfaceLimits, position: np.ndarray, config: InterfaceConfig) -> None:
        self._limits = limits
        self._config = config
        self._last_command_s = -math.inf
        self.hold(position)

    @property
    def holding(self) -> bool:
        """Whether the arm is held at rest."""
        return not self._following and self._setpoint.position is not None and not self._setpoint.velocity.any()

    def hold(self, position: np.ndarray) -> None:
        """Hold a position, shape (J,), and forget the command."""
        self._following = False
        self._setpoint = Setpoint(np.array(position, dtype=np.float64), np.zeros(len(self._limits.joints)))

    def stop(self) -> None:
        """Brake at the acceleration limits, then hold."""
        self._following = False

    @abc.abstractmethod
    def refusal(self, command: Any, now_s: float) -> str:
        """Why an unchecked command would be refused at time `now_s`, of any fixed origin; empty if it would be taken."""

    def accept(self, command: Any, now_s: float, measured: Measured) -> str:
        """Take an unchecked command at time `now_s`, when the arm is `measured`; returns the refusal, or an empty text."""
        reason = self.refusal(command, now_s)
        if not reason:
            self._take(command, now_s, measured)
            self._last_command_s = now_s
            self._following = True
        return reason

    @abc.abstractmethod
    def _take(self, command: Any, now_s: float, measured: Measured) -> None:
        """Take a command that was checked."""

    def advance(self, now_s: float, dt_s: float, position: np.ndarray) -> Setpoint:
        """Setpoint for the next physics step.

        Args:
            now_s: Time, of the same origin as for `accept`.
            dt_s: Length of the step.
            position: Measured joint positions, shape (J,).
        """
        if self._following and self._is_over(now_s):
            self.stop()
        self._setpoint = self._follow(now_s, dt_s) if self._following else self._slowed(dt_s, position)
        return self._setpoint

    def _is_over(self, now_s: float) -> bool:
        return 0.0 < self._config.command_timeout_s < now_s - self._last_command_s

    @abc.abstractmethod
    def _follow(self, now_s: float, dt_s: float) -> Setpoint:
        """Setpoint of the present command."""

    def _slowed(self, dt_s: float, position: np.ndarray) -> Setpoint:
        reference, velocity = self._setpoint.position, self._setpoint.velocity
        reach = self._limits.max_acceleration * dt_s
        velocity = velocity - np.clip(velocity, -reach, reach)
        if reference is not None:
            return Setpoint(reference + velocity * dt_s, velocity)
        return Setpoint(None if velocity.any() else position.copy(), velocity)

    def _toward(self, target: np.ndarray, dt_s: float) -> Setpoint:
        """Move the reference towards a target within the velocity limits."""
        reach = self._limits.max_velocity * dt_s
        change = np.clip(target - self._setpoint.position, -reach, reach)
        return Setpoint(self._setpoint.position + change, change / dt_s)


class ForwardInterface(CommandInterface):
    """Base of the forward interfaces: a command has one number a joint, in the profile's order."""

    name: str

    def refusal(self, command: Sequence[float], now_s: float) -> str:
        """Why a command is not J finite numbers."""
        joints = self._limits.joints
        if len(command) != len(joints):
            return (f'{self.name} command needs {len(joints)} numbers ({", ".join(joints)}), got {len(command)}; '
                    'the arm holds until a valid one')
        fine = np.isfinite(np.array(command, dtype=np.float64))
        if not fine.all():
            return f'{self.name} command is not finite for {", ".join(np.array(joints)[~fine])}; dropped'
        return ''

    def accept(self, command: Sequence[float], now_s: float, measured: Measured) -> str:
        """Take J numbers; a command of another length stops the arm, one that is not finite is dropped."""
        if len(command) != len(self._limits.joints):
            self.stop()
        return super().accept(command, now_s, measured)

    def _take(self, command: Sequence[float], now_s: float, measured: Measured) -> None:
        self._command = np.array(command, dtype=np.float64)


class VelocityInterface(ForwardInterface):
    """`forward_velocity_controller/commands`: rad/s."""

    name = 'velocity'

    def _follow(self, now_s: float, dt_s: float) -> Setpoint:
        return Setpoint(None, np.clip(self._command, -self._limits.max_velocity, self._limits.max_velocity))


class PositionInterface(ForwardInterface):
    """`forward_position_controller/commands`: rad."""

    name = 'position'

    def _follow(self, now_s: float, dt_s: float) -> Setpoint:
        target = self._limits.nearest(self._command, to=self._setpoint.position)
        return self._toward(np.clip(target, self._limits.lower, self._limits.upper), dt_s)


class TrajectoryInterface(CommandInterface):
    """`joint_trajectory_controller/joint_trajectory`: linear, cubic with velocities, quintic with accelerations.

    A trajectory replaces the one before it. The way to its first point starts at the reference, so that rolling windows join
    without a jump, or at the measured state (`interpolate_from_desired_state` false). After the last point the arm holds it. A
    refused trajectory leaves the one before it in force.
    """

    def refusal(self, command: TrajectoryCommand, now_s: float) -> str:
        """Why a trajectory is refused; all points have velocities or none, and all have accelerations or none."""
        reason = self._refusal(command, now_s)
        return f'trajectory refused: {reason}' if reason else ''

    def _take(self, command: TrajectoryCommand, now_s: float, measured: Measured) -> None:
        limits = self._limits
        order = [list(command.joints).index(name) for name in limits.joints]
        points = np.array([[np.take(row, order) for row in _rows(point) if len(row)] for point in command.points])  # (K, n, J)
        points[:, 0] += limits.nearest(points[0, 0], to=self._setpoint.position) - points[0, 0]
        points[:, 0] = np.clip(points[:, 0], limits.lower, limits.upper)
        start_s = now_s if command.start_s is None else command.start_s
        times = start_s + np.array([point.time_s for point in command.points])
        first = int(np.sum(times <= now_s)) - 1  # The point that was passed last.
        knots, self._times = list(points[max(first, 0):]), times[max(first, 0):]
        if first < 0:
            knots, self._times = [self._start(measured), *knots], np.array([now_s, *times])
        self._pieces = [_polynomial(*ends, duration_s) for *ends, duration_s in zip(knots, knots[1:], np.diff(self._times))]
        self._end, self._is_linear = points[-1, 0], points.shape[1] == 1

    def _start(self, measured: Measured) -> np.ndarray:
        """Start of a trajectory: position, velocity and, of the reference, acceleration, shape (3, J) or (2, J)."""
        reference = self._setpoint
        if self._config.interpolate_from_desired_state:
            rates = [reference.velocity, np.zeros_like(reference.velocity)] if reference.rates is None else reference.rates
            return np.array([reference.position, *rates])
        return np.array([self._limits.nearest(measured.position, to=reference.position), measured.velocity])

    def _is_over(self, now_s: float) -> bool:
        return self._arrived(now_s, self._setpoint.position)

    def _arrived(self, time_s: float, position: np.ndarray) -> bool:
        return time_s >= self._times[-1] - _TIME_TOLERANCE_S and np.allclose(position, self._end, rtol=0.0, atol=1e-9)

    def _follow(self, now_s: float, dt_s: float) -> Setpoint:
        target, rates = self._sample(now_s + dt_s)
        moved = self._toward(target, dt_s)
        if self._is_linear and self._arrived(now_s + dt_s, moved.position):
            return Setpoint(moved.position, np.zeros_like(moved.velocity))
        return dataclasses.replace(moved, rates=rates)

    def _sample(self, time_s: float) -> tuple[np.ndarray, np.ndarray | None]:
        """Position (J,), and velocity and acceleration (2, J), at a time; past the end, the last point."""
        if time_s >= self._times[-1] - _TIME_TOLERANCE_S:
            return self._end, None
        piece = int(np.searchsorted(self._times, time_s, side='right')) - 1
        duration = self._times[piece + 1] - self._times[piece]
        s = (time_s - self._times[piece]) / duration
        curve = self._pieces[piece]
        power = np.arange(len(curve))
        velocity = power[1:] * s ** power[:-1] @ curve[1:] / duration
        acceleration = power[2:] * power[1:-1] * s ** power[:-2] @ curve[2:] / duration**2
        return s ** power @ curve, np.array([velocity, acceleration])

    def _refusal(self, command: TrajectoryCommand, now_s: float) -> str:
        joints, size = self._limits.joints, len(self._limits.joints)
        if sorted(command.joints) != sorted(joints):
            return f'needs the joints {", ".join(joints)}, got {", ".join(command.joints) or "none"}'
        if not command.points:
            return 'it has no points'
        order = [list(command.joints).index(name) for name in joints]
        wanted = [size, *(size if len(row) else 0 for row in _rows(command.points[0])[1:])]
        earlier = -math.inf
        for index, point in enumerate(command.points):
            if (sizes := [len(row) for row in _rows(point)]) != wanted:
                return (f'point {index} needs ' + '{} positions, {} velocities and {} accelerations'.format(*wanted)
                        + ', got {}, {} and {}'.format(*sizes))
            if not all(np.isfinite(row).all() for row in _rows(point)):
                return f'point {index} is not finite'
            if len(point.velocities) and (np.abs(np.take(point.velocities, order)) > self._limits.max_velocity).any():
                return f'point {index} is faster than the joints can be'
            if len(point.accelerations) and (not wanted[1] or np.abs(point.accelerations).max() > _MAX_ACCELERATION):
                return f'the accelerations of point {index} need velocities too, and at most {_MAX_ACCELERATION:g} rad/s²'
            if point.time_s <= earlier:
                return f'time_from_start needs to increase, point {index} has {point.time_s} s after {earlier} s'
            earlier = point.time_s
        if command.start_s is not None and command.start_s + earlier <= now_s:
            return f'it ended {now_s - command.start_s - earlier:.3f} s ago'
        is_moving = wanted[1] and np.abs(command.points[-1].velocities).max() > _END_VELOCITY_TOLERANCE
        if is_moving and not self._config.allow_nonzero_velocity_at_trajectory_end:
            return 'the last point needs zero velocity'
        return ''


def _rows(point: TrajectoryPoint) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    return point.positions, point.velocities, point.accelerations


def _polynomial(start: np.ndarray, end: np.ndarray, duration_s: float) -> np.ndarray:
    """The polynomial between two points that meets the derivatives which both have.

    Args:
        start: Position, velocity and acceleration, as far as there are any, shape (n, J).
        end: Likewise, shape (m, J).
        duration_s: Time between them.

    Returns:
        Coefficients of the powers of the elapsed share of `duration_s`, lowest first, shape (2 min(n, m), J).
    """
    count = min(len(start), len(end))
    scale = duration_s ** np.arange(count)[:, None]
    return _FIT[count] @ np.concatenate([start[:count] * scale, end[:count] * scale])


def _fit(count: int) -> np.ndarray:
    """Coefficients from `count` derivatives at 0 and as many at 1, shape (2 count, 2 count)."""
    powers = range(2 * count)
    at_start = [[math.factorial(order) * (power == order) for power in powers] for order in range(count)]
    at_end = [[math.perm(power, order) for power in powers] for order in range(count)]
    return np.linalg.inv(np.array(at_start + at_end, dtype=np.float64))


#: By the number of derivatives: linear, cubic, quintic.
_FIT = {count: _fit(count) for count in (1, 2, 3)}


def make_interface(command_type: str, limits: InterfaceLimits, position: np.ndarray, config: InterfaceConfig) -> CommandInterface:
    """Make the command interface for a driver profile's `command_type`; it begins by holding `position`."""
    kind = {'velocity': VelocityInterface, 'position': PositionInterface, 'trajectory': TrajectoryInterface}[command_type]
    return kind(limits, position, config)
