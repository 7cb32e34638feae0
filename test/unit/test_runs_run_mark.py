"""Whether a process is the successor of one that was killed in the same run."""

import subprocess
import sys

import pytest

from mbrl_ros.runs.run_mark import RunMark


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'run' / '.mark'


def begun_by_a_child(path):
    words = ('import sys; from pathlib import Path; from mbrl_ros.runs.run_mark import RunMark; '
             "print(RunMark(Path(sys.argv[1]), 'reach').begin())")
    child = subprocess.run([sys.executable, '-c', words, str(path)], capture_output=True, text=True, check=True)
    return child.stdout.strip() == 'True'


def test_after_a_crash_the_next_process_of_the_same_parent_goes_on(path):
    assert [begun_by_a_child(path) for _ in range(3)] == [False, True, True]


def test_a_process_of_another_parent_begins_anew(path):
    assert not RunMark(path, 'reach').begin()
    assert not begun_by_a_child(path)


def test_after_an_end_in_order_another_run_begins(path):
    mark = RunMark(path, 'reach')
    mark.begin()
    mark.end()
    mark.end()
    assert not RunMark(path, 'reach').begin()


def test_another_task_is_another_run(path):
    assert not RunMark(path, 'reach').begin()
    assert not RunMark(path, 'lift').begin()
    assert RunMark(path, 'lift').begin()


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file'):
        RunMark(tmp_path / 'file' / '.mark', 'reach').begin()
