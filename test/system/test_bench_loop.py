"""`mbrl-ros bench loop` measures the stack that a user launches, and says so when there is none."""

import subprocess
import sys

import pytest

from mbrl_ros.ros import convert
from mbrl_ros.ros.stack_listener import StatusRecord


def bench_loop(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-m', 'mbrl_ros.cli.main', 'bench', 'loop', '--seconds', '5', '--warmup', '5', *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120.0)


def test_a_stack_that_does_not_come_up_is_an_error_with_its_words():
    done = bench_loop('--rate-hz', '1000')
    assert done.returncode == 1
    assert 'its last words' in done.stdout and 'rate_hz' in done.stdout


@pytest.mark.parametrize(('option', 'value', 'text'), [
    ('--robot', 'pandda', "error: there is no 'pandda' in config/robots; known: iiwa, panda"),
    ('--agent', 'pest', "error: there is no agent 'pest'; did you mean 'pets'"),
    ('--model', 'gone.safetensors', 'error: gone.safetensors: ')])
def test_what_does_not_exist_is_refused_in_one_line_before_anything_is_started(option, value, text):
    done = bench_loop(option, value)
    assert (done.returncode, done.stdout) == (2, '')
    [line] = done.stderr.splitlines()
    assert line.startswith(text)


def test_the_guards_latency_is_counted_apart_from_the_controllers_and_only_of_answers():
    record = StatusRecord()
    for latency_ms in (1.5, float('nan'), 2.5):
        record.on_guard_status(convert.status_to_msg(0, 'guard', {'hold': '', 'latency_ms': latency_ms}))
    record.on_status(convert.status_to_msg(0, 'controller', {'state_to_command_ms': 20.0, 'skipped': 0}))
    assert record.figures['command_to_driver_ms'] == [1.5, 2.5]
    assert (record.figures['state_to_command_ms'], record.ticks) == ([20.0], 1)
