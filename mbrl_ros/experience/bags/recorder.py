"""A recording that survives failures: each is reported once, and writing is tried again."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import BagError
from mbrl_ros.experience.bags.metadata import BagTopic
from mbrl_ros.experience.bags.recovery import RecoveredFile, set_aside
from mbrl_ros.experience.bags.writer import BagWriter


@dataclasses.dataclass(frozen=True)
class RecorderConfig(Config):
    """How experience is recorded."""

    max_split_mb: float = setting(64.0, 'Size at which a new file begins; 0 for one file.', unit='MB', low=0.0, high=1e6)
    retry_s: float = setting(1.0, 'Time between attempts after a failed write.', unit='s', low=0.01, high=3600.0)


class ExperienceRecorder:
    """Records messages into a bag; a full disk or a lost directory interrupts the recording, never the process.

    Args:
        directory: The bag. An unclosed recording in it is recovered and continued, as after a crash; a closed one belongs to
            another run and moves aside.
        config: How to record.
        topics: Every topic that may be recorded.
        configuration: Resolved settings, stored with the recording.
        ros_distro: Named in the metadata.

    Attributes:
        error: Why nothing can be written now; empty if nothing is wrong.
        num_lost: Messages that could not be written.
    """

    def __init__(self, directory: str | Path, config: RecorderConfig, topics: Sequence[BagTopic], configuration: Mapping,
                 ros_distro: str = '') -> None:
        self._directory = Path(directory)
        self._retry_s = config.retry_s
        self._open_writer = functools.partial(BagWriter, directory, topics, configuration=configuration, ros_distro=ros_distro,
                                              max_split_bytes=round(config.max_split_mb * 1e6))
        self._writer: BagWriter | None = None
        self._latched_names = {topic.name for topic in topics if topic.latched}
        self._latched: dict[str, tuple[bytes, int]] = {}
        self._retry_at_s = float('-inf')
        self._in_episode = False
        self._num_written = 0
        self.error = ''
        self.num_lost = 0

    @property
    def num_messages(self) -> int:
        """Messages acknowledged."""
        return self._num_written + (self._writer.num_messages if self._writer else 0)

    @property
    def path(self) -> Path:
        """File that is being written; the directory if there is none."""
        return (self._writer and self._writer.path) or self._directory

    @property
    def recovered(self) -> list[RecoveredFile]:
        """Files of an earlier recording that were closed at the start."""
        return self._writer.recovered if self._writer else []

    def start(self, now_s: float) -> str:
        """Open the bag; return the error text if that fails, and try again with later messages."""
        try:
            set_aside(self._directory)
            self._writer = self._open_writer()
        except OSError as error:
            return self._fail(f'{self._directory}: cannot be moved aside ({error.strerror}, errno {error.errno})', now_s)
        except BagError as error:
            return self._fail(error, now_s)
        return ''

    def record(self, topic: str, data: bytes, log_time_ns: int, publish_time_ns: int, now_s: float) -> str:
        """Write one message.

        Args:
            topic: One of the topics given.
            data: Serialised message (CDR).
            log_time_ns: When it was received.
            publish_time_ns: When it was published.
            now_s: Steady time, for the pause between attempts.

        Returns:
            A line for the operator if the recording has just failed or just recovered, else an empty text.
        """
        failed_before = bool(self.error)
        if failed_before and now_s < self._retry_at_s:
            self._lose(topic, data, publish_time_ns)
            return ''
        try:
            if self._writer is None:
                self._writer = self._open_writer()
            while self._latched:
                name, (value, stamp_ns) = next(iter(self._latched.items()))
                self._writer.write(name, value, log_time_ns, stamp_ns)
                del self._latched[name]
            self._writer.write(topic, data, log_time_ns, publish_time_ns)
        except BagError as error:
            self._lose(topic, data, publish_time_ns)
            self._fail(error, now_s)
            return '' if failed_before else self.error
        self.error = ''
        return f'recording again into {self.path}; {self.num_lost} messages were lost' if failed_before else ''

    def on_phase(self, is_episode: bool, now_s: float) -> str:
        """At the end of an episode, wait until it is on the disk; return the error text if that fails."""
        ended = self._in_episode and not is_episode
        self._in_episode = is_episode
        try:
            if ended and self._writer:
                self._writer.sync()
        except BagError as error:
            return self._fail(error, now_s)
        return ''

    def close(self) -> str:
        """Finish the bag; return the error text if that fails."""
        if self._writer is None:
            return ''
        try:
            self._writer.close()
        except BagError as error:
            self.error = str(error)
            return self.error
        finally:
            self._num_written += self._writer.num_messages
            self._writer = None
        return ''

    def _fail(self, error: BagError | str, now_s: float) -> str:
        self.error = str(error)
        self._retry_at_s = now_s + self._retry_s
        return self.error

    def _lose(self, topic: str, data: bytes, publish_time_ns: int) -> None:
        self.num_lost += 1
        if topic in self._latched_names:
            # Kept for later: a latched message stays valid, and nobody publishes it a second time.
            self._latched[topic] = (data, publish_time_ns)
