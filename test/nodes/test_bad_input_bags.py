"""A bag that ends in the middle of a record, given to the trainer as experience: what is whole in it is learned from."""

from pathlib import Path

from rclpy.serialization import serialize_message
from support.bench import NodeBench

from mbrl_ros.experience.bags.metadata import BagTopic
from mbrl_ros.experience.bags.schemas import schema_text, type_hash
from mbrl_ros.experience.bags.writer import BagWriter
from mbrl_ros.nodes.model_trainer_node import ModelTrainerNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert
from mbrl_ros.types import AppliedCommand, RobotState

ROBOT = load_robot('panda')
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
    bench = NodeBench('listener')
    try:
        bench.start(ModelTrainerNode, experience_paths=[str(tmp_path / 'bag')], lockstep=True)
        bench.spin_until(lambda: bench.said('transitions loaded from bags'))
        [line] = bench.said('transitions loaded from bags')
        assert 10 < int(line.split()[0]) < 50
        [damage] = [line for line in bench.said(str(path)) if 'loaded' not in line]
        assert 'ends' in damage
    finally:
        bench.close()
