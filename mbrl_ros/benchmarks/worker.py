"""Worker processes for measurements: `python -m mbrl_ros.benchmarks.worker <JSON>`, started by `Worker`.

Some measurements need a process of their own: OpenMP reads its settings once in a process, a process has only one first plan,
and a busy neighbour has to be another process.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Freed large blocks go back to the system at once, so that the size of the process is the memory in use; costs time.
TIGHT_MALLOC = {'MALLOC_MMAP_THRESHOLD_': '131072', 'MALLOC_TRIM_THRESHOLD_': '131072'}
_TRANSITIONS = 2000
_FOREVER = 100_000


class Worker:
    """A worker process; a context manager that ends it.

    Args:
        role: `planner` plans on request; `trainer` trains all the time.
        environment: Variables to set, or to unset if None.
        arguments: Arguments of the role; see `_planner` and `_trainer`.

    Raises:
        RuntimeError: The worker ended by itself; the text has the end of its output.
    """

    def __init__(self, role: str, environment: Mapping[str, str | None] | None = None, **arguments: Any) -> None:
        variables = {**os.environ, **(environment or {})}
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'mbrl_ros.benchmarks.worker', json.dumps({'role': role, **arguments})], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={name: value for name, value in variables.items() if value is not None})
        self.pid = self._process.pid
        self.note: str = self._answer()

    def __enter__(self) -> 'Worker':
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, **request: Any) -> Any:
        """Send a request and return the answer.

        Raises:
            RuntimeError: As for the class.
        """
        try:
            self._process.stdin.write(json.dumps(request) + '\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # Reading the answer raises a clearer error.
        return self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            _, words = self._process.communicate()
            raise RuntimeError(f'a measuring process ended by itself: {words.strip()[-500:]}')
        return json.loads(line)


def _planner(setup: Mapping[str, Any], threads: int, fifo_priority: int = 0) -> None:
    """Answer requests for plans.

    `{'plans': n, 'period_s': p}` makes n plans, one a period or as fast as possible, and answers with the milliseconds of each.
    `{'memory': n}` makes n plans and answers with the megabytes by which the process grew at most; see `TIGHT_MALLOC`.
    """
    import torch

    from mbrl_ros.benchmarks.setups import MeasuredPlanner, PlannerSetup
    from mbrl_ros.benchmarks.work import NetworkSize

    torch.set_num_threads(threads)
    planner = MeasuredPlanner(PlannerSetup(**{**setup, 'network': NetworkSize(**setup['network'])}))
    _say(_scheduled(fifo_priority))
    for line in sys.stdin:
        request = json.loads(line)
        if 'plans' in request:
            _say(_timed_plans(planner, request['plans'], request.get('period_s', 0.0)))
        else:
            _say(_growth_mb(planner, request['memory']))


def _trainer(threads: int, niceness: int) -> None:
    """Train over and over on random transitions, as the trainer node does on real ones; never answers a request."""
    import numpy as np
    import torch

    from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig

    torch.set_num_threads(threads)
    os.nice(niceness)
    random = np.random.default_rng(0)
    obs, action = random.normal(size=(_TRANSITIONS, 14)), random.uniform(-1.0, 1.0, size=(_TRANSITIONS, 7))
    next_obs = obs + 0.1 * random.normal(size=obs.shape)
    trainer = EnsembleTrainer(TrainerConfig(max_steps=_FOREVER, patience=_FOREVER))
    _say('trains')
    while True:
        trainer.fit(obs, action, next_obs, seed=0)


def _timed_plans(planner: Any, count: int, period_s: float) -> list[float]:
    times, due = [], time.perf_counter()
    for call in range(count):
        time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        planner(call)
        times.append(1e3 * (time.perf_counter() - start))
        due = max(due + period_s, time.perf_counter())
    return times


def _growth_mb(planner: Any, count: int) -> float:
    """Megabytes by which the resident size rose, on Linux; NaN elsewhere."""
    try:
        Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # Resets VmHWM, the largest size so far.
        before = _resident_mb('VmRSS')
        for call in range(count):
            planner(call)
        return _resident_mb('VmHWM') - before
    except OSError:
        return float('nan')


def _resident_mb(key: str) -> float:
    lines = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
    return next(1024 * int(line.split()[1]) / 1e6 for line in lines if line.startswith(f'{key}:'))


def _scheduled(priority: int) -> str:
    """Ask for real-time scheduling of all threads; returns an empty text, or the reason for a refusal."""
    if not priority:
        return ''
    try:
        for thread in Path('/proc/self/task').iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(priority))
    except (OSError, AttributeError) as error:
        return f'not permitted ({error})'
    return ''


def _say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    arguments = json.loads(sys.argv[1])
    {'planner': _planner, 'trainer': _trainer}[arguments.pop('role')](**arguments)
