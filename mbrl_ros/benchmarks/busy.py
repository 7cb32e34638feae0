"""How much slower planning gets while a trainer works on the same cores, setting by setting.

The trainer uses every core. It is stopped and continued in turns, so that both times of a ratio come from the same seconds and
the same process.
"""

import dataclasses
import os
import signal
import statistics
import time
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from mbrl_ros.benchmarks.setups import PlannerSetup
from mbrl_ros.benchmarks.worker import Worker

_ROUNDS = 4
_SETTLE_S = 0.1
_PERIOD_S = 0.05
_FIFO_PRIORITY = 40


@dataclasses.dataclass(frozen=True)
class BusySetting:
    """How planner and trainer share the machine.

    Attributes:
        wait_policy: OMP_WAIT_POLICY of both; empty leaves it unset.
        threads: Threads of the planner.
        niceness: Niceness of the trainer's threads.
        fifo: Whether the planner asks for real-time scheduling.
    """

    wait_policy: str
    threads: int
    niceness: int
    fifo: bool = False


def measure_busy(*, calls: int, setups: Sequence[PlannerSetup] | None = None,
                 settings: Sequence[BusySetting] | None = None) -> list[dict[str, Any]]:
    """Measure one row for each planner and setting, with at least `calls` plans alone and as many beside the trainer.

    The default planners are the yardstick at horizon 15 and the everyday setting; the default settings go from nothing set to
    everything set.

    Raises:
        RuntimeError: A measuring process ended by itself.
    """
    cores = os.cpu_count() or 1
    if setups is None:
        setups = [PlannerSetup(), PlannerSetup.everyday_setting()]
    if settings is None:
        settings = [BusySetting('', cores, 0), BusySetting('ACTIVE', cores, 0), BusySetting('PASSIVE', cores, 0),
                    BusySetting('PASSIVE', 1, 0), BusySetting('', cores, 10), BusySetting('PASSIVE', cores, 10),
                    BusySetting('PASSIVE', 1, 10), BusySetting('PASSIVE', 1, 10, fifo=True),
                    BusySetting('PASSIVE', cores, 10, fifo=True)]
    return [_measure(setup, setting, cores, calls) for setup in setups for setting in settings]


def busy_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows as a table."""
    table = Table(title='planning beside a trainer that works on all cores', box=box.SIMPLE)
    for column in ('planner', 'wait\npolicy', 'threads', 'trainer\'s\nniceness', 'real\ntime', 'alone\nms', 'busy\nms', 'p95',
                   'slower\nby'):
        table.add_column(column, justify='left' if column in ('planner', 'wait\npolicy') else 'right')
    for row in rows:
        priority = row['fifo_refused'] or ('yes' if row['fifo'] else 'no')
        figures = ['', '', '', ''] if row['fifo_refused'] else [
            f'{row["quiet_ms"]:.1f}', f'{row["busy_ms"]:.1f}', f'{row["busy_p95_ms"]:.1f}', f'{row["ratio"]:.2f}x']
        table.add_row(row['planner'], row['wait_policy'].lower() or 'unset', str(row['threads']), str(row['niceness']), priority,
                      *figures)
    return table


def _measure(setup: PlannerSetup, setting: BusySetting, cores: int, calls: int) -> dict[str, Any]:
    environment = {'OMP_WAIT_POLICY': setting.wait_policy or None}
    row = {'planner': setup.label, **dataclasses.asdict(setting)}
    with (Worker('planner', environment, setup=dataclasses.asdict(setup), threads=setting.threads,
                 fifo_priority=_FIFO_PRIORITY if setting.fifo else 0) as planner,
          Worker('trainer', environment, threads=cores, niceness=setting.niceness) as trainer):
        row['fifo_refused'] = planner.note
        if planner.note:
            return row
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(_ROUNDS):
            for busy, order in ((False, signal.SIGSTOP), (True, signal.SIGCONT)):
                os.kill(trainer.pid, order)
                time.sleep(_SETTLE_S)
                times[busy] += planner.ask(plans=-(-calls // _ROUNDS), period_s=_PERIOD_S)
    quiet, busy = (statistics.median(times[state]) for state in (False, True))
    ordered = sorted(times[True])
    return {**row, 'quiet_ms': quiet, 'busy_ms': busy, 'busy_p95_ms': ordered[int(0.95 * (len(ordered) - 1))],
            'ratio': busy / quiet}
