"""One MCAP file that is readable up to its last whole record at every moment, however the process ends.

There are no chunks: each message goes to the operating system, as one write of whole records, before the call returns. A write
that fails half-way is undone, so a full disk leaves a file that ends with a whole record.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from mcap.well_known import MessageEncoding, Profile, SchemaEncoding
from mcap.writer import CompressionType, Writer

from mbrl_ros.experience.bags.metadata import BagTopic, FileSummary, bag_information

#: MCAP metadata record with the resolved configuration.
CONFIGURATION_RECORD = 'mbrl_ros'


class BagFile:
    """Writes one storage file of a bag.

    Args:
        path: File to create; it must not exist.
        topics: Every topic that may be written.
        configuration: Resolved settings, stored in the file.

    Raises:
        OSError: The file cannot be created, or its head cannot be written; no file is left behind.
    """

    def __init__(self, path: Path, topics: Sequence[BagTopic], configuration: Mapping) -> None:
        self.path = path
        self.summary = FileSummary(path.name)
        self._topics = tuple(topics)
        self._sink = _RecordSink(path)
        try:
            self._writer = Writer(self._sink, use_chunking=False, compression=CompressionType.NONE)
            self._writer.start(profile=Profile.ROS2, library='mbrl_ros')
            self._channels = self._register()
            self._writer.add_metadata(CONFIGURATION_RECORD, {'configuration': json.dumps(configuration)})
            self._sink.commit()
        except BaseException:
            self._sink.close()
            path.unlink(missing_ok=True)
            raise

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._sink.tell()

    def write(self, topic: str, data: bytes, log_time_ns: int, publish_time_ns: int, sequence: int) -> None:
        """Append one message; once this returns, the message survives the end of the process.

        Raises:
            OSError: The message could not be written; the file still ends with the message before.
        """
        self._writer.add_message(self._channels[topic], log_time_ns, data, publish_time_ns, sequence)
        self._sink.commit()
        self.summary.add(topic, log_time_ns)

    def sync(self) -> None:
        """Wait until everything is on the disk and survives the end of the machine; raise OSError if that fails."""
        self._sink.sync()

    def finish(self, ros_distro: str = '') -> None:
        """Write the index and close; raise OSError if that fails, which leaves the file readable but unfinished."""
        information = bag_information(self._topics, [self.summary], ros_distro)
        try:
            self._writer.add_metadata('rosbag2', {'serialized_metadata': yaml.safe_dump(information, sort_keys=False)})
            self._writer.finish()
            self._sink.commit()
            self._sink.sync()
        finally:
            self._sink.close()

    def abandon(self) -> None:
        """Close without an index, after a write failed."""
        self._sink.close()

    def _register(self) -> dict[str, int]:
        schemas: dict[str, int] = {}
        channels = {}
        for topic in self._topics:
            if topic.type not in schemas:
                schemas[topic.type] = self._writer.register_schema(topic.type, SchemaEncoding.ROS2, topic.schema.encode())
            qos = yaml.safe_dump(topic.qos, sort_keys=False).strip()
            metadata = {'offered_qos_profiles': qos, 'topic_type_hash': topic.type_hash}
            channels[topic.name] = self._writer.register_channel(topic.name, MessageEncoding.CDR, schemas[topic.type], metadata)
        return channels


def configuration_of(record: Mapping[str, str]) -> dict:
    """Configuration in a file's metadata record; empty if none can be read."""
    try:
        configuration = json.loads(record['configuration'])
    except (KeyError, ValueError):
        return {}
    return configuration if isinstance(configuration, dict) else {}


class _RecordSink:
    """Output of the MCAP writer: gathers records, and commits either all of them to the file or none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._committed = 0
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        self._pending += data
        return len(data)

    def tell(self) -> int:
        return self._committed + len(self._pending)

    def flush(self) -> None:
        """Do nothing: the MCAP writer calls this, but only `commit` writes to the file."""

    def commit(self) -> None:
        rest = memoryview(bytes(self._pending))
        self._pending.clear()
        start = self._committed
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self._committed += written
                rest = rest[written:]
        except OSError as error:
            self._committed = start
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, start)
            raise OSError(error.errno, error.strerror, str(self._path)) from None

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
