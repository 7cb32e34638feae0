"""A terminal that returns each key at once, without echo, and gets its settings back at the end."""

import os
import re
import select
import sys
import termios
from types import TracebackType
from typing import TextIO

from mbrl_ros.errors import ConfigError

_LARGEST_READ = 1024
#: Escape sequences, as of arrow keys; they end in a letter that is a key by itself.
_ESCAPE = re.compile(r'\x1b(\[[0-9;?]*[ -/]*[@-~]|O.|.)?')
#: Indices into the result of `tcgetattr`.
_LOCAL_MODES, _CHARACTERS = 3, 6


class KeyTerminal:
    """Keys of a terminal, without waiting for Enter and without echo; a context manager.

    Ctrl-C interrupts as usual. Ctrl-Z is an ordinary key, because a suspended process would leave a terminal without echo.

    Args:
        who: Name of the program, for the error.
        stream: The terminal; standard input by default.

    Raises:
        ConfigError: The stream is no terminal.
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
        """Keys since the last call, without arrows and the like; empty if there are none or the terminal is gone."""
        if not select.select([self._file], [], [], 0.0)[0]:
            return ''
        try:
            text = os.read(self._file, _LARGEST_READ).decode('utf-8', 'ignore')
        except OSError:
            return ''
        return _ESCAPE.sub('', text)
