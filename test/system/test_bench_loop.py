"""`mbrl-ros bench loop` measures the stack that a user launches, and says so when there is none."""

import subprocess
import sys


def bench_loop(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-m', 'mbrl_ros.cli.main', 'bench', 'loop', '--seconds', '5', '--warmup', '5', *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120.0)


def test_a_stack_that_does_not_come_up_is_an_error_with_its_words():
    done = bench_loop('--rate-hz', '1000')
    assert done.returncode == 1
    assert 'its last words' in done.stdout and 'rate_hz' in done.stdout


def test_a_robot_that_does_not_exist_is_refused_in_one_line_before_anything_is_started():
    done = bench_loop('--robot', 'pandda')
    assert (done.returncode, done.stdout) == (2, '')
    [line] = done.stderr.splitlines()
    assert line.startswith("error: there is no 'pandda' in config/robots; known: iiwa, panda")
