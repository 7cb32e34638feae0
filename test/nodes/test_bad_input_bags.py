"""A bag that ends in the middle of a record, given to the trainer as experience: what is whole in it is learned from."""

import time
from pathlib import Path

import rclpy
from rcl_interfaces.msg import Log
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message

from mbrl_ros.experience.bags import BagTopic, BagWriter
from mbrl_ros.experience.bags.schemas import schema_text, type_hash
from mbrl_ros.nodes.model_trainer_node import ModelTrainerNode
from mbrl_ros.robots import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import AppliedCommand, RobotState

ROBOT = load_robot('panda')
TIMEOUT_S = 30.0
JOINT_STATE = 'sensor_msgs/msg/JointState'


def record(folder: Path, periods: int) -> Path:
    """A bag of an arm that stands; the path of its only file."""
    topics = [BagTopic(name, JOINT_STATE, schema_text(JOINT_STATE), type_hash(JOINT_STATE))
              for name in ('/state', '/applied_command')]
    zeros = [0.0] * len(ROBOT.joints)
    writer = BagWriter(folder, topics, configuration={}, max_split_bytes=10**8, ros_distro='kilted')
    for stamp_ns in range(0, periods * 50_000_000, 10_000_000):
        state = convert.state_to_msg(RobotState(stamp_ns, ROBOT.joints, ROBOT.home_rad, zeros), ROBOT.base_link)
        writer.write('/state', serialize_message(state), stamp_ns, stamp_ns)
        if stamp_ns % 50_000_000 == 0:
            applied = convert.applied_to_msg(AppliedCommand(stamp_ns, ROBOT.joints, zeros), ROBOT.base_link)
            writer.write('/applied_command', serialize_message(applied), stamp_ns, stamp_ns)
    writer.close()
    [path] = folder.glob('*.mcap')
    return path


def test_a_bag_that_ends_mid_record_gives_what_is_whole_in_it_and_is_named_once(tmp_path):
    path = record(tmp_path / 'bag', 60)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2 + 1])
    context = rclpy.Context()
    context.init()
    listener = rclpy.create_node('listener', context=context)
    logs: list[str] = []
    listener.create_subscription(Log, '/rosout', lambda message: logs.append(message.msg), qos.LATCHED_RECORD)
    trainer = ModelTrainerNode(context=context, parameter_overrides=[
        Parameter('experience_paths', value=[str(tmp_path / 'bag')]), Parameter('lockstep', value=True)])
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(listener)
    executor.add_node(trainer)
    try:
        end_s = time.monotonic() + TIMEOUT_S
        while not any('transitions loaded from bags' in line for line in logs) and time.monotonic() < end_s:
            executor.spin_once(timeout_sec=0.05)
        [line] = [line for line in logs if 'transitions loaded from bags' in line]
        assert 10 < int(line.split()[0]) < 50
        [damage] = [line for line in logs if str(path) in line and 'loaded' not in line]
        assert 'ends' in damage
    finally:
        executor.shutdown()
        trainer.close()
        for node in (trainer, listener):
            node.destroy_node()
        context.try_shutdown()
