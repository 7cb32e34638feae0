"""Bags that rosbag2's format promises, checked with a second, independent reader."""

import os

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from support.asserts import some
from support.experience_examples import (
    APPLIED,
    EPISODE,
    GOAL,
    ROBOT,
    STATE,
    STORE,
    TOPICS,
    bag_topic,
    joint_state,
    lockstep_run,
    serialised,
    string,
    typestore_of,
)

from mbrl_ros.errors import BagError
from mbrl_ros.experience.assembler import TransitionAssembler
from mbrl_ros.experience.bags.reader import BagReader, read_messages
from mbrl_ros.experience.bags.recorder import ExperienceRecorder, RecorderConfig
from mbrl_ros.experience.bags.recovery import recover
from mbrl_ros.experience.bags.schemas import schema_text, type_hash
from mbrl_ros.experience.bags.writer import BagWriter
from mbrl_ros.experience.replay import applied_of, load_transitions
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.types import AppliedCommand, RobotState

JOINTS = JointSpace(ROBOT)


def write_run(directory, run, **options) -> None:
    with BagWriter(directory, TOPICS, **options) as writer:
        for value in run:
            writer.write(*serialised(value), value.stamp_ns + 1_000, value.stamp_ns)


def test_an_independent_reader_finds_every_message_type_and_value(tmp_path):
    run = lockstep_run(20)
    write_run(tmp_path / 'bag', run)
    with AnyReader([tmp_path / 'bag']) as reader:
        read = [(c.topic, c.msgtype, reader.deserialize(raw, c.msgtype)) for c, _, raw in reader.messages()]
    assert len(read) == len(run)
    for value, (topic, message_type, message) in some(zip(run, read)):
        if isinstance(value, RobotState):
            assert (topic, message_type) == ('/state', 'sensor_msgs/msg/JointState')
            assert (message.position == value.position).all()
            assert (message.velocity == value.velocity).all()
        elif isinstance(value, AppliedCommand):
            assert (message.velocity == value.velocity).all()
        else:
            assert message.status[0].name == 'EpisodeReport'


def test_metadata_has_the_keys_of_rosbag2_in_its_order(tmp_path):
    write_run(tmp_path / 'bag', lockstep_run(5), ros_distro='kilted')
    information = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert list(information) == [
        'version', 'storage_identifier', 'duration', 'starting_time', 'message_count', 'topics_with_message_count',
        'compression_format', 'compression_mode', 'relative_file_paths', 'files', 'custom_data', 'ros_distro']
    assert (information['version'], information['storage_identifier'], information['ros_distro']) == (9, 'mcap', 'kilted')
    assert information['files'] == [{'path': 'bag_0.mcap', 'starting_time': {'nanoseconds_since_epoch': 1_000},
                                     'duration': {'nanoseconds': 250_000_000}, 'message_count': 38}]
    goal = next(t for t in information['topics_with_message_count'] if t['topic_metadata']['name'] == '/goal')
    assert goal['topic_metadata']['offered_qos_profiles'][0]['durability'] == 'transient_local'
    assert goal['topic_metadata']['type_description_hash'] == STORE.hash_rihs01('std_msgs/msg/String')


def test_metadata_exists_from_the_first_moment(tmp_path):
    with BagWriter(tmp_path / 'bag', TOPICS):
        assert yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())


def test_files_are_split_by_size_and_each_stands_alone(tmp_path):
    run = lockstep_run(40)
    with BagWriter(tmp_path / 'bag', TOPICS, max_split_bytes=40_000) as writer:
        writer.write('/goal', string('here'), 0, 0)
        for value in run:
            writer.write(*serialised(value), value.stamp_ns, value.stamp_ns)
    files = sorted((tmp_path / 'bag').glob('*.mcap'))
    assert [file.name for file in files] == [f'bag_{number}.mcap' for number in range(len(files))]
    assert len(files) > 2
    assert all(40_000 <= file.stat().st_size < 55_000 for file in files[:-1])  # the index comes on top
    for file in files:
        assert next(read_messages(file, ['/goal'])).decoded().data == 'here'
    assert [message.data for message in read_messages(tmp_path / 'bag', ['/goal'])] == [string('here')]
    expected = [serialised(value) for value in run]
    read = read_messages(tmp_path / 'bag', ['/state', '/applied_command', '/episode'])
    assert [(message.topic.name, message.data) for message in read] == expected
    with Reader(tmp_path / 'bag') as reader:
        assert reader.message_count == len(run) + 1 + 2 * (len(files) - 1)


def test_a_bag_that_is_continued_keeps_what_it_held(tmp_path):
    run = lockstep_run(20)
    write_run(tmp_path / 'bag', run[:60])
    write_run(tmp_path / 'bag', run[60:])
    assert [m.data for m in read_messages(tmp_path / 'bag')] == [serialised(value)[1] for value in run]
    with Reader(tmp_path / 'bag') as reader:
        assert reader.message_count == len(run)


def test_a_recorder_goes_on_with_a_crashed_recording_and_moves_a_finished_one_aside(tmp_path):
    def record(count):
        recorder = ExperienceRecorder(tmp_path / 'bag', RecorderConfig(), TOPICS, {})
        assert not recorder.start(0.0)
        for number in range(count):
            recorder.record('/goal', string(str(number)), number, number, 0.0)
        return recorder

    record(3).close()
    assert not record(2).close()
    finished, = tmp_path.glob('bag-*')
    assert len(list(read_messages(finished))) == 3
    assert len(list(read_messages(tmp_path / 'bag'))) == 2

    crashed = tmp_path / 'bag' / 'bag_0.mcap'
    crashed.write_bytes(crashed.read_bytes()[:-20])
    record(4).close()
    assert len(list(read_messages(tmp_path / 'bag'))) == 6
    assert len(list(tmp_path.glob('bag-*'))) == 1


def test_log_times_never_fall_within_a_file_and_a_clock_set_back_begins_another(tmp_path):
    with BagWriter(tmp_path / 'bag', TOPICS) as writer:
        for stamp_ns in (10 * 10**9, 10 * 10**9 - 5, 10 * 10**9 + 5, 3, 4):
            writer.write('/goal', string(str(stamp_ns)), stamp_ns, stamp_ns)
    assert [m.log_time_ns for m in read_messages(tmp_path / 'bag' / 'bag_0.mcap')] == [10 * 10**9, 10 * 10**9, 10 * 10**9 + 5]
    assert [m.log_time_ns for m in BagReader(tmp_path / 'bag').messages()][-2:] == [3, 4]
    with AnyReader([tmp_path / 'bag']) as reader:
        assert len(list(reader.messages())) == 6


def test_configuration_is_in_every_file_and_beside_them(tmp_path):
    write_run(tmp_path / 'bag', lockstep_run(5), configuration={'rate_hz': 20.0})
    assert yaml.safe_load((tmp_path / 'bag' / 'config.yaml').read_text()) == {'rate_hz': 20.0}
    reader = BagReader(tmp_path / 'bag')
    assert len(list(reader.messages())) == 38
    assert reader.metadata['mbrl_ros'] == {'configuration': '{"rate_hz": 20.0}'}


def test_two_writers_never_share_a_bag(tmp_path):
    with BagWriter(tmp_path / 'bag', TOPICS), \
            pytest.raises(BagError, match=f'bag: is being written by process {os.getpid()}'):
        BagWriter(tmp_path / 'bag', TOPICS)


def test_a_live_bag_is_not_recovered_but_can_be_read(tmp_path):
    with BagWriter(tmp_path / 'bag', TOPICS) as writer:
        writer.write('/goal', string('now'), 1, 1)
        with pytest.raises(BagError, match='is being written by process'):
            recover(tmp_path / 'bag')
        assert [m.decoded().data for m in read_messages(tmp_path / 'bag')] == ['now']


def test_an_unknown_topic_is_refused_by_name(tmp_path):
    with BagWriter(tmp_path / 'bag', TOPICS) as writer, pytest.raises(BagError, match="no topic '/gaol'; it has /state"):
        writer.write('/gaol', b'', 0, 0)


@pytest.mark.parametrize(('content', 'text'), [(b'', 'is not an MCAP file; it is empty'), (b'#ROSBAG V2.0\n', 'is not an MCAP')])
def test_a_foreign_file_is_refused(tmp_path, content, text):
    (tmp_path / 'x.mcap').write_bytes(content)
    with pytest.raises(BagError, match=text):
        BagReader(tmp_path / 'x.mcap')


def test_a_missing_bag_and_an_empty_directory_are_told_apart(tmp_path):
    with pytest.raises(BagError, match='nowhere: no such file or directory'):
        BagReader(tmp_path / 'nowhere')
    with pytest.raises(BagError, match='holds no MCAP file'):
        BagReader(tmp_path)


def test_a_chunked_compressed_bag_of_another_recorder_is_read(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer
    with Writer(tmp_path / 'other', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/goal', 'std_msgs/msg/String', typestore=STORE)
        for number in range(50):
            writer.write(connection, number, string(f'goal {number}'))
    assert [m.decoded().data for m in read_messages(tmp_path / 'other')] == [f'goal {number}' for number in range(50)]


@pytest.mark.parametrize('message_type', [
    'sensor_msgs/msg/JointState', 'diagnostic_msgs/msg/DiagnosticArray', 'geometry_msgs/msg/PoseStamped',
    'std_msgs/msg/UInt8MultiArray', 'visualization_msgs/msg/MarkerArray', 'trajectory_msgs/msg/JointTrajectory'])
def test_definitions_from_the_installation_are_those_of_the_independent_library(message_type):
    pytest.importorskip(message_type.partition('/')[0])
    assert type_hash(message_type) in ('', STORE.hash_rihs01(message_type))
    for name, definition in some(typestore_of(schema_text(message_type), message_type).items()):
        assert [field[0] for field in definition[1]] == [field[0] for field in STORE.fielddefs[name][1]]


def test_a_type_that_is_not_installed_is_named():
    with pytest.raises(BagError, match="message type 'no_msgs/msg/Such' is not installed"):
        schema_text('no_msgs/msg/Such')


def test_replayed_transitions_equal_the_live_ones(tmp_path):
    run = lockstep_run(60)
    write_run(tmp_path / 'bag', run, max_split_bytes=30_000)
    live = TransitionAssembler(ROBOT, JOINTS, 0.05)
    expected = []
    for value in run:
        on = {RobotState: live.on_state, AppliedCommand: live.on_applied}.get(type(value), live.on_report)
        expected += on(value)
    expected += live.flush()
    replayed = load_transitions(tmp_path / 'bag', ROBOT, JOINTS, 0.05)
    assert len(replayed) == len(expected) == 48
    for ours, theirs in zip(replayed, expected):
        assert (ours.stamp_ns, ours.episode) == (theirs.stamp_ns, theirs.episode)
        for field in ('obs', 'action', 'next_obs'):
            assert (getattr(ours, field) == getattr(theirs, field)).all()


def test_what_the_gripper_was_told_is_replayed(tmp_path):
    told = AppliedCommand(5, ROBOT.joints, np.arange(7.0), 0.03)
    write_run(tmp_path / 'bag', [told, AppliedCommand(6, ROBOT.joints, np.zeros(7))])
    first, second = (applied_of(message) for message in BagReader(tmp_path / 'bag').messages())
    assert (first.names, first.opening_m, second.opening_m) == (ROBOT.joints, 0.03, None)
    np.testing.assert_array_equal(first.velocity, told.velocity)


def test_several_bags_are_replayed_in_their_order(tmp_path):
    for number in range(2):
        write_run(tmp_path / str(number), lockstep_run(20, seed=number))
    both = load_transitions([tmp_path / '0', tmp_path / '1'], ROBOT, JOINTS, 0.05)
    apart = [t for number in '01' for t in load_transitions(tmp_path / number, ROBOT, JOINTS, 0.05)]
    assert np.array_equal([t.obs for t in both], [t.obs for t in apart])


def test_a_bag_without_states_or_commands_is_refused(tmp_path):
    write_run(tmp_path / 'bag', [value for value in lockstep_run(5) if not isinstance(value, AppliedCommand)])
    with pytest.raises(BagError, match='holds no message on applied_command; its topics are /applied_command, /episode'):
        load_transitions(tmp_path / 'bag', ROBOT, JOINTS, 0.05)


def test_a_bag_of_another_robot_is_refused_by_its_joints(tmp_path):
    with BagWriter(tmp_path / 'bag', TOPICS) as writer:
        writer.write('/state', joint_state(0, ['lbr_A1'], [0.0], [0.0]), 0, 0)
    with pytest.raises(BagError, match='/state: state lacks panda_joint1.*it has lbr_A1'):
        load_transitions(tmp_path / 'bag', ROBOT, JOINTS, 0.05)


def test_malformed_messages_in_a_bag_are_left_out_as_live(tmp_path):
    malformed = [('/state', joint_state(400_000_001, ['panda_joint1'], [0.0], [0.0])), ('/state', b'\0\1\0\0no state'),
                 ('/applied_command', joint_state(400_000_002, ROBOT.joints, [], [0.0])), ('/episode', string('no report'))]
    with BagWriter(tmp_path / 'bag', TOPICS) as writer:
        for value in lockstep_run(20):
            name, data = serialised(value)
            writer.write(name, data, value.stamp_ns, value.stamp_ns)
            while malformed and value.stamp_ns >= 400_000_000:
                writer.write(*malformed.pop(), value.stamp_ns, value.stamp_ns)
    assert len(load_transitions(tmp_path / 'bag', ROBOT, JOINTS, 0.05)) == 16


def test_a_bag_of_two_robots_needs_a_namespace(tmp_path):
    topics = [bag_topic(f'/{side}{topic.name}', topic.type, topic.latched)
              for side in ('left', 'right') for topic in (STATE, APPLIED, EPISODE, GOAL)]
    with BagWriter(tmp_path / 'bag', topics) as writer:
        for value in lockstep_run(20):
            name, data = serialised(value)
            writer.write(f'/left{name}', data, value.stamp_ns, value.stamp_ns)
            writer.write(f'/right{name}', data, value.stamp_ns, value.stamp_ns)
    with pytest.raises(BagError, match='holds both /left/state and /right/state; name the namespace'):
        load_transitions(tmp_path / 'bag', ROBOT, JOINTS, 0.05)
    assert len(load_transitions(tmp_path / 'bag', ROBOT, JOINTS, 0.05, namespace='/left')) == 16
