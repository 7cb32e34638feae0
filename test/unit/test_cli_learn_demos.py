"""A run of learning that begins with demonstrations from bags: they count as real steps, and the run keeps them."""

import itertools
import shutil

import numpy as np
import pytest
import yaml
from support.asserts import some
from support.demonstration_examples import demonstration, write_bag
from typer.testing import CliRunner

from mbrl_ros.cli.main import app
from mbrl_ros.errors import BagError, ConfigError
from mbrl_ros.experience.demonstrations import load_demonstrations
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim.tabletop import make_task_world

TINY = {
    'max_episode_steps': 10, 'demonstrations': 5, 'control': {'max_disagreement': 1e6},
    'planner': {'horizon': 3, 'population_size': 8, 'num_elites': 2, 'num_iterations': 1, 'device': 'cpu',
                'precision': 'float32'},
    'learner': {'min_transitions': 20, 'trainer': {'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 8},
                                                   'max_steps': 10}},
}
CONFIG = TaskLoopConfig.from_mapping(TINY)
STEPS = 56


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    return [write_bag(folder / str(seed), demonstration(count, seed=seed)) for seed, count in enumerate((2, 1))]


@pytest.fixture(scope='module')
def loop():
    loop = TaskLoop('lift', CONFIG, make_task_world)
    yield loop
    loop.close()


@pytest.fixture(scope='module')
def learn(loop):
    """Goes on with a run until its end, or through so many episodes."""
    def go_on(folder, *, bags=(), resume=False, episodes=None, steps=STEPS):
        shown = load_demonstrations(bags, loop.robot, 'lift', loop.task.space, loop.period_s)
        run = LearningRun(loop, seed=3, folder=folder, resume=resume, shown=shown)
        list(itertools.islice(run.episodes(steps), episodes))
        return run
    return go_on


@pytest.fixture(scope='module')
def learned(bags, learn, tmp_path_factory):
    return learn(tmp_path_factory.mktemp('learned') / 'run', bags=bags)


def command(*words):
    return CliRunner().invoke(app, ['learn', '--task', 'lift', *map(str, words)])


def rows(run):
    return run._buffer.arrays()


def test_demonstrations_of_bags_are_the_first_episodes_and_their_steps_count(learned):
    scores = learned.board.scores
    assert [score.phase for score in scores] == ['demonstrated'] * 3 + ['running'] * 2
    assert [score.total_steps for score in scores] == [12, 24, 36, 46, 56]
    assert [score.success for score in scores[:3]] == [True, False, True]


def test_what_was_recorded_before_takes_no_time_of_the_run_besides_the_round_after_it(learned):
    first, second, *others = (score.wall_s for score in learned.board.scores)
    assert first == second == 0.0 and all(wall_s > 0.0 for wall_s in some(others))


def test_what_is_learned_from_is_what_the_bags_hold(learned, bags, loop):
    shown = load_demonstrations(bags, loop.robot, 'lift', loop.task.space, loop.period_s)
    np.testing.assert_array_equal(rows(learned).obs[:36], np.concatenate([episode.transitions.obs for episode in shown]))
    np.testing.assert_array_equal(rows(learned).action[:36], np.concatenate([episode.transitions.action for episode in shown]))
    assert rows(learned).episode.tolist() == [0] * 12 + [1] * 12 + [2] * 12 + [3] * 10 + [4] * 10
    assert (np.diff(rows(learned).stamp_ns) > 0).all()


def test_the_first_planned_episode_has_a_model_of_them(learned):
    assert learned.board.scores[3].model_version == 1


@pytest.mark.parametrize('episodes', [0, 1])
def test_a_run_goes_on_exactly_without_the_bags(learned, bags, learn, tmp_path, episodes):
    mine = [shutil.copytree(bag, tmp_path / bag.name) for bag in bags]
    learn(tmp_path / 'run', bags=mine, episodes=episodes)
    for bag in mine:
        shutil.rmtree(bag)
    resumed = learn(tmp_path / 'run', resume=True)
    for name, ours in some(rows(resumed).columns().items()):
        np.testing.assert_array_equal(ours, rows(learned).columns()[name])
    assert resumed.rounds.current.to_bytes() == learned.rounds.current.to_bytes()


def test_bags_alone_give_a_model_where_no_further_step_is_wanted(bags, learn, tmp_path):
    run = learn(tmp_path / 'run', bags=bags, steps=1)
    assert len(run.board.scores) == 3
    assert run.rounds.current.version == 1
    assert (tmp_path / 'run' / 'model.safetensors').exists()


def test_a_run_says_which_bags_it_began_with(learned, bags):
    kept = yaml.safe_load((learned._folder / 'config.yaml').read_text())
    assert kept['demos'] == list(map(str, bags))


def test_a_bag_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path):
    result = command('--demos', tmp_path / 'none', '--out', tmp_path / 'run')
    assert isinstance(result.exception, BagError)
    assert str(result.exception) == f'{tmp_path}/none: no such file or directory'
    assert not (tmp_path / 'run').exists()


def test_a_run_that_goes_on_takes_no_other_bags(learned, bags, learn):
    with pytest.raises(ConfigError, match='run: the run has its demonstrations already; to go on with it, leave --demos out'):
        learn(learned._folder, bags=bags, resume=True)


def test_a_run_that_ended_before_it_had_kept_them_is_not_gone_on_with(learned, learn, tmp_path):
    (tmp_path / 'run').mkdir()
    shutil.copy(learned._folder / 'config.yaml', tmp_path / 'run')
    with pytest.raises(ConfigError, match='run: holds a run that ended before its demonstrations were kept'):
        learn(tmp_path / 'run', resume=True)


def test_the_command_takes_several_bags_and_shows_their_episodes(bags, tmp_path):
    (tmp_path / 'tiny.yaml').write_text(yaml.safe_dump(TINY))
    result = command('--steps', 40, '--config', tmp_path / 'tiny.yaml', '--out', tmp_path / 'run', '--demos', bags[0],
                     '--demos', bags[1])
    assert result.exit_code == 0, result.output
    lines = [line.split()[:4] for line in result.output.splitlines() if line.split()[2:3] in (['demonstrated'], ['running'])]
    assert lines == [['0', '12', 'demonstrated', 'yes'], ['1', '24', 'demonstrated', 'no'], ['2', '36', 'demonstrated', 'yes'],
                     ['3', '46', 'running', 'no']]
