"""`mbrl-ros bench loop` measures the stack that a user launches, and says so when there is none."""

import subprocess
import sys


def test_a_stack_that_does_not_come_up_is_an_error_with_its_words():
    done = subprocess.run([sys.executable, '-m', 'mbrl_ros.cli.main', 'bench', 'loop', '--seconds', '5', '--warmup', '5',
                           '--robot', 'pandda'], capture_output=True, text=True, timeout=120.0)
    assert done.returncode == 1
    assert 'its last words' in done.stdout and "'pandda'" in done.stdout
