"""Every program ends on SIGINT and SIGTERM, whatever it was started with: no leftovers, and the shell's codes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

#: Takes the signals, shows how a process that it starts meets them, and says when what is open was closed.
_PROGRAM = """
import subprocess, sys, time
from mbrl_ros.signals import take_signals
take_signals()
child = '''
import signal
print(signal.getsignal(2) is signal.default_int_handler, signal.getsignal(15) is signal.SIG_DFL, signal.pthread_sigmask(0, ()))
'''
try:
    subprocess.run([sys.executable, '-c', child])
    time.sleep(60)
finally:
    print('closed')
"""


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_a_program_that_was_started_deaf_closes_what_is_open_and_starts_others_that_hear(deaf, number, code):
    program = subprocess.Popen([*deaf, sys.executable, '-uc', _PROGRAM], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout.readline() == 'True True set()\n'
    program.send_signal(number)
    output, _ = program.communicate(timeout=60)
    assert (program.returncode, output) == (code, 'closed\n')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_launch_in_the_background_of_a_script_ends_with_all_that_it_started(deaf, number, tmp_path):
    file = tmp_path / 'a.launch.yaml'
    file.write_text('launch:\n- executable: {cmd: sleep 60}\n')
    launch = subprocess.Popen([*deaf, sys.executable, '-m', 'mbrl_ros.cli.main', 'launch', file], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        while 'started with pid' not in (line := launch.stdout.readline()):
            assert line, 'nothing was started'
        launch.send_signal(number)
        rest, _ = launch.communicate(timeout=60)
    finally:
        launch.kill()
    assert launch.returncode == 128 + number
    assert f'stopping ({number.name})' in rest and 'was stopped by SIGINT' in rest
    assert not Path('/proc', line.rpartition('[')[2].rstrip(']\n')).exists()
