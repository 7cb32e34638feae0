"""The demo as a person starts it: it ends by itself with its results, and the same seed gives the same result."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader
from support.bench import wait_until
from support.live_stack import Launch

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.robots.profile import load_robot

EPISODES = 4
FROZEN_S = 0.7
#: What depends on how fast the machine was.
TIMES = {'plan_ms_p50', 'plan_ms_p99', 'deadline_misses', 'wall_s'}


class Demo:
    """One run of the demo, to its end.

    Args:
        folder: For what it writes.
        words: Launch arguments.
        episodes: Their number.
        frozen: Nodes that stand still for a moment in the first episodes, one after the other.
    """

    def __init__(self, folder: Path, *words: str, episodes: int = EPISODES, frozen: Sequence[str] = ()) -> None:
        self.output = folder / 'run'
        words = 'seed:=3', f'episodes:={episodes}', f'output_dir:={self.output}', *words
        launch = Launch(folder / 'screen', 'demo.launch.yaml', *words)
        try:
            for node in frozen:
                wait_until(lambda: 'exploring' in launch.text(), what='an episode')
                launch.freeze(node, FROZEN_S)
            self.exit_code = launch.wait(150.0)
        finally:
            launch.close()
        self.screen = launch.text()

    def scores(self) -> list[dict[str, str]]:
        with (self.output / 'scores.csv').open(newline='') as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def demo(tmp_path_factory) -> Demo:
    return Demo(tmp_path_factory.mktemp('demo'))


def test_the_demo_ends_by_itself_and_says_by_its_exit_code_that_so_few_episodes_do_not_teach(demo):
    assert demo.exit_code == 1
    assert 'too few episodes to tell whether the arm learned' in demo.screen
    assert demo.screen.count('has finished cleanly') == 6
    assert 'Traceback' not in demo.screen


def test_every_episode_is_scored_and_the_last_are_planned_with_a_learned_model(demo):
    scores = demo.scores()
    assert [score['episode'] for score in scores] == [str(index) for index in range(EPISODES)]
    assert [score['phase'] for score in scores] == ['exploring', 'exploring', 'running', 'running']
    assert int(scores[-1]['model_version']) >= 1
    assert float(scores[-1]['distance_m']) < float(scores[0]['distance_m'])


def test_its_results_are_there_and_readable(demo):
    assert (demo.output / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')
    model = AgentBundle.load(demo.output / 'model.safetensors')
    assert model.card.contract.robot == 'panda'
    assert model.card.contract.state_names == load_robot('panda').joints
    with AnyReader([demo.output / 'bag']) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        assert len(list(reader.messages())) == reader.message_count
    assert {'/state', '/applied_command', '/goal', '/episode', '/training', '/model', '/configuration'} <= set(counts)
    assert counts['/applied_command'] >= int(demo.scores()[-1]['total_steps'])


def test_the_demo_runs_on_an_arm_whose_servos_lag_and_sag(tmp_path):
    pytest.importorskip('mujoco')
    demo = Demo(tmp_path, 'simulator:=mujoco', episodes=3)
    assert demo.exit_code == 1 and 'Traceback' not in demo.screen
    scores = demo.scores()
    assert [score['phase'] for score in scores] == ['exploring', 'exploring', 'running']
    assert float(scores[-1]['distance_m']) < float(scores[0]['distance_m'])
    with AnyReader([demo.output / 'bag']) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    assert counts['/joint_states'] > 20 * int(scores[-1]['total_steps']) and counts['/state'] and counts['/applied_command']


@pytest.mark.timeout(240)
def test_the_same_seed_gives_the_same_scores_whatever_stands_still_meanwhile(demo, tmp_path):
    first, second = ([{key: value for key, value in score.items() if key not in TIMES} for score in run.scores()]
                     for run in (demo, Demo(tmp_path, frozen=('command_guard', 'arm_simulator', 'mpc_controller'))))
    assert first == second
