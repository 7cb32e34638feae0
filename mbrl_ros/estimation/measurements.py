"""Sensor messages as plain values, and the checks that each must pass before the filter uses it.

These checks need the message alone; checks that need the filter's state (outliers, jumps) are in `estimator`.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from transforms3d.euler import quat2euler

from mbrl_ros.errors import MeasurementError
from mbrl_ros.robots.profile import GripperProfile
from mbrl_ros.robots.turns import nearest_turn

#: Most names of unknown joints that are remembered, and the longest, in characters.
_MOST_UNKNOWN, _LONGEST_NAME = 100, 256
#: No arm or tabletop has positions (rad, m) or velocities beyond this.
_IMPLAUSIBLE = 1e3
_UNIT_TOLERANCE = 1e-2


class RefusalError(MeasurementError):
    """A refused measurement.

    Args:
        reason: Name of its counter: `length`, `duplicate`, `position`, `velocity`, `stamp`, `quaternion`, `frame` or `unknown`.
        text: The given values, and the allowed ones.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class JointMeasurement:
    """One joint state message: any joints, in any order.

    Attributes:
        stamp_ns: When the joints were measured, nanoseconds.
        names: The joints.
        position: One number for each name, rad or m.
        velocity: One for each name, rad/s or m/s, or NaN; None or empty if no velocity was measured.
    """

    stamp_ns: int
    names: Sequence[str]
    position: Sequence[float]
    velocity: Sequence[float] | None = None


@dataclasses.dataclass(frozen=True)
class BodyMeasurement:
    """One pose message of a tracked body, in the robot's base frame.

    Attributes:
        stamp_ns: When it was measured, nanoseconds.
        body: Name of the body.
        position_m: Shape (3,).
        quaternion_xyzw: Shape (4,), order as in ROS messages.
        frame: Frame of the pose; empty for the base frame.
    """

    stamp_ns: int
    body: str
    position_m: Sequence[float]
    quaternion_xyzw: Sequence[float]
    frame: str = ''


@dataclasses.dataclass(frozen=True)
class Reading:
    """A checked measurement of some entries of the state.

    Attributes:
        stamp_ns: When it was measured.
        channels: Indices of the n measured entries, shape (n,).
        position: Shape (n,), finite.
        velocity: Shape (n,); NaN if not measured.
    """

    stamp_ns: int
    channels: np.ndarray
    position: np.ndarray
    velocity: np.ndarray


class JointReader:
    """Matches joint states by name to the entries of the state, and sums the fingers to the gripper's opening.

    Fingers may come in one message or in several; once every finger has a new position, there is a new opening.

    Args:
        joints: The arm joints; joint i is entry i of the state.
        gripper: The gripper, whose opening is the entry after the joints; None without one.
    """

    def __init__(self, joints: Sequence[str], gripper: GripperProfile | None = None) -> None:
        self._entry = {name: index for index, name in enumerate(joints)}
        self._fingers = gripper.joints if gripper else ()
        self._opening = len(joints)
        self._seen_fingers: dict[str, tuple[float, float]] = {}
        self._unknown: set[str] = set()

    def read(self, measurement: JointMeasurement) -> Reading:
        """Check one message and pick the tracked entries; there may be none.

        Raises:
            RefusalError: Lengths differ, a name is repeated, a tracked position is not finite, or a tracked value is beyond 1e3.
        """
        names = measurement.names
        speeds = measurement.velocity
        if speeds is None or not len(speeds):
            speeds = [math.nan] * len(names)
        for label, values in (('position', measurement.position), ('velocity', speeds)):
            if len(values) != len(names):
                raise RefusalError('length', f'joint state has {len(names)} names but {len(values)} entries in {label}')
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise RefusalError('duplicate', f'joint state repeats the name {", ".join(map(repr, repeated))}')
        known = [(name, index) for index, name in enumerate(names) if name in self._entry or name in self._fingers]
        position = {name: _position(name, measurement.position[index]) for name, index in known}
        velocity = {name: _velocity(name, speeds[index]) for name, index in known}
        entries = [(self._entry[name], position[name], velocity[name]) for name, _ in known if name in self._entry]
        self._seen_fingers.update({name: (position[name], velocity[name]) for name, _ in known if name in self._fingers})
        if self._fingers and len(self._seen_fingers) == len(self._fingers):
            opening, speed = (sum(values) for values in zip(*self._seen_fingers.values()))
            entries.append((self._opening, opening, speed))
            self._seen_fingers = {}
        columns = list(zip(*entries)) or [(), (), ()]
        return Reading(measurement.stamp_ns, np.array(columns[0], dtype=int), np.array(columns[1], dtype=float),
                       np.array(columns[2], dtype=float))

    @property
    def missing_fingers(self) -> list[str]:
        """Fingers whose positions the next opening still waits for; none while it waits for all."""
        return [name for name in self._fingers if name not in self._seen_fingers] if self._seen_fingers else []

    def new_unknown(self, names: Sequence[str]) -> list[str]:
        """Names that are not tracked; each of the first hundred is returned once, later ones never."""
        known = self._entry.keys() | self._unknown | set(self._fingers)
        fresh = [name[:_LONGEST_NAME] for name in names if name[:_LONGEST_NAME] not in known]
        fresh = fresh[:_MOST_UNKNOWN - len(self._unknown)]
        self._unknown.update(fresh)
        return fresh


def read_body(measurement: BodyMeasurement, first_channel: int) -> Reading:
    """Check one pose and turn it into six entries: coordinates, then fixed-axis roll, pitch, yaw.

    Args:
        measurement: The pose.
        first_channel: Index of the body's first entry in the state.

    Raises:
        RefusalError: There are not 3 coordinates and 4 quaternion entries, a coordinate is not finite or beyond 1e3, or the
            length of the quaternion differs from 1 by more than 1e-2.
    """
    position = [_position(f'{measurement.body}_{axis}', value) for axis, value in zip('xyz', measurement.position_m)]
    quaternion = [float(value) for value in measurement.quaternion_xyzw]
    if len(position) != 3 or len(quaternion) != 4:
        raise RefusalError('length', f'a pose needs 3 coordinates and 4 quaternion entries, got {len(position)} and '
                                     f'{len(quaternion)}')
    x, y, z, w = quaternion
    norm = math.hypot(x, y, z, w)
    if not abs(norm - 1.0) <= _UNIT_TOLERANCE:
        shown = ', '.join(f'{value:.4g}' for value in quaternion)
        raise RefusalError('quaternion', f'quaternion (x, y, z, w) = ({shown}) of {measurement.body!r} has length {norm:.4g}; '
                                         f'it needs 1 within {_UNIT_TOLERANCE:g}')
    # In transforms3d w comes first.
    angles = quat2euler((w / norm, x / norm, y / norm, z / norm), axes='sxyz')
    return Reading(measurement.stamp_ns, np.arange(first_channel, first_channel + 6), np.array([*position, *angles]),
                   np.full(6, math.nan))


def nearest_angles(angles: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Roll, pitch and yaw of the same orientation, as near as possible to a reference.

    Up to full turns, every orientation has two sets of fixed-axis angles. With the nearer set the angles stay continuous through
    half turns and, except at the poles themselves, through a pitch of 90 degrees.

    Args:
        angles: Roll, pitch, yaw, shape (3,), rad.
        reference: Likewise, of any number of turns.
    """
    roll, pitch, yaw = angles
    candidates = nearest_turn(np.array([[roll, pitch, yaw], [roll + math.pi, math.pi - pitch, yaw + math.pi]]), reference)
    return candidates[np.abs(candidates - reference).sum(axis=1).argmin()]


def _position(name: str, value: float) -> float:
    if not abs(value) <= _IMPLAUSIBLE:
        raise RefusalError('position', f'position of {name!r} needs to be finite and within ±{_IMPLAUSIBLE:g}, got {value}')
    return float(value)


def _velocity(name: str, value: float) -> float:
    if not math.isfinite(value):
        return math.nan
    if abs(value) > _IMPLAUSIBLE:
        raise RefusalError('velocity', f'velocity of {name!r} needs to be within ±{_IMPLAUSIBLE:g}, got {value}')
    return float(value)
