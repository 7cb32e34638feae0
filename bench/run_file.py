"""Figures of many long runs in one file: written after each, and read again, so that only what is missing is run."""

import json
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from mbrl_ros.benchmarks.figures import write_figures
from mbrl_ros.benchmarks.machine import machine_figures
from mbrl_ros.runs.workers import worker_pool


class RunFile:
    """Runs of one setting.

    Args:
        path: Where the figures are; runs that are there are kept if they are of the same setting.
        setting: What all runs share.
        jobs: Runs at a time, one thread each.
        facts: What else is to be known of a file that is begun.

    Attributes:
        result: All figures: `machine`, `setting`, `jobs`, `runs` and the facts.
    """

    def __init__(self, path: Path, setting: dict[str, Any], jobs: int, **facts: Any) -> None:
        self._path, self._jobs = path, jobs
        found = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
        self.result: dict[str, Any] = found if found.get('setting') == setting else {
            'machine': machine_figures(1), 'setting': setting, 'jobs': jobs, **facts, 'runs': []}

    def complete(self, wanted: Sequence[dict[str, Any]],
                 run: Callable[..., dict[str, Any]]) -> Generator[dict[str, Any], None, None]:
        """Make the runs that are missing, in processes of their own, and give each when it is in the file.

        Args:
            wanted: What tells the runs apart, each by name.
            run: Makes figures of what tells a run apart, given by name.
        """
        missing = [key for key in wanted if not any(key.items() <= found.items() for found in self.result['runs'])]
        with worker_pool(self._jobs) as pool:
            pending = {pool.submit(run, **key): key for key in missing}
            for future in as_completed(pending):
                self.result['runs'].append({**pending[future], **future.result()})
                write_figures(self._path, self.result)
                yield self.result['runs'][-1]
