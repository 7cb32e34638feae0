"""Messages to core types and back, one pair of functions a type.

A report travels as a `DiagnosticArray` with one status: the stamp in the header, the fields as key/value strings. Every ROS tool
shows it, and no message package has to be compiled.
"""

from array import array
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from rclpy.duration import Duration
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, UInt8MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_ros.errors import GoalError, MeasurementError
from mbrl_ros.reports import ReportT, report_from_texts, report_to_texts, text_of
from mbrl_ros.types import AppliedCommand, DemonstratedAction, EpisodeReport, RobotState, TrainingReport

NANOSECONDS = 1_000_000_000
#: Longest name of an entry of a named vector, in characters.
LONGEST_NAME = 256
MessageT = TypeVar('MessageT')


def stamp_from_msg(stamp: Time) -> int:
    """Nanoseconds of a stamp."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def stamp_to_msg(stamp_ns: int) -> Time:
    """Stamp from nanoseconds."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def header(stamp_ns: int, frame: str = '') -> Header:
    """Header with a stamp and a frame."""
    return Header(stamp=stamp_to_msg(stamp_ns), frame_id=frame)


def names_from_msg(message: JointState) -> tuple[str, ...]:
    """Names of the entries of a named vector.

    Raises:
        MeasurementError: A name is longer than any joint's.
    """
    for name in message.name:
        if len(name) > LONGEST_NAME:
            raise MeasurementError(f'a name of {len(name)} characters; at most {LONGEST_NAME} are read')
    return tuple(message.name)


def state_to_msg(state: RobotState, frame: str) -> JointState:
    """State as a named vector."""
    return JointState(header=header(state.stamp_ns, frame), name=list(state.names), position=doubles(state.position),
                      velocity=doubles(state.velocity))


def state_from_msg(message: JointState) -> RobotState:
    """State from a named vector.

    Raises:
        MeasurementError: Lengths differ, a name is repeated or too long, or a value is not finite.
    """
    position, velocity = np.array(message.position), np.array(message.velocity)
    state = RobotState(stamp_from_msg(message.header.stamp), names_from_msg(message), position, velocity)
    for label, values in (('position', position), ('velocity', velocity)):
        if not np.isfinite(values).all():
            raise MeasurementError(f'state has a {label} that is not finite: '
                                   f'{message.name[int(np.argmin(np.isfinite(values)))]}')
    return state


def applied_to_msg(applied: AppliedCommand, frame: str, gripper: str = '') -> JointState:
    """Applied command as a named vector; see `AppliedCommand.vector`."""
    names, position, velocity = applied.vector(gripper)
    return JointState(header=header(applied.stamp_ns, frame), name=list(names), position=doubles(position),
                      velocity=doubles(velocity))


def applied_from_msg(message: JointState) -> AppliedCommand:
    """Applied command from a named vector.

    Raises:
        MeasurementError: As for `AppliedCommand.of_vector`, or a name is too long.
    """
    return AppliedCommand.of_vector(stamp_from_msg(message.header.stamp), names_from_msg(message), message.position,
                                    message.velocity)


def demonstrated_to_msg(shown: DemonstratedAction) -> JointState:
    """Demonstrated action as a named vector of positions."""
    return JointState(header=header(shown.stamp_ns), name=list(shown.names), position=doubles(shown.action))


def demonstrated_from_msg(message: JointState) -> DemonstratedAction:
    """Demonstrated action from a named vector, unchecked but for the length of names: the controller names what is wrong.

    Raises:
        MeasurementError: A name is too long.
    """
    return DemonstratedAction(stamp_from_msg(message.header.stamp), names_from_msg(message), np.array(message.position))


def goal_to_msg(point_m: Sequence[float], stamp_ns: int, frame: str) -> PoseStamped:
    """Goal position as a pose without rotation."""
    message = PoseStamped(header=header(stamp_ns, frame))
    message.pose.position.x, message.pose.position.y, message.pose.position.z = map(float, point_m)
    return message


def goal_from_msg(message: PoseStamped, base_frame: str) -> tuple[np.ndarray, int]:
    """Goal position in the base frame, shape (3,), and its stamp.

    Raises:
        GoalError: Another frame, or a coordinate that is not finite.
    """
    if message.header.frame_id not in ('', base_frame):
        raise GoalError(f'a goal needs the frame {base_frame!r}, got {message.header.frame_id!r}')
    place = message.pose.position
    point = np.array([place.x, place.y, place.z])
    if not np.isfinite(point).all():
        raise GoalError(f'a goal needs three finite coordinates, got {point.tolist()}')
    return point, stamp_from_msg(message.header.stamp)


def trajectory_to_msg(joints: Sequence[str], times_s: np.ndarray, positions: np.ndarray, velocities: np.ndarray,
                      start: Header) -> JointTrajectory:
    """Trajectory of positions and velocities, each of shape (K, J), due at `times_s` (K,) after the start."""
    points = [JointTrajectoryPoint(positions=doubles(position), velocities=doubles(velocity),
                                   time_from_start=Duration(seconds=time_s).to_msg())
              for time_s, position, velocity in zip(times_s.tolist(), positions, velocities)]
    return JointTrajectory(header=start, joint_names=list(joints), points=points)


def bytes_to_msg(data: bytes) -> UInt8MultiArray:
    """Bytes as a message; rclpy copies an `array` at once, other sequences value by value."""
    return UInt8MultiArray(data=array('B', data))


def bytes_from_msg(message: UInt8MultiArray) -> bytes:
    """Bytes of a message."""
    return bytes(message.data)


def report_to_msg(report: EpisodeReport | TrainingReport) -> DiagnosticArray:
    """Report as one diagnostic status named after its class."""
    return status_to_msg(report.stamp_ns, type(report).__name__, report_to_texts(report))


def report_from_msg(message: DiagnosticArray, kind: type[ReportT]) -> ReportT:
    """Report from a diagnostic status.

    Raises:
        MeasurementError: The status is of another kind, lacks a field, or has a text that does not parse.
    """
    if len(message.status) != 1 or message.status[0].name != kind.__name__:
        names = ', '.join(status.name for status in message.status)
        raise MeasurementError(f'expected one status {kind.__name__!r}, got {names or "none"}')
    return report_from_texts(status_values(message), stamp_from_msg(message.header.stamp), kind)


def message_from_bytes(data: bytes, kind: type[MessageT]) -> MessageT:
    """Message from its serialised form.

    Raises:
        MeasurementError: The bytes do not hold such a message.
    """
    try:
        return deserialize_message(data, kind)
    except Exception as error:  # rclpy raises a private class, and other errors for some bytes.
        raise MeasurementError(f'{len(data)} bytes are no {kind.__name__} ({str(error).splitlines()[0]})') from None


def status_to_msg(stamp_ns: int, name: str, values: dict[str, Any], *, message: str = '', level: bytes = DiagnosticStatus.OK,
                  hardware_id: str = '') -> DiagnosticArray:
    """One named status with key/value strings."""
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id,
                              values=[KeyValue(key=key, value=text_of(value)) for key, value in values.items()])
    return DiagnosticArray(header=header(stamp_ns), status=[status])


def status_values(message: DiagnosticArray) -> dict[str, str]:
    """Key/value strings of the first status; empty when there is none."""
    return {entry.key: entry.value for status in message.status[:1] for entry in status.values}


def doubles(values: np.ndarray) -> array:
    """Values as an `array` of doubles, which rclpy copies at once."""
    return array('d', np.asarray(values, dtype=np.float64).tobytes())
