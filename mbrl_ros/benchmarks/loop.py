"""The control loop against the wall clock: periods, latencies, missed deadlines, and the load of each node.

The stack is launched as a user launches it, with simulator and trainer. This process only subscribes to `controller_status` and
`guard_status`, and reads the figures of the other processes from the operating system.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.agents.registry import agent_kind
from mbrl_ros.benchmarks.figures import write_figures
from mbrl_ros.benchmarks.machine import describe_machine
from mbrl_ros.launching.domain import OwnDomain
from mbrl_ros.launching.executables import NODES, ros_environment
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros.stack_listener import StackListener, StatusRecord
from mbrl_ros.runs.outputs import require_writable

_SAMPLE_S = 1.0
_STOP_S = 5.0


#: Figures of the report, by what their tables call them; all but the guard's are of control ticks.
_LABELS = {'period_ms': 'period, ms', 'state_age_ms': 'state age, ms', 'state_to_command_ms': 'state to command, ms',
           'command_to_driver_ms': 'command to driver, ms', 'plan_ms': 'plan, ms'}


class _ProcessRecord:
    """Processor time and memory of the stack's nodes, sampled once a second."""

    def __init__(self, supervisor: psutil.Process) -> None:
        self._supervisor = supervisor
        self._processes: dict[str, psutil.Process] = {}
        self._cpu_s: dict[str, float] = {}
        self.memory_mb: dict[str, list[float]] = {}
        self._since_s = time.monotonic()

    def begin(self) -> None:
        self._processes = {name: child for child in self._supervisor.children(recursive=True)
                           if (name := _node_name(child)) is not None}
        self._cpu_s = {name: sum(process.cpu_times()[:2]) for name, process in self._processes.items()}
        self.memory_mb = {name: [] for name in self._processes}
        self._since_s = time.monotonic()

    def sample(self) -> None:
        for name, process in self._processes.items():
            self.memory_mb[name].append(process.memory_info().rss / 1e6)

    def figures(self) -> dict[str, dict[str, float]]:
        elapsed_s = time.monotonic() - self._since_s
        nodes = {}
        for name in sorted(self._processes, key=list(NODES).index):
            cpu_s = sum(self._processes[name].cpu_times()[:2]) - self._cpu_s[name]
            memory = np.array(self.memory_mb[name])
            third = max(1, len(memory) // 3)
            nodes[name] = {'cpu_percent': 100.0 * cpu_s / elapsed_s, 'memory_mb': float(memory[-1]),
                           'memory_growth_mb': float(np.median(memory[-third:]) - np.median(memory[:third]))}
        return nodes


def run_loop_benchmark(*, seconds: float, warmup_s: float, rate_hz: float, robot: str, agent: str, model: Path | None,
                       seed: int, json_path: Path | None) -> int:
    """Measure and report; see `mbrl-ros bench loop --help`.

    Returns:
        0, or 1 if the stack or one of its nodes ended by itself, or the controller never planned.

    Raises:
        ConfigError: The robot's profile or the model cannot be used, there is no such agent, or the file cannot be written.
    """
    load_robot(robot)
    agent_kind(agent)
    if model:
        AgentBundle.load(model)
    require_writable(json_path)
    console = Console()
    # No arm outside this machine may hear the commands of a benchmark.
    domain = OwnDomain()
    os.environ.update(ros_environment({**os.environ, 'ROS_DOMAIN_ID': str(domain.number),
                                       'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}))
    with tempfile.TemporaryDirectory(prefix='mbrl_ros_bench_') as folder:
        log_path = Path(folder) / 'launch.log'
        command = [sys.executable, '-m', 'mbrl_ros.cli.main', 'launch', 'demo.launch.yaml', 'lockstep:=false', 'episodes:=0',
                   f'robot:={robot}', f'agent:={agent}', f'seed:={seed}', f'rate_hz:={rate_hz}', f'output_dir:={folder}/run',
                   *([f'model:={model.resolve()}'] if model else [])]
        with log_path.open('wb') as log:
            stack = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status, nodes = _measure(stack, console, warmup_s, seconds)
        except psutil.NoSuchProcess:
            status, nodes = None, {}  # A node died, so the figures of the others are not those of the stack.
        finally:
            _stop(stack)
        if status is None or not status.figures['plan_ms']:
            console.print('[red]the stack or one of its nodes ended, or it never planned; its last words:[/red]')
            console.print(''.join(log_path.read_text(errors='replace').splitlines(keepends=True)[-20:]), markup=False)
            return 1
    result = {'agent': agent, **_result(status, nodes, rate_hz)}
    _print(console, result, seconds)
    if json_path is not None:
        write_figures(json_path, result)
    return 0


def _measure(stack: subprocess.Popen, console: Console, warmup_s: float, seconds: float) -> tuple[StatusRecord | None, dict]:
    """Figures of the ticks and of the nodes; None for the ticks if the stack ended before."""
    processes = _ProcessRecord(psutil.Process(stack.pid))
    with StackListener() as listener:
        console.print(f'warming up for {warmup_s:.0f} s, then measuring for {seconds:.0f} s …')
        if not _listen(listener, stack, warmup_s, lambda: None):
            return None, {}
        listener.record = StatusRecord()
        processes.begin()
        alive = _listen(listener, stack, seconds, processes.sample)
    return (listener.record, processes.figures()) if alive else (None, {})


def _listen(listener: StackListener, stack: subprocess.Popen, seconds: float, every_second: Callable[[], None]) -> bool:
    """Spin for a while; False if the stack ended before."""
    end_s = time.monotonic() + seconds
    next_sample_s = time.monotonic() + _SAMPLE_S
    while (now_s := time.monotonic()) < end_s:
        if stack.poll() is not None:
            return False
        listener.listen(0.05)
        if now_s >= next_sample_s:
            next_sample_s += _SAMPLE_S
            every_second()
    return True


def _result(status: StatusRecord, nodes: dict, rate_hz: float) -> dict:
    planned = max(1, len(status.figures['plan_ms']))
    result = {'rate_hz': rate_hz, 'ticks': status.ticks, 'planned_ticks': planned, 'late_plans': status.missed,
              'skipped_periods': status.skipped,
              'deadline_miss_fraction': (status.missed + status.skipped) / max(1, status.ticks + status.skipped),
              'models_received': len(status.model_versions)}
    for name, values in status.figures.items():
        for percent, label in ((50, 'p50'), (99, 'p99'), (100, 'max')):
            result[f'{name}_{label}'] = float(np.percentile(values, percent)) if values else float('nan')
    return {**result, 'nodes': nodes, 'machine': describe_machine()}


def _print(console: Console, result: dict, seconds: float) -> None:
    loop_table = Table(title=f'control loop of {result["agent"]} at {result["rate_hz"]:g} Hz over {seconds:.0f} s')
    for column in ('', 'p50', 'p99', 'max'):
        loop_table.add_column(column, justify='left' if not column else 'right')
    for name, label in _LABELS.items():
        loop_table.add_row(label, *(f'{result[f"{name}_{part}"]:.2f}' for part in ('p50', 'p99', 'max')))
    node_table = Table(title='nodes')
    for column in ('node', 'CPU [%]', 'memory [MB]', 'growth [MB]'):
        node_table.add_column(column, justify='left' if column == 'node' else 'right')
    for name, figures in result['nodes'].items():
        node_table.add_row(name, f'{figures["cpu_percent"]:.0f}', f'{figures["memory_mb"]:.0f}',
                           f'{figures["memory_growth_mb"]:+.1f}')
    console.print(loop_table)
    console.print(f'missed deadlines: {100 * result["deadline_miss_fraction"]:.2f} % ({result["late_plans"]} late plans and '
                  f'{result["skipped_periods"]} skipped periods in {result["ticks"]} ticks); '
                  f'models swapped in: {result["models_received"]}')
    console.print(node_table)
    console.print(result['machine'])


def _stop(stack: subprocess.Popen) -> None:
    """Send Ctrl-C to the supervisor, which stops the arm first; kill its session if it does not end in time."""
    if stack.poll() is not None:
        return
    stack.send_signal(signal.SIGINT)
    try:
        stack.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(stack.pid, signal.SIGKILL)
        stack.wait()


def _node_name(process: psutil.Process) -> str | None:
    """Name of the node that a process of the supervisor runs."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    return next((name for name in NODES if name in words), None)
