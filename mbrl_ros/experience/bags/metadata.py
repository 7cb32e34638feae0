"""rosbag2's metadata (format version 9): topics with their quality of service, counts and times."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from mcap.records import Channel, Schema

METADATA_FILE = 'metadata.yaml'
_VERSION = 9
_INFINITE = {'sec': 9223372036, 'nsec': 854775807}


@dataclasses.dataclass(frozen=True)
class BagTopic:
    """One recorded topic.

    Attributes:
        name: Absolute topic name.
        type: Message type, as `sensor_msgs/msg/JointState`.
        schema: Definition of the type and of those it uses (`ros2msg`).
        type_hash: Its REP 2016 hash; may be empty.
        latched: Whether late subscribers get the last message; each file then begins with that message.
        qos_text: Offered quality of service as text in a bag; empty for the usual reliable one.
    """

    name: str
    type: str
    schema: str
    type_hash: str = ''
    latched: bool = False
    qos_text: str = ''

    @classmethod
    def of_channel(cls, channel: Channel, schema: Schema) -> 'BagTopic':
        """Topic of a storage file's channel."""
        qos = channel.metadata.get('offered_qos_profiles', '')
        return cls(channel.topic, schema.name, schema.data.decode(errors='replace'),
                   channel.metadata.get('topic_type_hash', ''), 'transient_local' in qos, qos)

    @property
    def qos(self) -> list[dict[str, Any]]:
        """Offered quality-of-service profiles, as rosbag2 spells them."""
        if self.qos_text:
            return yaml.safe_load(self.qos_text)
        return [{
            'history': 'keep_last', 'depth': 1 if self.latched else 10, 'reliability': 'reliable',
            'durability': 'transient_local' if self.latched else 'volatile', 'deadline': dict(_INFINITE),
            'lifespan': dict(_INFINITE), 'liveliness': 'automatic', 'liveliness_lease_duration': dict(_INFINITE),
            'avoid_ros_namespace_conventions': False,
        }]


@dataclasses.dataclass
class FileSummary:
    """Counts and times of one storage file."""

    path: str
    start_ns: int = 0
    end_ns: int = 0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def num_messages(self) -> int:
        """Messages on all topics."""
        return sum(self.counts.values())

    def add(self, topic: str, log_time_ns: int) -> None:
        """Count one message."""
        self.start_ns = min(self.start_ns, log_time_ns) if self.counts else log_time_ns
        self.end_ns = max(self.end_ns, log_time_ns)
        self.counts[topic] = self.counts.get(topic, 0) + 1


def bag_information(topics: Sequence[BagTopic], files: Sequence[FileSummary], ros_distro: str) -> dict[str, Any]:
    """Content of rosbag2's metadata for some files of a bag, in rosbag2's order of keys."""
    filled = [file for file in files if file.num_messages]
    start = min((file.start_ns for file in filled), default=0)
    end = max((file.end_ns for file in filled), default=0)
    return {
        'version': _VERSION,
        'storage_identifier': 'mcap',
        'duration': {'nanoseconds': end - start},
        'starting_time': {'nanoseconds_since_epoch': start},
        'message_count': sum(file.num_messages for file in files),
        'topics_with_message_count': [{
            'topic_metadata': {
                'name': topic.name, 'type': topic.type, 'serialization_format': 'cdr',
                'offered_qos_profiles': topic.qos, 'type_description_hash': topic.type_hash,
            },
            'message_count': sum(file.counts.get(topic.name, 0) for file in files),
        } for topic in topics],
        'compression_format': '',
        'compression_mode': '',
        'relative_file_paths': [file.path for file in files],
        'files': [{
            'path': file.path,
            'starting_time': {'nanoseconds_since_epoch': file.start_ns},
            'duration': {'nanoseconds': file.end_ns - file.start_ns},
            'message_count': file.num_messages,
        } for file in files],
        'custom_data': None,
        'ros_distro': ros_distro,
    }


def write_metadata(directory: Path, information: Mapping[str, Any]) -> None:
    """Replace `metadata.yaml` atomically: readers see either the whole old one or the whole new one.

    Raises:
        OSError: The file cannot be written.
    """
    text = yaml.safe_dump({'rosbag2_bagfile_information': dict(information)}, sort_keys=False)
    replace_file(directory / METADATA_FILE, text.encode())


def replace_file(path: Path, data: bytes) -> None:
    """Write a file beside `path` and move it there once it is on the disk.

    Raises:
        OSError: The file cannot be written; `path` is unchanged.
    """
    temporary = path.with_name(f'.{path.name}.tmp')
    try:
        with open(temporary, 'wb') as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
