"""A demonstration as a person records it: the launch ends by itself, and its bag is what learning begins with."""

import numpy as np
import pytest
from support.live_stack import ROBOT, Launch

from mbrl_ros.experience.demonstrations import load_demonstrations
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.types import Tag

EPISODES, STEPS = 2, 20
LIFT = make_task('lift', ROBOT)
PERIOD_S = 1.0 / TaskLoopConfig.of_task('lift').control_rate_hz


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """Folder of the run, what the screen showed, and the exit code."""
    folder = tmp_path_factory.mktemp('demonstrate')
    launch = Launch(folder / 'screen', 'demonstrate.launch.yaml', 'task:=lift', f'episodes:={EPISODES}', 'seed:=1',
                    f'max_episode_steps:={STEPS}', f'output_dir:={folder}/run')
    try:
        return folder / 'run', launch, launch.wait(150.0)
    finally:
        launch.close()


def test_the_launch_ends_by_itself_with_a_line_an_episode(recorded):
    folder, launch, exit_code = recorded
    assert exit_code == 0
    assert 'Traceback' not in launch.text() and 'ERROR' not in launch.text()
    rows = [line.split() for line in launch.text().splitlines() if ' demonstrated ' in line]
    assert [row[:4] for row in rows] == [['0', '20', 'demonstrated', 'no'], ['1', '40', 'demonstrated', 'no']]
    assert f'\n0 of the last {EPISODES} episodes succeeded\n' in launch.text()
    assert 'learned' not in launch.text()
    assert {path.name for path in folder.iterdir()} == {'bag', 'scores.csv'}


def test_its_bag_holds_every_control_step_as_a_transition_of_the_task(recorded):
    folder, _, _ = recorded
    episodes = load_demonstrations([folder / 'bag'], ROBOT, 'lift', LIFT.space, PERIOD_S)
    assert [(episode.steps, [rows.shape for rows in episode.transitions.dynamics]) for episode in episodes] == [
        (20, [(20, 18), (20, 5), (20, 18)])] * 2
    for episode in episodes:
        # The expert sets off towards the cube with an open gripper; it opens or closes it, up to its noise, and nothing between.
        assert (episode.transitions.action[:5, 4] > 0.5).all() and (np.abs(episode.transitions.action[:, 4]) > 0.5).all()
        assert np.abs(episode.transitions.action[:, :4]).max() > 0.3
        to_cube = np.linalg.norm(episode.transitions.next_obs[:, 5:8] - episode.transitions.next_obs[:, 0:3], axis=1)
        assert to_cube[-1] < to_cube[0]
        assert set(episode.transitions.tags) == {Tag.DEMONSTRATED} and np.isfinite(episode.transitions.goal).all()
        assert episode.transitions.truncated.tolist() == [False] * 19 + [True] and not episode.transitions.terminated.any()
    assert (episodes[0].transitions.obs[0] != episodes[1].transitions.obs[0]).any()
