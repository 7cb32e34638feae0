"""The output of a launch: every line names its process, and lines of several processes never mix."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

#: If a process has this variable set to 1, its standard output is shown without prefixes, as for a table.
PLAIN_VARIABLE = 'MBRL_PLAIN_STDOUT'

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_RED = 31


class Console:
    """Writes prefixed lines to the terminal and to a log file.

    Args:
        log_file: Receives the lines of processes with output `log` or `both`, and the launch's own; None for no file.
        stream: The terminal; standard output by default.
        colour: Whether prefixes are coloured; by default, on a terminal unless `NO_COLOR` is set.
    """

    def __init__(self, log_file: Path | None = None, stream: TextIO | None = None, colour: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = (self._stream.isatty() and not os.environ.get('NO_COLOR')) if colour is None else colour
        # Unbuffered, so that on a full disk only the failing line is lost, and no part of it is written later.
        self._log = log_file.open('ab', buffering=0) if log_file else None
        self._log_failed = False
        self._colour_of: dict[str, int] = {}

    def info(self, source: str, text: str) -> None:
        """Write a line of the launch itself about one process."""
        self._line(f'[INFO] [{source}]: {text}')

    def error(self, source: str, text: str) -> None:
        """Write a line about a failure of one process."""
        self._line(f'[ERROR] [{source}]: {text}', _RED)

    def process_line(self, source: str, line: str, output: str, is_error: bool, plain: bool) -> None:
        """Write one line of a process.

        Args:
            source: Label of the process.
            line: Text without the line's end.
            output: The process's `output`; with `log` only its standard error is shown.
            is_error: Whether the line is from standard error.
            plain: Whether a line from standard output is shown without the prefix.
        """
        prefixed = f'[{source}] {line}'
        if output in ('log', 'both'):
            self._write_log(prefixed)
        if output == 'log' and not is_error:
            return
        if plain and not is_error:
            self._write(line)
        else:
            colour = self._colour_of.setdefault(source, _COLOURS[len(self._colour_of) % len(_COLOURS)])
            self._write(f'{self._painted(f"[{source}]", colour)} {line}')

    def close(self) -> None:
        """Close the log file."""
        if self._log:
            self._log.close()

    def _line(self, text: str, colour: int | None = None) -> None:
        self._write_log(text)
        self._write(self._painted(text, colour) if colour else text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + '\n')
            self._stream.flush()
        except (OSError, ValueError):
            pass  # The terminal is closed or the disk full; the processes still need their supervisor.

    def _write_log(self, text: str) -> None:
        if not self._log:
            return
        try:
            self._log.write(f'{text}\n'.encode('utf-8', 'replace'))
            self._log_failed = False
        except OSError as error:
            if not self._log_failed:
                self._log_failed = True
                self._write(self._painted(f'[ERROR] [launch]: {self._log.name}: cannot be written ({error.strerror}); '
                                          'lines are shown here only', _RED))

    def _painted(self, text: str, colour: int) -> str:
        return f'\033[{colour}m{text}\033[0m' if self._colour else text


def log_folder(environment: Mapping[str, str]) -> Path:
    """ROS 2's log folder: `ROS_LOG_DIR`, else `log` in `ROS_HOME`, which is `~/.ros` by default."""
    if environment.get('ROS_LOG_DIR'):
        return Path(environment['ROS_LOG_DIR'])
    return Path(environment.get('ROS_HOME') or Path.home() / '.ros') / 'log'
