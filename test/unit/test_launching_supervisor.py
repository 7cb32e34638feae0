"""The supervisor, over real processes: restarts, order and time of stopping, exit codes, what a person sees."""

import asyncio
import io
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mbrl_ros.launching.console import PLAIN_VARIABLE, Console
from mbrl_ros.launching.description import ProcessSpec
from mbrl_ros.launching.supervisor import StopTimes, Supervisor

#: Writes its name and `up` once it runs, its name and `down` when interrupted, into the file named first.
_NOTES = '''
import signal, sys, time
def note(word):
    with open(sys.argv[1], 'a') as file:
        file.write(f'{sys.argv[2]} {word}\\n')
def down(*_):
    note('down')
    sys.exit(0)
signal.signal(signal.SIGINT, down)
note('up')
time.sleep(60)
'''
_STUBBORN = 'import signal, time\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n' \
            'print("up", flush=True)\ntime.sleep(60)'


def python(name: str, code: str, *arguments: str, **settings) -> ProcessSpec:
    return ProcessSpec(name=name, command=(sys.executable, '-c', code, *arguments), **{'output': 'screen', **settings})


def run(*specs: ProcessSpec, times: StopTimes | None = None, until: str = '', log_file: Path | None = None) -> tuple[int, str]:
    """Exit code and screen of a launch; interrupted as by Ctrl-C once the screen shows `until`."""
    return asyncio.run(_run(specs, times or StopTimes(), until, log_file))


async def _run(specs: tuple[ProcessSpec, ...], times: StopTimes, until: str, log_file: Path | None) -> tuple[int, str]:
    screen = io.StringIO()
    console = Console(log_file, screen, colour=False)
    launch = asyncio.create_task(Supervisor(specs, os.environ, console, times).run())
    if until:
        while until not in screen.getvalue() and not launch.done():
            await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)
    code = await asyncio.wait_for(launch, 60)
    console.close()
    return code, screen.getvalue()


async def _interrupt_when(path: Path, lines: int, *specs: ProcessSpec) -> int:
    launch = asyncio.create_task(Supervisor(specs, os.environ, Console(None, io.StringIO())).run())
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        await asyncio.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
    return await launch


def test_every_line_says_which_process_it_is_from():
    code, screen = run(python('a-1', 'print("one"); print("two")'), python('b-2', 'import sys; sys.stderr.write("three\\n")'))
    assert code == 0
    assert {'[a-1] one', '[a-1] two', '[b-2] three'} <= set(screen.splitlines())


def test_output_goes_where_it_is_told_to(tmp_path):
    code = 'import sys; print(f"{sys.argv[1]} out"); sys.stderr.write(f"{sys.argv[1]} err\\n")'
    _, screen = run(*(python(f'p-{kind}', code, kind, output=kind) for kind in ('screen', 'log', 'both')),
                    log_file=tmp_path / 'launch.log')
    shown = {line.partition('] ')[2] for line in screen.splitlines() if line.startswith('[p-')}
    kept = {line.partition('] ')[2] for line in (tmp_path / 'launch.log').read_text().splitlines() if line.startswith('[p-')}
    assert shown == {'screen out', 'screen err', 'log err', 'both out', 'both err'}
    assert kept == {'log out', 'log err', 'both out', 'both err'}


def test_a_full_disk_ends_no_launch_and_is_told_once():
    terminal = io.StringIO()
    console = Console(Path('/dev/full'), terminal, colour=False)
    console.info('arm', 'up')
    console.process_line('arm', 'moving', 'both', False, False)
    console.close()
    assert terminal.getvalue().splitlines() == [
        '[ERROR] [launch]: /dev/full: cannot be written (No space left on device); lines are shown here only',
        '[INFO] [arm]: up', '[arm] moving']


def test_a_full_disk_behind_the_terminal_ends_no_launch():
    with open('/dev/full', 'w', encoding='utf-8') as terminal:
        console = Console(None, terminal, colour=False)
        console.info('arm', 'up')
        # What is still in the stream's own buffer must not fail this test when it is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.fileno())


def test_a_table_is_shown_as_it_is_and_its_errors_are_not():
    _, screen = run(python('a-1', 'import sys; print("| row |"); sys.stderr.write("oops\\n")', environment={PLAIN_VARIABLE: '1'}))
    assert {'| row |', '[a-1] oops'} <= set(screen.splitlines())


def test_lines_without_end_or_longer_than_the_limit_lose_only_themselves():
    _, screen = run(python('a-1', 'print("x" * 3_000_000); print("after"); print("no end", end="")'))
    assert '[a-1] after' in screen.splitlines()
    assert '[a-1] no end' in screen.splitlines()


def test_a_crashed_process_is_started_again_with_a_new_life(tmp_path):
    marker = tmp_path / 'lives'
    code = 'import os, sys, signal\nwith open(sys.argv[1], "a") as f: f.write("x")\n' \
           'if os.path.getsize(sys.argv[1]) < 3: os.kill(os.getpid(), signal.SIGKILL)\nprint("third life", flush=True)\n' \
           'import time; time.sleep(60)'
    _, screen = run(python('a-1', code, str(marker), respawn=True, respawn_delay_s=0.05), until='third life')
    assert marker.read_text() == 'xxx'
    assert screen.count('signal SIGKILL') == 2


def test_a_process_that_does_not_stay_up_ends_the_launch_with_its_code():
    code, screen = run(python('good-1', 'import time; time.sleep(60)'),
                       python('bad-2', 'raise SystemExit(3)', respawn=True, respawn_max_retries=2))
    assert code == 3
    assert screen.count('process has died') == 3
    assert '[bad-2]: gave up after 2 restarts' in screen


def test_a_process_that_refuses_what_it_was_started_with_ends_the_launch_and_has_the_last_word():
    refusal = 'import sys; print("error: no such model", file=sys.stderr); print("bye"); raise SystemExit(2)'
    code, screen = run(python('good-1', 'import time; time.sleep(60)'),
                       python('bad-2', refusal, respawn=True, respawn_max_retries=5))
    assert code == 2
    assert screen.count('[bad-2]: process has died') == 1
    assert screen.splitlines()[-1] == '[ERROR] [launch]: bad-2 cannot run as it was started: error: no such model'


@pytest.mark.parametrize('result', [0, 4])
def test_the_end_of_a_required_process_ends_the_launch_with_its_code(result):
    other, main = python('other-1', 'import time; time.sleep(60)'), python('main-2', f'raise SystemExit({result})', required=True)
    code, _ = run(other, main)
    assert code == result


def test_a_required_process_killed_by_a_signal_gives_the_shells_code():
    code, _ = run(python('main-1', 'import os; os.kill(os.getpid(), 9)', required=True))
    assert code == 128 + 9


def test_without_a_required_process_any_failure_is_a_failure():
    assert run(python('a-1', 'pass'), python('b-2', 'raise SystemExit(5)'))[0] == 1


def test_a_command_that_does_not_exist_is_named():
    code, screen = run(ProcessSpec('a-1', ('/nonexistent/tool',), required=True))
    assert code == 127
    assert '[a-1]: cannot be started: /nonexistent/tool: No such file or directory' in screen


def test_what_was_started_last_is_stopped_first(tmp_path):
    notes = tmp_path / 'notes'
    names = ('sim', 'estimator', 'controller')
    code = asyncio.run(_interrupt_when(notes, 3, *(python(name, _NOTES, str(notes), name) for name in names)))
    downs = [line for line in notes.read_text().splitlines() if line.endswith('down')]
    assert code == 128 + signal.SIGINT
    assert downs[0] == 'controller down'
    assert sorted(downs[1:]) == ['estimator down', 'sim down']


def test_processes_that_ignore_every_polite_signal_are_killed_on_a_schedule_below_three_seconds():
    code, screen = run(python('deaf-1', _STUBBORN), python('deaf-2', _STUBBORN), until='[deaf-2] up')
    assert code == 130
    assert [line.split()[-1] for line in screen.splitlines() if '[deaf-1]: still runs' in line] == ['SIGTERM', 'SIGKILL']
    assert StopTimes().rest_s < StopTimes().terminate_s < StopTimes().kill_s < 3.0


def test_a_second_interrupt_kills_at_once():
    async def twice() -> int:
        screen = io.StringIO()
        never = StopTimes(rest_s=1000.0, terminate_s=2000.0, kill_s=3000.0)
        launch = asyncio.create_task(Supervisor([python('deaf-1', _STUBBORN)], os.environ, Console(None, screen), never).run())
        while 'up' not in screen.getvalue().replace('started', ''):
            await asyncio.sleep(0.02)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
        return await asyncio.wait_for(launch, 30)
    assert asyncio.run(twice()) == 130


def test_nothing_that_a_process_had_started_outlives_it(tmp_path):
    file = tmp_path / 'pid'
    code = 'import subprocess, sys\nchild = subprocess.Popen(["sleep", "60"])\nopen(sys.argv[1], "w").write(str(child.pid))'
    assert run(python('parent-1', code, str(file), required=True))[0] == 0
    child = int(file.read_text())
    for _ in range(200):
        if not Path(f'/proc/{child}').exists() or ') Z ' in Path(f'/proc/{child}/stat').read_text():
            return
        time.sleep(0.02)
    pytest.fail(f'process {child} still runs')
