"""Writing a bag: numbered files of bounded size, each complete by itself, and rosbag2's metadata beside them."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from mbrl_ros.errors import BagError
from mbrl_ros.experience.bags.file import BagFile
from mbrl_ros.experience.bags.lock import BagLock
from mbrl_ros.experience.bags.metadata import BagTopic, FileSummary, bag_information, replace_file, write_metadata
from mbrl_ros.experience.bags.reader import MAGIC, split_number
from mbrl_ros.experience.bags.recovery import RecoveredFile, recover_locked, survey

_CONFIGURATION_FILE = 'config.yaml'
#: rosbag2 and its readers expect an unindexed file in the order of its log times. If the clock is set back by more than this, a
#: new file begins; a smaller step back is smoothed.
_CLOCK_RESET_NS = 1_000_000_000


class BagWriter:
    """Writes a rosbag2 bag in MCAP that is readable up to the last acknowledged message at every moment.

    In the directory of an earlier bag, the writer first recovers unclosed files, then continues in a new file. It renames a file
    that is no MCAP to `<file>.damaged`. Each file begins with the last message of each latched topic.

    Args:
        directory: The bag; created if it does not exist. Files are named after it.
        topics: Every topic that may be written.
        configuration: Resolved settings, stored in each file and as `config.yaml`.
        max_split_bytes: Size at which a new file begins; 0 for one file.
        ros_distro: Named in the metadata.

    Raises:
        BagError: Another process writes this bag, or the directory cannot be written.

    Attributes:
        recovered: Files of an earlier recording that this writer has closed.
        num_messages: Messages acknowledged, without repeats.
    """

    def __init__(self, directory: str | Path, topics: Sequence[BagTopic], *, configuration: Mapping | None = None,
                 max_split_bytes: int = 0, ros_distro: str = '') -> None:
        self._directory = Path(directory)
        self.num_messages = 0
        self.recovered: list[RecoveredFile] = []
        self._topics = {topic.name: topic for topic in topics}
        self._configuration = dict(configuration or {})
        self._max_split_bytes = max_split_bytes
        self._ros_distro = ros_distro
        self._latched: dict[str, tuple[bytes, int, int]] = {}
        self._sequences = dict.fromkeys(self._topics, 0)
        self._summaries: list[FileSummary] = []
        self._unfinished: list[Path] = []
        self._file: BagFile | None = None
        self._holds_news = False
        self._last_log_ns = 0
        with self._errors():
            self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = BagLock(self._directory)
        try:
            with self._errors():
                self._continue_bag()
                self._open()
                replace_file(self._directory / _CONFIGURATION_FILE, yaml.safe_dump(self._configuration, sort_keys=False).encode())
        except BaseException:
            self._abandon()
            self._lock.release()
            raise

    @property
    def path(self) -> Path | None:
        """File that is being written; None after a failure."""
        return self._file.path if self._file else None

    def write(self, topic: str, data: bytes, log_time_ns: int, publish_time_ns: int) -> None:
        """Append one message; once this returns, the message survives the end of the process.

        After a failure the next call begins a new file, so a recording continues by itself once there is space again.

        Args:
            topic: One of the topics given.
            data: Serialised message (CDR).
            log_time_ns: When it was received.
            publish_time_ns: When it was published.

        Raises:
            BagError: The message could not be written, or the topic is unknown; all acknowledged messages stay readable.
        """
        if topic not in self._topics:
            raise BagError(f'{self._directory}: has no topic {topic!r}; it has {", ".join(self._topics)}')
        self._sequences[topic] += 1
        sequence = self._sequences[topic]
        with self._errors():
            self._roll(log_time_ns)
            self._last_log_ns = max(self._last_log_ns, log_time_ns)
            self._file.write(topic, data, self._last_log_ns, publish_time_ns, sequence)
        self._holds_news = True
        self.num_messages += 1
        if self._topics[topic].latched:
            self._latched[topic] = (data, publish_time_ns, sequence)

    def sync(self) -> None:
        """Wait until everything is on the disk and survives the end of the machine; raise BagError if that fails."""
        if self._file:
            with self._errors():
                self._file.sync()

    def close(self) -> None:
        """Finish the file, close files that an earlier failure left open, and write the metadata.

        Raises:
            BagError: Not everything could be written; all acknowledged messages stay readable and recoverable.
        """
        try:
            with self._errors():
                if self._file:
                    self._finish()
                for path in list(self._unfinished):
                    self.recovered += recover_locked(path, [path])
                    self._unfinished.remove(path)
                self._write_metadata()
        finally:
            self._abandon()
            self._lock.release()

    def __enter__(self) -> 'BagWriter':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _continue_bag(self) -> None:
        for path in self._directory.glob('.*.recovered'):
            path.unlink()
        for path in sorted(self._directory.glob('*.mcap'), key=split_number):
            if path.stat().st_size < len(MAGIC):
                path.unlink()
                continue
            try:
                self.recovered += recover_locked(path, [path])
                topics, summaries = survey([path])
            except BagError:
                # An unreadable file must not block the next recording.
                path.rename(path.with_name(f'{path.name}.damaged'))
                continue
            self._summaries += summaries
            self._topics = {**topics, **self._topics}
            self._sequences = {**dict.fromkeys(topics, 0), **self._sequences}

    def _roll(self, log_time_ns: int) -> None:
        set_back = log_time_ns < self._last_log_ns - _CLOCK_RESET_NS
        full = self._file and 0 < self._max_split_bytes <= self._file.size and self._holds_news
        if self._file and (full or set_back):
            self._finish()
        if set_back:
            self._last_log_ns = log_time_ns
        if not self._file:
            self._open()
            for topic, (data, publish_time_ns, sequence) in self._latched.items():
                self._file.write(topic, data, max(self._last_log_ns, log_time_ns), publish_time_ns, sequence)

    def _open(self) -> None:
        number = 1 + max((split_number(Path(summary.path)) for summary in self._summaries), default=-1)
        path = self._directory / f'{self._directory.resolve().name}_{number}.mcap'
        self._holds_news = False
        self._file = BagFile(path, list(self._topics.values()), self._configuration)
        self._summaries.append(self._file.summary)
        self._write_metadata()

    def _finish(self) -> None:
        self._file.finish(self._ros_distro)
        self._file = None

    def _abandon(self) -> None:
        if not self._file:
            return
        with contextlib.suppress(OSError):
            self._file.abandon()
        if self._holds_news:
            self._unfinished.append(self._file.path)
        else:
            # Delete a file without messages: retries on a full disk would leave many of them.
            with contextlib.suppress(OSError):
                self._file.path.unlink()
            self._summaries.remove(self._file.summary)
        self._file = None

    def _write_metadata(self) -> None:
        write_metadata(self._directory, bag_information(list(self._topics.values()), self._summaries, self._ros_distro))

    @contextlib.contextmanager
    def _errors(self):
        """Turn a failed write into a `BagError` that names path and cause, and abandon the open file."""
        try:
            yield
        except OSError as error:
            path = error.filename or self.path or self._directory
            self._abandon()
            raise BagError(f'{path}: cannot be written ({os.strerror(error.errno)}, errno {error.errno}); '
                           'what was logged before stays readable') from None
