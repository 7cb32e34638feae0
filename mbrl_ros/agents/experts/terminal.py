"""A terminal that gives every key at once and unseen, and that is left as it was found."""

import os
import re
import select
import sys
import termios
from types import TracebackType
from typing import TextIO

from mbrl_ros.errors import ConfigError

_LARGEST_READ = 1024
#: What arrows and the like send, which ends in a letter that is a key by itself.
_ESCAPE = re.compile(r'\x1b(\[[0-9;?]*[ -/]*[@-~]|O.|.)?')
#: Indices of a terminal's settings in what `tcgetattr` returns.
_LOCAL_MODES, _CHARACTERS = 3, 6


class KeyTerminal:
    """Keys of a terminal, without waiting for Enter and without echo; a context manager.

    Ctrl-C interrupts as ever. Ctrl-Z is no more than a key: a process that sleeps would leave its shell a terminal without echo.

    Args:
        stream: The terminal; standard input by default.
        who: Who needs it, for the refusal.

    Raises:
        ConfigError: It is no terminal.
    """

    def __init__(self, who: str, stream: TextIO | None = None) -> None:
        stream = stream or sys.stdin
        if stream is None or stream.closed or not stream.isatty():
            raise ConfigError(f'{who} needs a terminal to read keys from, but its standard input is none; '
                              f'run it by itself in one: mbrl-ros run {who}')
        self._file = stream.fileno()
        self._before = termios.tcgetattr(self._file)

    def __enter__(self) -> 'KeyTerminal':
        modes = termios.tcgetattr(self._file)
        modes[_LOCAL_MODES] &= ~(termios.ICANON | termios.ECHO)
        modes[_CHARACTERS][termios.VSUSP] = b'\0'
        termios.tcsetattr(self._file, termios.TCSADRAIN, modes)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def read(self) -> str:
        """The keys since the last call, without arrows and the like; empty when there were none, or when the terminal is gone."""
        if not select.select([self._file], [], [], 0.0)[0]:
            return ''
        try:
            text = os.read(self._file, _LARGEST_READ).decode('utf-8', 'ignore')
        except OSError:
            return ''
        return _ESCAPE.sub('', text)
