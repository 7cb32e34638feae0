"""Reading bags, including bags that end mid-record because their writer or its machine crashed.

Every whole record is read, and bytes after the last one are reported. The definitions in the bag itself decode its messages, so
neither ROS nor a message package is needed.
"""

import dataclasses
import functools
import io
import os
import re
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Header, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import breakup_chunk
from mcap.well_known import MessageEncoding, SchemaEncoding
from mcap_ros2.decoder import DecoderFactory

from mbrl_ros.errors import BagError
from mbrl_ros.experience.bags.metadata import BagTopic

MAGIC = b'\x89MCAP0\r\n'
_HEAD = struct.Struct('<BQ')
_KINDS = {Opcode.HEADER: Header, Opcode.SCHEMA: Schema, Opcode.CHANNEL: Channel, Opcode.MESSAGE: Message,
          Opcode.CHUNK: Chunk, Opcode.METADATA: Metadata}


@dataclasses.dataclass(frozen=True)
class BagMessage:
    """One recorded message.

    Attributes:
        topic: Its topic.
        data: Serialised message (CDR).
        log_time_ns: When it was received.
        publish_time_ns: When it was published.
        sequence: Its number on the topic, from 1; 0 if the recorder did not count.
    """

    topic: BagTopic
    data: bytes
    log_time_ns: int
    publish_time_ns: int
    sequence: int

    def decoded(self) -> Any:
        """The message, with the attributes of its definition.

        Raises:
            BagError: The bytes do not fit the definition.
        """
        try:
            return _decoder(self.topic.type, self.topic.schema)(self.data)
        except Exception as error:  # Damaged bytes may raise any exception in the decoder.
            raise BagError(f'a message on {self.topic.name} cannot be decoded as {self.topic.type} ({error})') from None


class BagFileReader:
    """Reads one MCAP file from front to end.

    Args:
        path: The file.

    Raises:
        BagError: The file cannot be read, or is not MCAP.

    Attributes:
        topics: Topics whose definitions have been read so far, by name.
        foreign: Topics read so far that are skipped, because they are not encoded as ROS 2 messages.
        metadata: Metadata records read so far, by name.
        tail: After iteration, a description of the bytes after the last whole record; empty if there are none.
        closed: After iteration, whether every record up to the end mark was read.
        damaged: After iteration, whether the file is damaged in the middle, and not just cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topics: dict[str, BagTopic] = {}
        self.foreign: set[str] = set()
        self.metadata: dict[str, dict[str, str]] = {}
        self.tail = ''
        self.closed = self.damaged = False
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, BagTopic] = {}
        try:
            with open(path, 'rb') as stream:
                start = stream.read(len(MAGIC))
        except OSError as error:
            raise BagError(f'{path}: cannot be read ({error.strerror})') from None
        if start != MAGIC:
            raise BagError(f'{path}: is not an MCAP file' + ('; it is empty' if not start else ''))

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Every whole message in the file's order.

        Args:
            topics: Names to keep; all by default.

        Raises:
            BagError: The file can no longer be read.
        """
        try:
            for record in self._records():
                if isinstance(record, Schema):
                    self._schemas[record.id] = record
                elif isinstance(record, Channel):
                    self._add(record)
                elif isinstance(record, Metadata):
                    self.metadata[record.name] = record.metadata
                elif isinstance(record, Message):
                    topic = self._channels.get(record.channel_id)
                    if topic is not None and (topics is None or topic.name in topics):
                        yield BagMessage(topic, record.data, record.log_time, record.publish_time, record.sequence)
        except OSError as error:
            raise BagError(f'{self.path}: cannot be read ({error.strerror})') from None

    def _records(self) -> Iterator[McapRecord]:
        size = os.path.getsize(self.path)
        with open(self.path, 'rb') as stream:
            offset = stream.seek(len(MAGIC))
            while True:
                head = stream.read(_HEAD.size)
                if head == MAGIC or len(head) < _HEAD.size:
                    # Too short for the head of a record: either the end mark, or the rest of a record that was cut off.
                    self.closed = head == MAGIC
                    self.tail = '' if self.closed else f'the file ends without its index, {len(head)} bytes after a record'
                    return
                opcode, length = _HEAD.unpack(head)
                if opcode == 0 or offset + _HEAD.size + length > size:
                    self.tail = f'the record at byte {offset} is incomplete: {size - offset} bytes of {_HEAD.size + length}'
                    stream.seek(-len(MAGIC), os.SEEK_END)
                    self.damaged = stream.read() == MAGIC
                    return
                try:
                    records = _parse(opcode, stream.read(length))
                except Exception as error:  # Damaged bytes may raise any exception in the parser.
                    self.tail = f'the record at byte {offset} is damaged ({error})'
                    self.damaged = True
                    return
                offset += _HEAD.size + length
                yield from records

    def _add(self, channel: Channel) -> None:
        schema = self._schemas.get(channel.schema_id)
        if schema is None or schema.encoding != SchemaEncoding.ROS2 or channel.message_encoding != MessageEncoding.CDR:
            self.foreign.add(channel.topic)
            return
        topic = BagTopic.of_channel(channel, schema)
        self.topics[topic.name] = self._channels[channel.id] = topic


class BagReader:
    """Reads a bag: all files of a directory in order, or a single file.

    A latched message that a file repeats from the file before is read once.

    Args:
        path: Directory or `.mcap` file.

    Raises:
        BagError: There is nothing to read, or a file is not MCAP.

    Attributes:
        path: Path of the bag.
        files: Readers of the files, in order.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.files = [BagFileReader(file) for file in bag_files(self.path)]

    @property
    def topics(self) -> dict[str, BagTopic]:
        """Topics read so far, by name."""
        return {name: topic for file in self.files for name, topic in file.topics.items()}

    @property
    def metadata(self) -> dict[str, dict[str, str]]:
        """Metadata records read so far, by name; a later file's replaces an earlier one's."""
        return {name: values for file in self.files for name, values in file.metadata.items()}

    @property
    def truncations(self) -> list[str]:
        """One line for each file read so far that is cut off or damaged."""
        return [f'{file.path}: {file.tail}' for file in self.files if file.tail]

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Every whole message of every file.

        Args:
            topics: Names to keep; all by default.

        Raises:
            BagError: A file can no longer be read.
        """
        last: dict[str, BagMessage] = {}
        for file in self.files:
            fresh: set[str] = set()
            for message in file.messages(topics):
                name = message.topic.name
                before = last.get(name) if name not in fresh else None
                fresh.add(name)
                if before and (before.publish_time_ns, before.data) == (message.publish_time_ns, message.data):
                    continue
                if message.topic.latched:
                    last[name] = message
                yield message


def read_messages(path: str | Path, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
    """Every whole message of a bag; arguments as for `BagReader` and its `messages`.

    Raises:
        BagError: There is nothing to read, or a file is not MCAP or can no longer be read.
    """
    return BagReader(path).messages(topics)


def bag_files(path: Path) -> list[Path]:
    """Storage files of a bag in the order of their numbers.

    Raises:
        BagError: There is no such file or directory, or it holds no MCAP file.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BagError(f'{path}: no such file or directory')
    files = sorted(path.glob('*.mcap'), key=lambda file: (split_number(file), file.name))
    # A file shorter than the start mark is empty: its writer ended before the first record.
    files = [file for file in files if file.stat().st_size >= len(MAGIC)]
    if not files:
        raise BagError(f'{path}: holds no MCAP file')
    return files


def split_number(path: Path) -> int:
    """Number in `<name>_<number>.mcap`, or -1 without one."""
    match = re.search(r'_(\d+)\.mcap$', path.name)
    return int(match[1]) if match else -1


def _parse(opcode: int, payload: bytes) -> list[McapRecord]:
    kind = _KINDS.get(opcode)
    if kind is None:
        return []
    stream = ReadDataStream(io.BytesIO(payload))
    if kind is Message:
        return [Message.read(stream, len(payload))]
    record = kind.read(stream)
    return breakup_chunk(record, validate_crc=True) if isinstance(record, Chunk) else [record]


@functools.lru_cache(maxsize=256)
def _decoder(message_type: str, schema: str) -> Any:
    record = Schema(id=1, data=schema.encode(), encoding=SchemaEncoding.ROS2, name=message_type)
    return DecoderFactory().decoder_for(MessageEncoding.CDR, record)
