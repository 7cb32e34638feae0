"""The command interfaces of ros2_control: velocity, position and trajectory.

An interface is pure: it takes commands, and before each physics step it gives the setpoint of the motors. It follows the last
valid command, stops in a controlled way when commands cease, and then holds.

Two things differ from ros2_control's forward controllers, which follow the last command forever: commands time out, and after a
command of wrong length the next valid one is followed without activating a controller again.
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mbrl_ros.config import Config, setting

_END_VELOCITY_TOLERANCE = 1e-6
#: Sums of step lengths equal a trajectory's times only up to rounding.
_TIME_TOLERANCE_S = 1e-9


@dataclasses.dataclass(frozen=True)
class InterfaceConfig(Config):
    """How the command interfaces treat commands."""

    command_timeout_s: float = setting(0.2, 'Silence after which a velocity or position command ends in a controlled stop.',
                               unit='s', low=0.01, high=10.0)
    allow_nonzero_end_velocity: bool = setting(
        False, 'Accept trajectories whose last point moves; the arm then stops from that velocity.')


@dataclasses.dataclass(frozen=True)
class InterfaceLimits:
    """Joint names and the limits that the driver enforces; each array has shape (J,), rad, rad/s or rad/s²."""

    joints: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    max_velocity: np.ndarray
    max_acceleration: np.ndarray


@dataclasses.dataclass(frozen=True)
class Setpoint:
    """Setpoint of the motors: `position` (J,) with feed-forward `velocity` (J,), or `velocity` alone."""

    position: np.ndarray | None
    velocity: np.ndarray


@dataclasses.dataclass(frozen=True)
class TrajectoryPoint:
    """One point of a trajectory message, unchecked."""

    time_s: float
    positions: Sequence[float]
    velocities: Sequence[float] = ()


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
    def accept(self, command: Any, now_s: float) -> str:
        """Take an unchecked command at time `now_s`, of any fixed origin; returns why it is refused, or an empty text."""

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
        return now_s - self._last_command_s > self._config.command_timeout_s

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

    def accept(self, command: Sequence[float], now_s: float) -> str:
        """Take J numbers; a command of another length stops the arm, one that is not finite is dropped."""
        joints = self._limits.joints
        if len(command) != len(joints):
            self.stop()
            return (f'{self.name} command needs {len(joints)} numbers ({", ".join(joints)}), got {len(command)}; '
                    'the arm holds until a valid one')
        values = np.array(command, dtype=np.float64)
        if not np.isfinite(values).all():
            return (f'{self.name} command is not finite for '
                    f'{", ".join(name for name, fine in zip(joints, np.isfinite(values)) if not fine)}; dropped')
        self._command = values
        self._last_command_s = now_s
        self._following = True
        return ''


class VelocityInterface(ForwardInterface):
    """`forward_velocity_controller/commands`: rad/s."""

    name = 'velocity'

    def _follow(self, now_s: float, dt_s: float) -> Setpoint:
        return Setpoint(None, np.clip(self._command, -self._limits.max_velocity, self._limits.max_velocity))


class PositionInterface(ForwardInterface):
    """`forward_position_controller/commands`: rad."""

    name = 'position'

    def _follow(self, now_s: float, dt_s: float) -> Setpoint:
        return self._toward(np.clip(self._command, self._limits.lower, self._limits.upper), dt_s)


class TrajectoryInterface(CommandInterface):
    """`joint_trajectory_controller/joint_trajectory`: cubic between points with velocities, linear without.

    A trajectory replaces the one before it. It starts at the reference, not at the measured state, so that rolling windows join
    without a jump. After its end the arm holds the last point. A refused trajectory leaves the one before it in force.
    """

    def accept(self, command: TrajectoryCommand, now_s: float) -> str:
        """Take a trajectory with positions in every point, and velocities in every point or in none."""
        if reason := self._refusal(command, now_s):
            return f'trajectory refused: {reason}'
        order = [list(command.joints).index(name) for name in self._limits.joints]
        start_s = now_s if command.start_s is None else command.start_s
        points = [point for point in command.points if start_s + point.time_s > now_s] or [command.points[-1]]
        self._times = np.array([now_s, *(start_s + point.time_s for point in points)])
        self._positions = np.array([self._setpoint.position, *(np.take(point.positions, order) for point in points)])
        self._positions = np.clip(self._positions, self._limits.lower, self._limits.upper)
        self._velocities = None
        if command.points[0].velocities:
            self._velocities = np.array([self._setpoint.velocity, *(np.take(point.velocities, order) for point in points)])
        self._following = True
        return ''

    def _is_over(self, now_s: float) -> bool:
        return self._arrived(now_s, self._setpoint.position)

    def _arrived(self, time_s: float, position: np.ndarray) -> bool:
        return time_s >= self._times[-1] - _TIME_TOLERANCE_S and np.allclose(position, self._positions[-1], rtol=0.0, atol=1e-9)

    def _follow(self, now_s: float, dt_s: float) -> Setpoint:
        moved = self._toward(self._sample(now_s + dt_s), dt_s)
        if self._velocities is None and self._arrived(now_s + dt_s, moved.position):
            return Setpoint(moved.position, np.zeros_like(moved.velocity))
        return moved

    def _sample(self, time_s: float) -> np.ndarray:
        """Position at a time, shape (J,); the last point after the end."""
        if time_s >= self._times[-1] - _TIME_TOLERANCE_S:
            return self._positions[-1]
        right = int(np.searchsorted(self._times, time_s, side='right'))
        left = right - 1
        duration = self._times[right] - self._times[left]
        s = (time_s - self._times[left]) / duration
        start, end = self._positions[left], self._positions[right]
        if self._velocities is None:
            return start + s * (end - start)
        start_slope, end_slope = self._velocities[left] * duration, self._velocities[right] * duration
        return ((2 * s**3 - 3 * s**2 + 1) * start + (s**3 - 2 * s**2 + s) * start_slope
                + (3 * s**2 - 2 * s**3) * end + (s**3 - s**2) * end_slope)

    def _refusal(self, command: TrajectoryCommand, now_s: float) -> str:
        joints, size = self._limits.joints, len(self._limits.joints)
        if sorted(command.joints) != sorted(joints):
            return f'needs the joints {", ".join(joints)}, got {", ".join(command.joints) or "none"}'
        if not command.points:
            return 'it has no points'
        order = [list(command.joints).index(name) for name in joints]
        with_velocities = bool(len(command.points[0].velocities))
        earlier = -math.inf
        for index, point in enumerate(command.points):
            if len(point.positions) != size or len(point.velocities) != (size if with_velocities else 0):
                return (f'point {index} needs {size} positions and {size if with_velocities else 0} velocities, '
                        f'got {len(point.positions)} and {len(point.velocities)}')
            if not (np.isfinite(point.positions).all() and np.isfinite(point.velocities).all()):
                return f'point {index} is not finite'
            if with_velocities and (np.abs(np.take(point.velocities, order)) > self._limits.max_velocity).any():
                return f'point {index} is faster than the joints can be'
            if point.time_s <= earlier:
                return f'time_from_start needs to increase, point {index} has {point.time_s} s after {earlier} s'
            earlier = point.time_s
        if command.start_s is not None and command.start_s + earlier <= now_s:
            return f'it ended {now_s - command.start_s - earlier:.3f} s ago'
        moving = with_velocities and np.abs(command.points[-1].velocities).max() > _END_VELOCITY_TOLERANCE
        if moving and not self._config.allow_nonzero_end_velocity:
            return 'the last point needs zero velocity'
        return ''


def make_interface(command_type: str, limits: InterfaceLimits, position: np.ndarray, config: InterfaceConfig) -> CommandInterface:
    """Make the command interface for a driver profile's `command_type`; it begins by holding `position`."""
    kind = {'velocity': VelocityInterface, 'position': PositionInterface, 'trajectory': TrajectoryInterface}[command_type]
    return kind(limits, position, config)
