"""What was logged before a crash is readable after it."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mcap.writer import Writer
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from support.asserts import some
from support.experience_examples import TOPICS, lockstep_run, serialised, string
from typer.testing import CliRunner

from mbrl_ros.cli.bag import app
from mbrl_ros.errors import BagError
from mbrl_ros.experience.bags.reader import BagReader, read_messages
from mbrl_ros.experience.bags.recorder import ExperienceRecorder, RecorderConfig
from mbrl_ros.experience.bags.recovery import recover
from mbrl_ros.experience.bags.writer import BagWriter

_TESTS = Path(__file__).parents[1]


def start_victim(directory: Path, *arguments: str) -> subprocess.Popen:
    path = os.pathsep.join([str(_TESTS.parent), str(_TESTS)])
    return subprocess.Popen([sys.executable, '-m', 'support.experience_victim', str(directory), *arguments],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, 'PYTHONPATH': path})


def expected_data(count: int) -> list[bytes]:
    return [serialised(value)[1] for value in lockstep_run(count // 7 + 2)[:count]]


def kill_after(victim: subprocess.Popen, count: int) -> int:
    """Kill a writer once it has acknowledged `count` messages; returns how many it had acknowledged in the end."""
    acknowledged = 0
    for line in victim.stdout:
        acknowledged = int(line)
        if acknowledged == count:
            victim.kill()
    victim.wait()
    victim.stdout.close()
    victim.stderr.close()
    return acknowledged


def test_after_sigkill_every_acknowledged_message_is_read_and_recovered(tmp_path):
    count = kill_after(start_victim(tmp_path / 'bag'), 100)
    assert count >= 100
    before = [message.data for message in read_messages(tmp_path / 'bag')]
    assert before[:count] == expected_data(count)
    (file,) = recover(tmp_path / 'bag')
    assert file.num_messages == len(before) >= count
    with Reader(tmp_path / 'bag') as reader:
        assert [raw for _, _, raw in reader.messages()] == before
    reader = BagReader(tmp_path / 'bag')
    assert [message.data for message in reader.messages()] == before
    assert not reader.truncations
    assert recover(tmp_path / 'bag') == []


def test_a_writer_recovers_what_a_killed_one_left_and_goes_on(tmp_path):
    kill_after(start_victim(tmp_path / 'bag'), 50)
    before = [message.data for message in read_messages(tmp_path / 'bag')]
    with BagWriter(tmp_path / 'bag', TOPICS) as writer:
        assert [file.num_messages for file in writer.recovered] == [len(before)]
        writer.write('/goal', string('on'), 10**12, 10**12)
    with AnyReader([tmp_path / 'bag']) as reader:
        assert [bytes(raw) for _, _, raw in reader.messages()] == [*before, string('on')]


@pytest.fixture
def small_bag(tmp_path):
    with BagWriter(tmp_path / 'small', TOPICS) as writer:
        for value in lockstep_run(2):
            writer.write(*serialised(value), value.stamp_ns, value.stamp_ns)
    return tmp_path / 'small' / 'small_0.mcap'


def test_a_file_cut_at_any_byte_gives_a_prefix_of_its_messages(small_bag, tmp_path):
    whole, cut = small_bag.read_bytes(), tmp_path / 'cut.mcap'
    messages = [message.data for message in read_messages(small_bag)]
    counts = []
    for size in some(range(8, len(whole))):
        cut.write_bytes(whole[:size])
        reader = BagReader(cut)
        read = [message.data for message in reader.messages()]
        assert read == messages[:len(read)]
        assert len(reader.truncations) == 1
        counts.append(len(read))
    assert counts == sorted(counts)
    assert set(counts) == set(range(len(messages) + 1))


def test_a_file_that_goes_away_before_it_is_read_is_named(small_bag):
    reader = BagReader(small_bag)
    small_bag.unlink()
    with pytest.raises(BagError, match='small_0.mcap: cannot be read'):
        list(reader.messages())


def test_a_file_cut_within_its_first_mark_is_refused(small_bag, tmp_path):
    for size in range(8):
        (tmp_path / 'cut.mcap').write_bytes(small_bag.read_bytes()[:size])
        with pytest.raises(BagError, match='is not an MCAP file'):
            BagReader(tmp_path / 'cut.mcap')


def test_recovery_of_a_file_cut_anywhere_keeps_every_whole_message(small_bag, tmp_path):
    whole = small_bag.read_bytes()
    for size in some(range(8, len(whole), 211)):
        directory = tmp_path / f'cut{size}'
        directory.mkdir()
        path = directory / 'cut_0.mcap'
        path.write_bytes(whole[:size])
        before = [message.data for message in read_messages(path)]
        assert [file.num_messages for file in recover(directory)] == [len(before)]
        with Reader(directory) as reader:
            assert [raw for _, _, raw in reader.messages()] == before


def test_a_damaged_record_ends_the_reading_and_is_reported_with_its_place(small_bag):
    whole = bytearray(small_bag.read_bytes())
    middle = whole.index(serialised(lockstep_run(2)[9])[1]) - 31
    whole[middle:middle + 9] = b'\x05' + (10**15).to_bytes(8, 'little')
    small_bag.write_bytes(whole)
    reader = BagReader(small_bag)
    assert len(list(reader.messages())) == 9
    assert reader.truncations == [f'{small_bag}: the record at byte {middle} is incomplete: '
                                  f'{len(whole) - middle} bytes of {10**15 + 9}']


def test_recovery_keeps_the_original_of_a_file_that_broke_in_the_middle(small_bag):
    whole = bytearray(small_bag.read_bytes())
    middle = whole.index(serialised(lockstep_run(2)[9])[1]) - 31
    whole[middle:middle + 9] = b'\x05' + (10**15).to_bytes(8, 'little')
    small_bag.write_bytes(whole)
    assert [file.num_messages for file in recover(small_bag.parent)] == [9]
    assert small_bag.with_name('small_0.mcap.damaged').read_bytes() == whole


def test_recovery_leaves_a_file_alone_that_it_could_not_rewrite_whole(tmp_path):
    path = tmp_path / 'mixed.mcap'
    with open(path, 'wb') as stream:
        writer = Writer(stream, use_chunking=False)
        writer.start()
        schema = writer.register_schema('Note', 'jsonschema', b'{}')
        writer.add_message(writer.register_channel('/note', 'json', schema), 0, b'{}', 0)
    whole = path.read_bytes()
    with pytest.raises(BagError, match='would lose: /note'):
        recover(path)
    assert path.read_bytes() == whole


def test_a_foreign_file_is_set_aside_and_does_not_keep_a_recording_from_beginning(tmp_path):
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'bag_0.mcap').write_bytes(b'no MCAP at all')
    with BagWriter(tmp_path / 'bag', TOPICS) as writer:
        writer.write('/goal', string('on'), 1, 1)
    assert [message.decoded().data for message in read_messages(tmp_path / 'bag')] == ['on']
    assert (tmp_path / 'bag' / 'bag_0.mcap.damaged').read_bytes() == b'no MCAP at all'


def test_the_command_line_shows_and_recovers_an_unclosed_bag(small_bag):
    small_bag.write_bytes(small_bag.read_bytes()[:-100])
    shown = CliRunner().invoke(app, ['info', str(small_bag.parent)])
    assert shown.exit_code == 0
    assert f'{len(lockstep_run(2))} messages' in shown.output
    assert 'unclosed' in shown.output
    recovered = CliRunner().invoke(app, ['recover', str(small_bag.parent)])
    assert f'recovered {len(lockstep_run(2))} messages' in recovered.output
    assert 'is closed; nothing to recover' in CliRunner().invoke(app, ['recover', str(small_bag.parent)]).output


def test_a_file_that_may_not_grow_keeps_all_acknowledged_and_names_path_and_cause(tmp_path):
    output, errors = start_victim(tmp_path / 'bag', '30000').communicate()
    count = int(output.split()[-1])
    assert 'bag_0.mcap: cannot be written (File too large, errno 27); what was logged before stays readable' in errors
    reader = BagReader(tmp_path / 'bag')
    assert [message.data for message in reader.messages()] == expected_data(count)
    assert 'ends without its index, 0 bytes after a record' in reader.truncations[0]
    assert (tmp_path / 'bag' / 'bag_0.mcap').stat().st_size < 30_000


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    path = tmp_path / 'disk'
    path.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'none', str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f'needs the right to mount a small file system: {mounted.stderr.decode().strip()}')
    yield path
    subprocess.run(['umount', '-l', str(path)], check=True)


def test_a_full_disk_interrupts_the_recording_once_and_nothing_logged_is_lost(small_disk):
    ballast = small_disk / 'ballast'
    ballast.write_bytes(bytes(190_000))
    recorder = ExperienceRecorder(small_disk / 'bag', RecorderConfig(retry_s=1.0), TOPICS, {})
    assert recorder.start(0.0) == ''
    lines, kept, now_s = [], [], 0.0
    for value in lockstep_run(60):
        now_s += 0.01
        num_lost = recorder.num_lost
        topic, data = serialised(value)
        if line := recorder.record(topic, data, value.stamp_ns, value.stamp_ns, now_s):
            lines.append(line)
        if recorder.num_lost == num_lost:
            kept.append(data)
        if recorder.num_lost == 100:
            assert recorder.error
            ballast.unlink(missing_ok=True)
    assert recorder.close() == ''
    assert len(lines) == 2
    assert 'bag_0.mcap: cannot be written (No space left on device, errno 28)' in lines[0]
    assert lines[1].startswith(f'recording again into {small_disk}/bag/bag_1.mcap; ')
    assert 100 <= recorder.num_lost < 250
    read = [message.data for message in read_messages(small_disk / 'bag')]
    assert [data for data in kept if data not in read] == []
    with Reader(small_disk / 'bag') as reader:
        assert reader.message_count >= len(kept)


def test_retries_on_a_full_disk_leave_no_trail(small_disk):
    recorder = ExperienceRecorder(small_disk / 'bag', RecorderConfig(retry_s=0.01), TOPICS, {})
    recorder.start(0.0)
    with contextlib.suppress(OSError):
        (small_disk / 'ballast').write_bytes(bytes(400_000))
    lines = [recorder.record('/goal', string('x' * 9_000), now, now, float(now)) for now in range(1, 50)]
    assert recorder.num_lost == 49
    assert sum(map(bool, lines)) == 1
    assert list((small_disk / 'bag').glob('*.mcap')) == []


def test_a_directory_that_cannot_be_made_is_an_error_and_not_the_end(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    recorder = ExperienceRecorder(tmp_path / 'file' / 'bag', RecorderConfig(), TOPICS, {})
    assert 'file/bag: cannot be written (Not a directory, errno 20)' in recorder.start(0.0)
    (tmp_path / 'file').unlink()
    assert recorder.record('/goal', string('kept'), 1, 1, 0.5) == ''
    assert recorder.record('/goal', string('now'), 2, 2, 1.5).startswith('recording again')
    recorder.close()
    assert [m.decoded().data for m in read_messages(tmp_path / 'file' / 'bag')] == ['kept', 'now']


def test_a_file_that_cannot_even_be_closed_is_an_error_and_not_the_end(tmp_path):
    recorder = ExperienceRecorder(tmp_path / 'bag', RecorderConfig(), TOPICS, {})
    recorder.start(0.0)
    os.close(recorder._writer._file._sink._descriptor)
    assert 'cannot be written (Bad file descriptor' in recorder.record('/goal', string('lost'), 1, 1, 0.5)
    assert recorder.record('/goal', string('now'), 2, 2, 1.5).startswith('recording again')
    recorder.close()
    assert [message.decoded().data for message in read_messages(tmp_path / 'bag')] == ['lost', 'now']


def test_the_end_of_an_episode_is_synced_to_the_disk(tmp_path):
    recorder = ExperienceRecorder(tmp_path / 'bag', RecorderConfig(), TOPICS, {})
    recorder.start(0.0)
    recorder.record('/goal', string('a'), 1, 1, 0.0)
    assert [recorder.on_phase(is_episode, 0.0) for is_episode in (True, True, False, False)] == ['', '', '', '']
    assert recorder.close() == ''
    assert recorder.num_messages == 1
