"""Supervises the processes of one launch: starts them, restarts crashed ones, and stops all of them in order, in time.

The process started last is stopped first, alone, while the others still run. The package's launch files start the controller
last, so the arm stands before any other process ends.
"""

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from mbrl_ros.errors import EXIT_REFUSED
from mbrl_ros.launching.console import PLAIN_VARIABLE, Console
from mbrl_ros.launching.description import ProcessSpec
from mbrl_ros.launching.executables import SUPERVISOR_VARIABLE

_LINE_LIMIT = 1 << 20
_POLL_S = 0.03
_DRAIN_S = 0.3


@dataclasses.dataclass(frozen=True)
class StopTimes:
    """Seconds after the beginning of the stop.

    Attributes:
        rest_s: Time of SIGINT to the other processes; earlier if the process started last has ended.
        terminate_s: Time of SIGTERM to the processes that still run.
        kill_s: Time of SIGKILL to the processes that still run.
    """

    rest_s: float = 1.0
    terminate_s: float = 2.0
    kill_s: float = 2.5


class Supervisor:
    """Runs a list of processes to its end.

    Args:
        specs: Processes, in the order of their start.
        environment: Environment of every process; its spec may add variables.
        console: Receives all lines.
        times: Schedule of a stop.
    """

    def __init__(self, specs: Sequence[ProcessSpec], environment: Mapping[str, str], console: Console,
                 times: StopTimes = StopTimes()) -> None:  # noqa: B008 - immutable
        self._specs = list(specs)
        self._environment = {**environment, SUPERVISOR_VARIABLE: str(os.getpid())}
        self._console = console
        self._times = times
        self._running: dict[str, subprocess.Popen] = {}
        self._stopping = asyncio.Event()
        self._interrupts = 0
        self._exit_code: int | None = None
        self._failed = False
        self._last_error: dict[str, str] = {}
        self._refusal = ''

    async def run(self) -> int:
        """Start every process and wait for the end of the launch.

        Returns:
            The exit code of the launch, by the cause of its end: the exit code of the first required process that ended, or of a
            process that used up its restarts (at least 1); `EXIT_REFUSED` after a respawning process with that code, and the last
            output line is then the last line of its standard error; 128 + the signal after SIGINT or SIGTERM. If all processes
            ended by themselves: 1 if one failed, else 0.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted, number)
        keepers = [asyncio.create_task(self._keep(spec)) for spec in self._specs]
        stopper = asyncio.create_task(self._stop_when_asked())
        try:
            await asyncio.gather(*keepers)
        finally:
            stopper.cancel()
            for process in self._running.values():
                _kill_group(process)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        if self._refusal:
            self._console.error('launch', self._refusal)
        return int(self._failed) if self._exit_code is None else self._exit_code

    def _interrupted(self, number: int) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            for process in self._running.values():
                _kill_group(process)
        self._stop(128 + number, 'launch', f'stopping ({signal.Signals(number).name})')

    def _stop(self, exit_code: int, source: str, reason: str) -> None:
        if not self._stopping.is_set():
            self._exit_code = exit_code
            self._console.info(source, reason)
            self._stopping.set()

    async def _keep(self, spec: ProcessSpec) -> None:
        """Run one process, with its restarts."""
        restarts = 0
        while not self._stopping.is_set():
            code = await self._run_once(spec)
            if self._stopping.is_set():
                return
            if spec.required:
                self._stop(code, spec.name, 'was the launch\'s purpose; stopping the rest')
            elif not spec.respawn:
                self._failed |= code != 0
                return
            elif code == EXIT_REFUSED:
                reason = self._last_error.get(spec.name, 'it does not say why')
                self._refusal = f'{spec.name} cannot run as it was started: {reason}'
                self._stop(code, spec.name, 'would end like this again; stopping the rest')
            elif 0 <= spec.respawn_max_retries <= restarts:
                self._console.error(spec.name, f'gave up after {restarts} restarts')
                self._stop(code or 1, 'launch', f'stopping: {spec.name} does not stay up')
            else:
                restarts += 1
                self._console.info(spec.name, f'restarting in {spec.respawn_delay_s:g} s')
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), spec.respawn_delay_s)

    async def _run_once(self, spec: ProcessSpec) -> int:
        try:
            # Each process has its own group: Ctrl-C in the terminal reaches the supervisor alone, which stops them in order.
            process = subprocess.Popen(
                spec.command, env={**self._environment, **spec.environment}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            self._console.error(spec.name, f'cannot be started: {spec.command[0]}: {error.strerror}')
            return 127
        self._running[spec.name] = process
        self._console.info(spec.name, f'process started with pid [{process.pid}]')
        readers = [asyncio.create_task(self._forward(spec, stream)) for stream in (process.stdout, process.stderr)]
        # Polled, because asyncio's own wait also waits for every other process that holds the pipes.
        while process.poll() is None:
            await asyncio.sleep(_POLL_S)
        _kill_group(process)
        _, unfinished = await asyncio.wait(readers, timeout=_DRAIN_S)
        for reader in unfinished:
            reader.cancel()
        del self._running[spec.name]
        return self._ended(spec, process.pid, process.returncode)

    def _ended(self, spec: ProcessSpec, pid: int, code: int) -> int:
        if code == 0:
            self._console.info(spec.name, f'process has finished cleanly [pid {pid}]')
        elif code < 0 and self._stopping.is_set():
            self._console.info(spec.name, f'process was stopped by {signal.Signals(-code).name} [pid {pid}]')
        else:
            how = f'signal {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
            self._console.error(spec.name, f'process has died [pid {pid}, {how}]')
        return 128 - code if code < 0 else code

    async def _forward(self, spec: ProcessSpec, pipe: BinaryIO) -> None:
        reader = asyncio.StreamReader(limit=_LINE_LIMIT)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        is_error = pipe is self._running[spec.name].stderr
        plain = spec.environment.get(PLAIN_VARIABLE) == '1'
        try:
            while line := await _next_line(reader):
                text = line.decode('utf-8', 'replace').rstrip('\r\n')
                if is_error:
                    self._last_error[spec.name] = text
                self._console.process_line(spec.name, text, spec.output, is_error, plain)
        finally:
            transport.close()

    async def _stop_when_asked(self) -> None:
        await self._stopping.wait()
        start = asyncio.get_running_loop().time()
        names = [spec.name for spec in self._specs if spec.name in self._running]
        self._signal(names[-1:], signal.SIGINT)
        await self._gone(names[-1:], start + self._times.rest_s)
        self._signal(names[:-1], signal.SIGINT)
        await self._gone(names, start + self._times.terminate_s)
        self._signal(names, signal.SIGTERM)
        await self._gone(names, start + self._times.kill_s)
        self._signal(names, signal.SIGKILL)

    async def _gone(self, names: list[str], deadline: float) -> None:
        while any(name in self._running for name in names) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)

    def _signal(self, names: list[str], number: signal.Signals) -> None:
        for name in names:
            if name in self._running:
                if number != signal.SIGINT:
                    self._console.error(name, f'still runs; sending {number.name}')
                self._running[name].send_signal(number)


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        return b'(a line of more than 1 MiB)\n'


def _kill_group(process: subprocess.Popen) -> None:
    """Kill a process and every process that it has started, because none may outlive the supervisor."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
