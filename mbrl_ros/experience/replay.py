"""Transitions from bags, through the assembler that makes live ones too; without ROS."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbrl_ros.errors import BagError, MeasurementError
from mbrl_ros.experience.assembler import AssemblerConfig, TransitionAssembler
from mbrl_ros.experience.bags.reader import BagMessage, BagReader
from mbrl_ros.reports import report_from_texts
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import AppliedCommand, EpisodeReport, RobotState, Transition

if TYPE_CHECKING:
    from mbrl_ros.spaces.space import ActionSpace

_STATE, _APPLIED, _EPISODE = 'state', 'applied_command', 'episode'
_NANOSECONDS = 1_000_000_000


def load_transitions(paths: str | Path | Iterable[str | Path], robot: RobotProfile, space: 'ActionSpace', period_s: float, *,
                     namespace: str | None = None, config: AssemblerConfig | None = None,
                     on_damage: Callable[[str], None] | None = None) -> list[Transition]:
    """Every transition of some bags, in their order.

    Args:
        paths: Bag directories or `.mcap` files.
        robot: Profile of the recorded arm.
        space: Makes observations and actions from the recording.
        period_s: Control period.
        namespace: Namespace of the recorded topics, as `/left`; needed only if a bag has several.
        config: Limits of the assembler.
        on_damage: Gets one line for each file that is cut off or damaged; its whole messages are used.

    Raises:
        BagError: A bag cannot be read, or has no usable states or applied commands, as with other joints.
    """
    transitions: list[Transition] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        transitions += replay(path, TransitionAssembler(robot, space, period_s, config), namespace, on_damage)
    return transitions


def replay(path: str | Path, assembler: TransitionAssembler, namespace: str | None = None,
           on_damage: Callable[[str], None] | None = None) -> list[Transition]:
    """Feed one bag to an assembler and flush it; arguments as for `load_transitions`.

    A recording contains malformed messages too. They are skipped, as in a live run, and the assembler counts them.

    Raises:
        BagError: As for `load_transitions`.
    """
    reader = BagReader(path)
    handlers = {
        _STATE: lambda message: assembler.on_state(state_of(message)),
        _APPLIED: lambda message: assembler.on_applied(applied_of(message)),
        _EPISODE: lambda message: assembler.on_report(report_of(message)),
    }
    seen: dict[str, str] = {}
    used: set[str] = set()
    refusals: dict[str, str] = {}
    transitions: list[Transition] = []
    for message in reader.messages():
        prefix, _, role = message.topic.name.rpartition('/')
        if role not in handlers or (namespace is not None and prefix != namespace.rstrip('/')):
            continue
        if seen.setdefault(role, message.topic.name) != message.topic.name:
            raise BagError(f'{path}: holds both {seen[role]} and {message.topic.name}; name the namespace')
        try:
            transitions += handlers[role](message)
            used.add(role)
        except (BagError, MeasurementError) as error:
            assembler.dropped['message cannot be used'] += 1
            refusals.setdefault(role, f'{path}: {message.topic.name}: {error}')
    if on_damage is not None:
        for text in reader.truncations:
            on_damage(text)
    for role in (_STATE, _APPLIED):
        if role in refusals and role not in used:
            raise BagError(refusals[role])
    if missing := [role for role in (_STATE, _APPLIED) if role not in seen]:
        names = ', '.join(sorted(reader.topics)) or 'nothing'
        raise BagError(f'{path}: holds no message on {" nor on ".join(missing)}; its topics are {names}')
    return transitions + assembler.flush()


def state_of(message: BagMessage) -> RobotState:
    """State of a recorded `sensor_msgs/msg/JointState`.

    Raises:
        BagError: The message cannot be decoded.
        MeasurementError: The message has another type.
    """
    decoded = _joint_state(message)
    return RobotState(_stamp(decoded), tuple(decoded.name), np.array(decoded.position), np.array(decoded.velocity))


def applied_of(message: BagMessage) -> AppliedCommand:
    """Applied command of a recorded `sensor_msgs/msg/JointState`.

    Raises:
        BagError: The message cannot be decoded.
        MeasurementError: The message has another type, or its values do not fit its names.
    """
    decoded = _joint_state(message)
    return AppliedCommand.of_vector(_stamp(decoded), decoded.name, decoded.position, decoded.velocity)


def report_of(message: BagMessage) -> EpisodeReport:
    """Episode report of a recorded `diagnostic_msgs/msg/DiagnosticArray`.

    Raises:
        BagError: The message cannot be decoded.
        MeasurementError: The message is not such a report, or a field does not parse.
    """
    decoded = message.decoded()
    status = getattr(decoded, 'status', [])
    texts = {entry.key: entry.value for entry in status[0].values} if len(status) == 1 else {}
    return report_from_texts(texts, _stamp(decoded), EpisodeReport)


def _joint_state(message: BagMessage) -> Any:
    if message.topic.type != 'sensor_msgs/msg/JointState':
        raise MeasurementError(f'needs the type sensor_msgs/msg/JointState, the bag has {message.topic.type}')
    return message.decoded()


def _stamp(decoded: Any) -> int:
    return decoded.header.stamp.sec * _NANOSECONDS + decoded.header.stamp.nanosec
