"""Learning and evaluating in one process: what a run leaves on disk, how it goes on, and what a model is worth."""

import contextlib
import csv
import dataclasses
import itertools
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support.asserts import some
from typer.testing import CliRunner

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.cli.main import app
from mbrl_ros.errors import ConfigError, ModelMismatchError
from mbrl_ros.resources import config_file
from mbrl_ros.runs.evaluation import Outcome, evaluate
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.playing import EVALUATION, LEARNING
from mbrl_ros.runs.scores import load_scores
from mbrl_ros.runs.task_evaluation import Evaluation
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim.tabletop import make_task_world

TINY = {
    'max_episode_steps': 25, 'demonstrations': 2, 'control': {'max_disagreement': 1e6},
    'planner': {'horizon': 3, 'population_size': 8, 'num_elites': 2, 'num_iterations': 1, 'device': 'cpu', 'init_std': 0.5,
                'precision': 'float32'},
    'learner': {'min_transitions': 20, 'trainer': {'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 8},
                                                   'max_steps': 10}},
}
CONFIG = TaskLoopConfig.from_mapping(TINY)
SEED, STEPS = 3, 100
PLAN_TIMES = {'plan_ms_p50': None, 'plan_ms_p99': None}
TIMES = {**PLAN_TIMES, 'wall_s': None}
KEYS = {'task', 'episodes', 'success_rate', 'ci95', 'mean_return', 'real_steps_trained', 'plan_ms_p50', 'plan_ms_p99'}


@dataclasses.dataclass(frozen=True)
class Kept:
    """A run that has ended: its folder, and what its episodes came to."""

    folder: Path
    progress: list
    scores: list

    @property
    def model(self):
        return self.folder / 'model.safetensors'


def learn(folder, *, episodes=None, resume=False):
    """Go on with a run until its end, or through so many episodes."""
    with run_in(folder, resume=resume) as run:
        progress = list(itertools.islice(run.episodes(STEPS), episodes))
    return Kept(folder, progress, run.board.scores)


@contextlib.contextmanager
def run_in(folder, *, resume=False, task='lift', config=CONFIG, robot='panda', seed=SEED):
    with contextlib.closing(TaskLoop(task, config, make_task_world, robot)) as loop:
        yield LearningRun(loop, seed=seed, folder=folder, resume=resume)


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    return learn(tmp_path_factory.mktemp('learned') / 'new' / 'run')


@pytest.fixture(scope='module')
def tiny_yaml(tmp_path_factory):
    path = tmp_path_factory.mktemp('config') / 'tiny.yaml'
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope='module')
def two_workers(learned):
    """Outcomes of three episodes on two workers, and those told as they came."""
    told = []
    return evaluate(Evaluation('lift', CONFIG, learned.model, make_task_world, SEED), 3, 2, told.append), told


@pytest.fixture
def copy(learned, tmp_path):
    """The run's folder, to be spoilt."""
    return Path(shutil.copytree(learned.folder, tmp_path / 'run'))


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def without_times(values):
    return [dataclasses.asdict(dataclasses.replace(value, **TIMES)) for value in values]


def test_a_run_begins_with_demonstrations_and_then_plans(learned):
    assert [score.phase for score in learned.scores] == ['demonstrated', 'demonstrated', 'running', 'running']
    assert [len(done.episode.plan_s) for done in learned.progress] == [0, 0, 25, 25]
    assert [done.training is None for done in learned.progress] == [True, False, False, False]


def test_a_run_ends_once_the_steps_are_made(learned):
    assert [score.total_steps for score in learned.scores] == [25, 50, 75, 100]
    again = learn(learned.folder, resume=True)
    assert again.progress == []
    np.testing.assert_equal(*(list(map(dataclasses.asdict, run.scores)) for run in (again, learned)))


def test_a_run_leaves_settings_checkpoint_scores_and_model(learned):
    assert {path.name for path in learned.folder.iterdir()} == {
        'config.yaml', 'checkpoint.safetensors', 'scores.csv', 'model.safetensors', 'model.experience.safetensors', 'tensorboard'}
    settings = yaml.safe_load((learned.folder / 'config.yaml').read_text())
    assert {key: settings[key] for key in ('task', 'robot', 'seed')} == {'task': 'lift', 'robot': 'panda', 'seed': SEED}
    assert TaskLoopConfig.from_mapping(settings['settings']) == CONFIG
    with (learned.folder / 'scores.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row['total_steps']) for row in rows] == [25, 50, 75, 100]


def test_a_score_has_the_wall_time_of_its_episode_and_of_the_training_after_it(tmp_path):
    begin_s = time.monotonic()
    kept = learn(tmp_path / 'run')
    took_s = time.monotonic() - begin_s
    assert all(done.score.wall_s > done.episode.plan_s.sum() for done in some(kept.progress))
    assert sum(score.wall_s for score in kept.scores) < took_s
    assert [score.wall_s for score in load_scores(kept.folder / 'scores.csv')] == [score.wall_s for score in kept.scores]


def test_the_model_is_for_the_task_and_of_all_steps(learned):
    model = AgentBundle.load(learned.model)
    assert (model.card.contract.task, model.card.contract.robot) == ('lift', 'panda')
    assert model.version == learned.scores[-1].model_version + 1
    newest = [done.training for done in learned.progress if done.training and done.training.accepted][-1]
    assert (model.card.num_transitions, model.card.trained_episode) == (newest.num_transitions, newest.trained_episode)


@pytest.mark.parametrize('episodes', [1, 2])
def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted(learned, tmp_path, episodes):
    before = learn(tmp_path / 'run', episodes=episodes).scores
    assert len(before) == episodes
    resumed = learn(tmp_path / 'run', resume=True)
    assert [score.wall_s for score in resumed.scores[:episodes]] == [score.wall_s for score in before]
    np.testing.assert_equal(without_times(resumed.scores), without_times(learned.scores))
    assert resumed.model.read_bytes() == learned.model.read_bytes()
    assert [path.name for path in resumed.folder.glob('scores*.csv')] == ['scores.csv']


def test_a_run_that_was_interrupted_before_its_first_episode_begins_anew(copy):
    (copy / 'checkpoint.safetensors').unlink()
    assert [score.episode for score in learn(copy, episodes=1, resume=True).scores] == [0]


@pytest.mark.parametrize(('changes', 'named'), [
    ({'seed': SEED + 1}, 'seed'), ({'task': 'push'}, 'task'), ({'robot': str(config_file('robots', 'panda'))}, 'robot'),
    ({'config': dataclasses.replace(CONFIG, max_episode_steps=26)}, r'settings: max_episode_steps \(25 there, 26 here\)'),
    ({'seed': SEED + 1, 'task': 'push'}, 'task, seed')])
def test_another_run_is_not_gone_on_with(learned, changes, named):
    with pytest.raises(ConfigError, match=f'run: holds a run with (an)?other {named}$'), \
            run_in(learned.folder, resume=True, **changes):
        pass


def test_a_folder_that_holds_a_run_is_left_alone_without_resume(learned):
    before = {path.name: path.stat().st_mtime_ns for path in learned.folder.iterdir()}
    with pytest.raises(ConfigError, match='run: holds a run already; go on with it by --resume, or name another folder'), \
            run_in(learned.folder):
        pass
    assert {path.name: path.stat().st_mtime_ns for path in learned.folder.iterdir()} == before


def test_a_folder_without_a_run_is_not_gone_on_with(tmp_path):
    with pytest.raises(ConfigError, match='none: holds no run to go on with'), run_in(tmp_path / 'none', resume=True):
        pass
    assert not (tmp_path / 'none').exists()


def test_a_plan_without_memory_is_refused_before_the_first_step(tiny_yaml, tmp_path):
    result = command('learn', '--task', 'lift', '--config', tiny_yaml, '--out', tmp_path / 'run',
                     '--set', 'planner.population_size=2000', '--set', 'planner.max_memory_mb=1')
    assert isinstance(result.exception, ConfigError)
    assert 'a plan of horizon 3, population_size 2000' in str(result.exception)
    assert not (tmp_path / 'run').exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match='file/run: cannot be written'), run_in(tmp_path / 'file' / 'run'):
        pass


@pytest.mark.parametrize('share', [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_by_its_path(copy, share):
    checkpoint = copy / 'checkpoint.safetensors'
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ConfigError, match=r'run/checkpoint\.safetensors: cannot be gone on with'), \
            run_in(copy, resume=True):
        pass


def test_the_command_learns_prints_the_table_and_draws_the_curve(tiny_yaml, tmp_path):
    result = command('learn', '--task', 'lift', '--steps', 70, '--config', tiny_yaml, '--out', tmp_path / 'run')
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert sum(line.split()[:2] == ['episode', 'steps'] for line in lines) == 1
    assert [line.split()[:3] for line in lines if line.split()[2:3] in (['demonstrated'], ['running'])] == [
        ['0', '25', 'demonstrated'], ['1', '50', 'demonstrated'], ['2', '75', 'running']]
    assert (tmp_path / 'run' / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')


def test_the_command_refuses_an_unknown_task_with_the_known_ones(tmp_path):
    result = command('learn', '--task', 'lft', '--out', tmp_path / 'run')
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("there is no 'lft' in config/tasks; known: lift, pick_place, push, reach")
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('task', ['lift', 'pick_place', 'push', 'reach'])
def test_every_task_has_settings(task):
    assert TaskLoopConfig.of_task(task) != TaskLoopConfig.from_mapping({})


def test_weights_of_a_reward_are_settings_in_the_loop_and_for_the_episode_manager():
    config = TaskLoopConfig.of_task('lift', changes=['rewards.lift.weights.goal=33'])
    assert config.for_manager('lift')['weights']['goal'] == 33.0
    loop = TaskLoop('lift', config, make_task_world)
    loop.close()
    assert loop.task.weights.goal == 33.0


def test_evaluation_sees_other_scenes_than_learning_and_the_same_ones_each_time(learned):
    loop = TaskLoop('lift', dataclasses.replace(CONFIG, max_episode_steps=2), make_task_world)
    agent = loop.agent.with_bundle(AgentBundle.load(learned.model))
    first, again, other, seen = (loop.play(agent, seed=SEED, episode=episode, stream=stream).obs
                                 for episode, stream in ((0, EVALUATION), (0, EVALUATION), (1, EVALUATION), (0, LEARNING)))
    loop.close()
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0]).any() and (first[0] != seen[0]).any()


def test_outcomes_of_two_workers_are_those_of_one_process(learned, two_workers):
    outcomes, told = two_workers
    assert len(told) == 3 and set(told) == set(outcomes)
    loop = TaskLoop('lift', CONFIG, make_task_world)
    agent = loop.agent.with_bundle(AgentBundle.load(learned.model))
    for index, outcome in enumerate(outcomes):
        alone = Outcome.of(loop.play(agent, seed=SEED, episode=index, stream=EVALUATION))
        assert dataclasses.replace(outcome, plan_ms=()) == dataclasses.replace(alone, plan_ms=())
        assert len(outcome.plan_ms) == outcome.steps == 25
    loop.close()
    assert len({outcome.episode_return for outcome in outcomes}) == 3


def test_figures_are_those_of_the_outcomes(learned):
    outcomes = [Outcome(True, 10, 0.01, 2.0, (1.0, 2.0)), Outcome(True, 30, 0.02, 4.0, (3.0,)), Outcome(False, 90, 0.2, 0.0, ())]
    figures = Evaluation('lift', CONFIG, learned.model, make_task_world).summary(outcomes)
    assert (figures['episodes'], figures['success_rate'], figures['mean_return']) == (3, 2 / 3, 2.0)
    assert (figures['median_steps_to_success'], figures['median_distance_m'], figures['plan_ms_p50']) == (20.0, 0.02, 2.0)
    # Wilson's interval of 2 of 3, of which there is a closed form.
    z2, n, rate = 1.959964**2, 3, 2 / 3
    centre, half = (rate + z2 / (2 * n)) / (1 + z2 / n), np.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    np.testing.assert_allclose(figures['ci95'], [centre - half, centre + half], rtol=1e-5)


def test_the_command_writes_figures_and_a_moving_picture(learned, two_workers, tiny_yaml, tmp_path):
    figures, video = tmp_path / 'new' / 'lift.json', tmp_path / 'new' / 'lift.gif'
    result = command('evaluate', '--task', 'lift', '--model', learned.model, '--config', tiny_yaml, '--seed', SEED,
                     '--episodes', 3, '--workers', 1, '--json', figures, '--video', video, '--video-episodes', 1)
    assert result.exit_code == 0, result.output
    assert 'lift: 0 % of 3 episodes succeeded (95 % interval 0.0 to ' in result.output
    written = json.loads(figures.read_text())
    assert set(written) >= KEYS
    assert 0.0 < written['plan_ms_p50'] <= written['plan_ms_p99']
    card = AgentBundle.load(learned.model).card
    assert written['real_steps_trained'] == learned.scores[card.trained_episode].total_steps
    assert written['median_steps_to_success'] is None  # JSON has no NaN.
    of_two = Evaluation('lift', CONFIG, learned.model, make_task_world, SEED).summary(two_workers[0])
    np.testing.assert_equal({**written, 'median_steps_to_success': np.nan, **PLAN_TIMES}, {**of_two, **PLAN_TIMES})
    with Image.open(video) as picture:
        assert (picture.format, picture.size) == ('GIF', (400, 300))
        assert picture.n_frames > 1


def test_a_model_for_another_task_is_refused_before_any_episode(learned, tiny_yaml, tmp_path):
    result = command('evaluate', '--task', 'push', '--model', learned.model, '--config', tiny_yaml,
                     '--json', tmp_path / 'push.json')
    assert isinstance(result.exception, ModelMismatchError)
    assert "has task 'lift', here it is 'push'" in str(result.exception)
    assert result.output == '' and not (tmp_path / 'push.json').exists()
