"""Closing bags that their writer left unclosed, without losing a whole record."""

import dataclasses
import itertools
import os
import time
from pathlib import Path

from mcap.reader import make_reader

from mbrl_ros.errors import BagError
from mbrl_ros.experience.bags.file import CONFIGURATION_RECORD, BagFile, configuration_of
from mbrl_ros.experience.bags.lock import BagLock
from mbrl_ros.experience.bags.metadata import METADATA_FILE, BagTopic, FileSummary, bag_information, write_metadata
from mbrl_ros.experience.bags.reader import MAGIC, BagFileReader, bag_files


@dataclasses.dataclass(frozen=True)
class RecoveredFile:
    """One file that was unclosed and now is closed.

    Attributes:
        path: The file.
        num_messages: Messages in it: every whole message of the unclosed file.
        tail: Description of the lost bytes after the last whole record.
    """

    path: Path
    num_messages: int
    tail: str


def recover(path: str | Path) -> list[RecoveredFile]:
    """Close every unclosed file of a bag, and write the bag's `metadata.yaml` anew.

    An original file stays until its successor is whole and on the disk. A file that is damaged in the middle stays for good, as
    `<file>.damaged`. A closed bag does not change.

    Args:
        path: Bag directory, or one `.mcap` file; then only that file is rewritten.

    Raises:
        BagError: Another process is writing the bag, there is no bag, a file has topics in other encodings than ROS 2 messages,
            or a file cannot be written.
    """
    path = Path(path)
    files = bag_files(path)
    lock = BagLock(path if path.is_dir() else path.parent)
    try:
        return recover_locked(path, files)
    except OSError as error:
        raise BagError(f'{error.filename or path}: cannot be written ({error.strerror}, errno {error.errno})') from None
    finally:
        lock.release()


def recover_locked(path: Path, files: list[Path]) -> list[RecoveredFile]:
    """As `recover`, for a caller that holds the bag's lock.

    Raises:
        BagError: A file cannot be read, or has topics in other encodings than ROS 2 messages.
        OSError: A file cannot be written.
    """
    recovered = [result for file in files if (result := _recover_file(file))]
    if path.is_dir() and (recovered or not (path / METADATA_FILE).is_file()):
        topics, summaries = survey(files)
        write_metadata(path, bag_information(list(topics.values()), summaries, os.environ.get('ROS_DISTRO', '')))
    return recovered


def set_aside(directory: Path) -> Path | None:
    """Rename the directory of a closed recording; the new name has the time at which the recording ended.

    Returns:
        The new path; None if there is no recording, or an unclosed one, which the next writer continues.

    Raises:
        OSError: The directory cannot be renamed.
    """
    files = sorted(directory.glob('*.mcap')) if (directory / METADATA_FILE).is_file() else []
    if not files or not all(_ends_closed(file) for file in files):
        return None
    ended = time.strftime('%Y%m%d-%H%M%S', time.localtime(max(file.stat().st_mtime for file in files)))
    suffixes = itertools.chain([''], (f'-{number}' for number in itertools.count(2)))
    places = (directory.with_name(f'{directory.name}-{ended}{suffix}') for suffix in suffixes)
    return directory.rename(next(place for place in places if not place.exists()))


def _ends_closed(file: Path) -> bool:
    with open(file, 'rb') as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(len(MAGIC), size - len(MAGIC)))
        return stream.read() == MAGIC


def survey(files: list[Path]) -> tuple[dict[str, BagTopic], list[FileSummary]]:
    """Topics by name, and counts and times of each file, from the indexes of closed files.

    Raises:
        BagError: The index of a file cannot be read.
        OSError: A file cannot be opened.
    """
    topics: dict[str, BagTopic] = {}
    summaries = []
    for file in files:
        try:
            with open(file, 'rb') as stream:
                index = make_reader(stream).get_summary()
        except OSError:
            raise
        except Exception as error:  # Damaged bytes may raise any exception in the MCAP library.
            raise BagError(f'{file}: has an index that cannot be read ({error})') from None
        statistics = index.statistics if index else None
        if statistics is None:
            raise BagError(f'{file}: has no statistics in its index')
        counts = {}
        for number, channel in index.channels.items():
            schema = index.schemas.get(channel.schema_id)
            if schema is not None:
                topics[channel.topic] = BagTopic.of_channel(channel, schema)
                counts[channel.topic] = statistics.channel_message_counts.get(number, 0)
        summaries.append(FileSummary(file.name, statistics.message_start_time, statistics.message_end_time, counts))
    return topics, summaries


def _recover_file(path: Path) -> RecoveredFile | None:
    first_pass = BagFileReader(path)
    num_messages = sum(1 for _ in first_pass.messages())
    if first_pass.closed:
        return None
    if first_pass.foreign:
        raise BagError(f'{path}: is left as it is; it has topics in other encodings than ROS 2 messages, which recovery '
                       f'would lose: {", ".join(sorted(first_pass.foreign))}')
    temporary = path.with_name(f'.{path.name}.recovered')
    temporary.unlink(missing_ok=True)
    configuration = configuration_of(first_pass.metadata.get(CONFIGURATION_RECORD, {}))
    file = BagFile(temporary, list(first_pass.topics.values()), configuration)
    try:
        file.summary.path = path.name
        for message in BagFileReader(path).messages():
            file.write(message.topic.name, message.data, message.log_time_ns, message.publish_time_ns, message.sequence)
        file.finish(os.environ.get('ROS_DISTRO', ''))
        if first_pass.damaged:
            # The bytes after the damage may still be useful to someone with better tools.
            os.replace(path, path.with_name(f'{path.name}.damaged'))
        os.replace(temporary, path)
    except BaseException:
        file.abandon()
        temporary.unlink(missing_ok=True)
        raise
    return RecoveredFile(path, num_messages, first_pass.tail)
