"""What an evaluation through the nodes makes of the processes that it runs: scores, or one error, and none of them left."""

import os
import signal
import subprocess
import sys

import pytest

from mbrl_ros.errors import LaunchError
from mbrl_ros.launching.description import ProcessSpec
from mbrl_ros.runs.live_evaluation import run
from mbrl_ros.runs.scores import HELD, EpisodeScore, ScoreBoard, ScoreConfig


def score(episode, steps, phase='running', success=True):
    return EpisodeScore(episode, steps, phase, success, 0.01, -3.5, 2, 0.1, 5.0, 9.0, 0, wall_s=4.0, follow_s=0.0)


def save(path, *scores):
    board = ScoreBoard(ScoreConfig(), path)
    for entry in scores:
        board.add(entry)
    board.save()


def play(folder, program, episodes=2, on_outcome=lambda _: None):
    """Run a manager that is a few lines of Python, beside a controller that stays; neither may be left."""
    (folder / 'run').mkdir(exist_ok=True)
    pid = folder / 'pid'
    specs = [ProcessSpec('manager-1', (sys.executable, '-c', program), output='both', required=True),
             ProcessSpec('controller-2', ('sh', '-c', f'echo $$ > {pid}; exec sleep 60'), output='both', required=True)]
    try:
        return run(specs, os.environ, folder / 'run', episodes, on_outcome)
    finally:
        assert subprocess.run(['kill', '-0', pid.read_text().strip()], capture_output=True, check=False).returncode != 0


def test_each_outcome_is_told_once_with_the_steps_of_its_episode(tmp_path):
    save(tmp_path / 'first.csv', score(0, 20))
    save(tmp_path / 'both.csv', score(0, 20), score(1, 65, success=False))
    program = f"""
import os, time
for name in ('first', 'both'):
    os.replace(f'{tmp_path}/{{name}}.csv', '{tmp_path}/run/scores.csv')
    time.sleep(0.8)
raise SystemExit(1)  # As a manager does whose arm has not learned.
"""
    told = []
    scores = play(tmp_path, program, on_outcome=told.append)
    assert scores == [score(0, 20), score(1, 65, success=False)]
    assert [(outcome.success, outcome.steps) for outcome in told] == [(True, 20), (False, 45)]


def test_a_node_that_fails_ends_the_evaluation_with_its_error(tmp_path):
    save(tmp_path / 'run' / 'scores.csv', score(0, 20))
    with pytest.raises(LaunchError) as caught:
        play(tmp_path, "import time; time.sleep(0.2); raise SystemExit('error: a.safetensors: does not fit')")
    assert str(caught.value) == ('the stack ended after 1 of 2 episodes: [manager-1] error: a.safetensors: does not fit '
                                 '(--out keeps its log)')
    assert '[manager-1] error: a.safetensors: does not fit' in (tmp_path / 'run' / 'launch.log').read_text()


def test_a_node_that_is_killed_is_named(tmp_path):
    with pytest.raises(LaunchError, match=r'after 0 of 2 episodes: \[ERROR\] \[manager-1\]: process has died .*SIGKILL'):
        play(tmp_path, 'import os, time; time.sleep(0.2); os.kill(os.getpid(), 9)')


def test_an_episode_that_was_not_planned_is_no_figure(tmp_path):
    save(tmp_path / 'run' / 'scores.csv', score(0, 20), score(1, 40, 'exploring'))
    with pytest.raises(LaunchError, match='episode 1 was exploring, not planned'):
        play(tmp_path, 'import time; time.sleep(0.2)')


def test_an_episode_in_which_the_arm_was_held_is_no_figure(tmp_path):
    save(tmp_path / 'run' / 'scores.csv', score(0, 20), score(1, 40, HELD, None))
    with pytest.raises(LaunchError, match='episode 1 was not planned: the arm was held all the time'):
        play(tmp_path, 'import time; time.sleep(0.2)')


@pytest.mark.parametrize(('number', 'error', 'code'), [
    (signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143)])
def test_a_signal_ends_the_nodes_and_the_command(tmp_path, number, error, code):
    with pytest.raises(error) as caught:
        play(tmp_path, f'import os, time; time.sleep(0.2); os.kill(os.getppid(), {number:d}); time.sleep(9)')
    assert getattr(caught.value, 'code', None) == code
