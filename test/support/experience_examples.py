"""Small recordings for the tests of experience, serialised by the independent `rosbags` library."""


import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from mbrl_ros.experience.bags.metadata import BagTopic
from mbrl_ros.reports import report_to_texts
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState

STORE = get_typestore(Stores.ROS2_KILTED)
TYPES = STORE.types
ROBOT = load_robot('panda')


def bag_topic(name: str, message_type: str, latched: bool = False) -> BagTopic:
    schema, _ = STORE.generate_msgdef(message_type, ros_version=2)
    return BagTopic(name, message_type, schema, STORE.hash_rihs01(message_type), latched)


STATE = bag_topic('/state', 'sensor_msgs/msg/JointState')
APPLIED = bag_topic('/applied_command', 'sensor_msgs/msg/JointState')
EPISODE = bag_topic('/episode', 'diagnostic_msgs/msg/DiagnosticArray', latched=True)
GOAL = bag_topic('/goal', 'std_msgs/msg/String', latched=True)
TOPICS = (STATE, APPLIED, EPISODE, GOAL)


def header(stamp_ns: int):
    stamp = TYPES['builtin_interfaces/msg/Time'](stamp_ns // 10**9, stamp_ns % 10**9)
    return TYPES['std_msgs/msg/Header'](stamp, 'panda_link0')


def cdr(message, message_type: str) -> bytes:
    return bytes(STORE.serialize_cdr(message, message_type))


def string(text: str) -> bytes:
    return cdr(TYPES['std_msgs/msg/String'](text), 'std_msgs/msg/String')


def joint_state(stamp_ns: int, names, position, velocity) -> bytes:
    kind = TYPES['sensor_msgs/msg/JointState']
    return cdr(kind(header(stamp_ns), list(names), np.asarray(position), np.asarray(velocity), np.zeros(0)),
               'sensor_msgs/msg/JointState')


def report(value: EpisodeReport) -> bytes:
    entries = [TYPES['diagnostic_msgs/msg/KeyValue'](key, text) for key, text in report_to_texts(value).items()]
    status = TYPES['diagnostic_msgs/msg/DiagnosticStatus'](0, 'EpisodeReport', '', '', entries)
    array = TYPES['diagnostic_msgs/msg/DiagnosticArray'](header(value.stamp_ns), [status])
    return cdr(array, 'diagnostic_msgs/msg/DiagnosticArray')


def lockstep_run(num_steps: int, seed: int = 0) -> list:
    """Core values of a run in the order they are published: 100 Hz states, 20 Hz reports and commands."""
    rng = np.random.default_rng(seed)
    q, messages = np.array(ROBOT.home_rad), []
    for step in range(num_steps + 1):
        tick = 50_000_000 * step
        for stamp in range(tick - 40_000_000 if step else 0, tick + 1, 10_000_000):
            messages.append(RobotState(stamp, ROBOT.joints, q.copy(), rng.normal(size=7)))
            q += rng.normal(0.0, 0.003, 7)
        phase = Phase.STOPPING if step % 10 > 7 else Phase.RUNNING
        messages.append(EpisodeReport(tick, phase, 0, step // 10, step % 10, step, -0.1, -0.1 * step, 0.2, False,
                                      (0.5, 0.1, 0.4), 0, 0))
        messages.append(AppliedCommand(tick, ROBOT.joints, rng.normal(0.0, 0.3, 7)))
    return messages


def serialised(value) -> tuple[str, bytes]:
    """Topic name and bytes of a core value."""
    if isinstance(value, RobotState):
        return '/state', joint_state(value.stamp_ns, value.names, value.position, value.velocity)
    if isinstance(value, AppliedCommand):
        return '/applied_command', joint_state(value.stamp_ns, *value.vector('gripper'))
    return '/episode', report(value)


def typestore_of(schema: str, message_type: str):
    """Parse a definition the way another reader does."""
    return get_types_from_msg(schema, message_type)
