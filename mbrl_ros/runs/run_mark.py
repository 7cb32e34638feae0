"""A file that tells a process that a launch has started again after a crash from one of a new run.

A process that ends in order removes its file. One that is killed leaves it, and the file names the launch: the parent process
and when that started. So the successor that the same launch starts goes on with the run, and every other process begins anew.
"""

import os
from pathlib import Path

#: Field of `/proc/<pid>/stat` behind the name of the program: when the process started, in ticks since boot.
_START_FIELD = 19
_BOOT = Path('/proc/sys/kernel/random/boot_id')


class RunMark:
    """The mark of one process.

    Args:
        path: The file.
        identity: What else has to be equal, e.g. task and seed.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self._identity = path, identity

    def begin(self) -> bool:
        """Whether a predecessor was killed in this run; the file is then this process's.

        Raises:
            OSError: The file cannot be written, or the parent process cannot be looked at.
        """
        text = f'{self._identity}\n{_launch()}\n'
        goes_on = self._path.is_file() and self._path.read_text(encoding='utf-8', errors='replace') == text
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(text, encoding='utf-8')
        return goes_on

    def end(self) -> None:
        """Remove the file: what comes next is another run."""
        self._path.unlink(missing_ok=True)


def _launch() -> str:
    """The parent process, so that no other has the same words: number, time of its start, and boot of the machine."""
    parent = os.getppid()
    stat = Path(f'/proc/{parent}/stat').read_text(encoding='utf-8', errors='replace')
    return f'{parent} {stat.rpartition(")")[2].split()[_START_FIELD]} {_BOOT.read_text().strip()}'
