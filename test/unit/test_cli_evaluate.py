"""The command that evaluates a model: what it refuses before any work, what can lie on the table, and its videos."""

import dataclasses
import os

import av
import numpy as np
import pytest
import yaml
from PIL import Image
from support.asserts import some
from support.ensembles import untrained_bundle
from typer.testing import CliRunner

from mbrl_ros.cli.main import app
from mbrl_ros.errors import ConfigError, MbrlError
from mbrl_ros.runs.evaluation import Outcome, record
from mbrl_ros.runs.live_evaluation import processes
from mbrl_ros.runs.playing import EVALUATION
from mbrl_ros.runs.task_evaluation import Evaluation
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim.tabletop import make_task_world

SETTINGS = {'max_episode_steps': 4, 'control': {'max_disagreement': 1e6},
            'planner': {'horizon': 2, 'population_size': 4, 'num_elites': 2, 'num_iterations': 1, 'device': 'cpu'}}
CONFIG = TaskLoopConfig.from_mapping(SETTINGS)


@pytest.fixture(scope='module')
def contract():
    loop = TaskLoop('lift', CONFIG, make_task_world)
    loop.close()
    return loop.contract


@pytest.fixture(scope='module')
def folder(contract, tmp_path_factory):
    """Files to evaluate with: a model as it should be, and ones that are not."""
    folder = tmp_path_factory.mktemp('evaluate')
    (folder / 'tiny.yaml').write_text(yaml.safe_dump(SETTINGS))
    (folder / 'slow.yaml').write_text(yaml.safe_dump({**SETTINGS, 'control_rate_hz': 10.0}))
    (folder / 'large.yaml').write_text(yaml.safe_dump(
        {**SETTINGS, 'planner': {**SETTINGS['planner'], 'population_size': 1000, 'max_memory_mb': 1}}))
    (folder / 'odd.yaml').write_text('epsiodes: 3\n')
    for name, changes in (('model', {}), ('iiwa', {'robot': 'iiwa'}), ('reach', {'task': 'reach'}),
                          ('layout', {'state_names': contract.state_names[::-1]})):
        untrained_bundle(dataclasses.replace(contract, **changes)).save(folder / f'{name}.safetensors')
    whole = (folder / 'model.safetensors').read_bytes()
    (folder / 'cut.safetensors').write_bytes(whole[:-100])
    (folder / 'file').touch()
    return folder


@pytest.fixture
def evaluation(folder):
    return Evaluation('lift', CONFIG, folder / 'model.safetensors', make_task_world)


def command(folder, **options):
    """Run `mbrl-ros evaluate` on files of the folder; words that name one of them, or are to, stand for its path."""
    given = {'task': 'lift', 'model': folder / 'model.safetensors', 'config': folder / 'tiny.yaml', **options}
    return CliRunner().invoke(app, ['evaluate', *(str(word) for name, value in given.items() for word in (f'--{name}', value))])


@pytest.mark.parametrize(('options', 'text'), [
    ({'task': 'lft'}, "model version 1 has task 'lift', here it is 'lft'"),
    ({'task': 'push'}, r"model\.safetensors: model version 1 has task 'lift', here it is 'push'"),
    ({'model': 'reach.safetensors', 'task': 'reach', 'object': 'duck'}, 'reach has no object on the table, which is to be a '
                                                                        'duck'),
    ({'object': 'dukc'}, "object_kind needs one of cube, cylinder, brick, duck, mug, got 'dukc'"),
    ({'robot': 'pandda'}, "there is no 'pandda' in config/robots; known: iiwa, panda"),
    ({'robot': 'iiwa'}, "model version 1 has robot 'panda', here it is 'iiwa'"),
    ({'model': 'iiwa.safetensors'}, 'iiwa has no gripper'),
    ({'model': 'layout.safetensors'}, 'model version 1 has state_names object_yaw, .* here it is tool_x, '),
    ({'model': 'cut.safetensors'}, r'cut\.safetensors: model data of \d+ bytes are damaged'),
    ({'model': 'none.safetensors'}, r'none\.safetensors: no such file'),
    ({'model': ''}, r'cannot be read \(Is a directory\)'),
    ({'config': 'slow.yaml'}, 'model version 1 predicts 0.05 s ahead, the control period is 0.1 s'),
    ({'config': 'large.yaml'}, 'a plan of horizon 2, population_size 1000 .* needs about . MB, max_memory_mb allows 1'),
    ({'config': 'odd.yaml'}, r"odd\.yaml: unknown key 'epsiodes' in TaskLoopConfig"),
    ({'config': 'none.yaml'}, r'none\.yaml: no such file'),
    ({'json': ''}, r'cannot be written \(Is a directory\)'),
    ({'json': 'file/figures.json'}, r'file/figures\.json: cannot be written \(Not a directory\)'),
    ({'json': '/proc/new/figures.json'}, r'/proc/new/figures\.json: cannot be written \(No such file'),
    ({'video': 'file/new/lift.gif'}, r'file/new/lift\.gif: cannot be written \(Not a directory\)'),
    ({'video': '/proc/lift.gif'}, r'/proc/lift\.gif: cannot be written \(No such file'),
    ({'video': 'lift.avi'}, r'lift\.avi: a video needs the suffix \.gif or \.mp4'),
])
def test_what_cannot_be_evaluated_is_refused_before_any_episode(folder, options, text):
    before = sorted(folder.iterdir())
    files = {name: folder / value for name, value in options.items() if name in ('model', 'config', 'json', 'video')}
    result = command(folder, **{'json': folder / 'figures.json', **options, **files})
    assert isinstance(result.exception, MbrlError)
    with pytest.raises(MbrlError, match=text):
        raise result.exception
    assert result.output == '' and '\n' not in str(result.exception)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(('words', 'text'), [
    ('--live --workers 2', '--workers: one stack plays all episodes of --live'),
    ('--live --object duck', '--object: the table of --live has cubes'),
    ('--live --video lift.gif', '--video: --live films nothing; mbrl-ros launch demo_grasp.launch.yaml'),
    ('--live --set planner.horizon=9', '--set: the nodes of --live take the settings of config/tasks'),
    ('--live --config lift.yaml', '--config: the nodes of --live take the settings of config/tasks'),
    ('--live --env Pendulum-v1', '--env: the nodes of --live play tasks'),
    ('--live --out OLD', 'old: holds the scores of another run; --out needs a folder of its own'),
    ('--live --out OLD/scores.csv', 'launch.log: cannot be written (Not a directory)'),
    ('--live --out /proc/new', '/proc/new/launch.log: cannot be written (No such file'),
    ('--out OLD', '--out: is for --live; nothing is recorded in one process'),
    ('--live', 'model version 1 predicts 0.05 s ahead, the control period is 0.1 s'),
])
def test_what_the_nodes_cannot_evaluate_is_refused_before_they_are_launched(folder, tmp_path, words, text):
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'scores.csv').touch()
    words = words.replace('OLD', str(tmp_path / 'old')).split()
    result = CliRunner().invoke(app, ['evaluate', '--model', str(folder / 'model.safetensors'), *words])
    assert isinstance(result.exception, MbrlError)
    assert text in str(result.exception) and '\n' not in str(result.exception)


@pytest.mark.parametrize('task', ['lift', 'reach'])
def test_nodes_that_evaluate_do_not_learn_explore_or_come_back(evaluation, tmp_path, task):
    specs = processes(dataclasses.replace(evaluation, task=task, seed=5), 7, tmp_path, {})
    assert all(spec.required and not spec.respawn for spec in some(specs))
    command_of = {spec.name.rpartition('-')[0]: spec.command for spec in specs}
    assert {'learning:=false', f'model:="{evaluation.model}"', f'task:="{task}"'} <= set(command_of['model_trainer'])
    assert {'episodes.exploration_episodes:=0', 'episodes.episodes:=7', 'seed:=5'} <= set(command_of['episode_manager'])
    assert {'lockstep:=true', 'seed:=5', 'video_path:=""'} <= set(command_of['arm_simulator'])


@pytest.mark.skipif(os.geteuid() == 0, reason='nothing is forbidden to root')
def test_a_folder_without_permission_is_refused(folder, tmp_path):
    tmp_path.chmod(0o500)
    result = command(folder, json=tmp_path / 'figures.json')
    assert str(result.exception).endswith('figures.json: cannot be written (Permission denied)')


@pytest.mark.parametrize(('name', 'value'), [('episodes', 0), ('episodes', -3), ('workers', -1), ('seed', -1),
                                             ('video-episodes', 0)])
def test_counts_out_of_range_are_refused(folder, name, value):
    result = command(folder, **{name: value})
    assert result.exit_code == 2 and f"Invalid value for '--{name}'" in result.output


@pytest.mark.parametrize('kind', ['cylinder', 'duck'])
def test_another_object_lies_where_the_cube_would_lie(evaluation, kind):
    first, second = (dataclasses.replace(evaluation, object_kind=name).loop() for name in ('cube', kind))
    with_cube, with_other = (loop.play(None, seed=0, episode=0, stream=EVALUATION).obs[0] for loop in (first, second))
    np.testing.assert_allclose(with_other[5:7], with_cube[5:7], atol=5e-3)
    pictures = [loop.picture(64, 48) for loop in (first, second)]
    assert not np.array_equal(*pictures)
    first.close()
    second.close()


def test_figures_name_the_object_and_the_steps_before_the_model(evaluation):
    outcome = Outcome(False, 4, 0.1, -1.0, (1.0,))
    figures = dataclasses.replace(evaluation, object_kind='duck').summary([outcome])
    assert (figures['object'], figures['real_steps_trained'], figures['live']) == ('duck', 60, False)


def test_a_gif_shows_every_other_step_and_stays_at_the_end(evaluation, tmp_path):
    record(evaluation, 1, tmp_path / 'new' / 'lift.gif')
    with Image.open(tmp_path / 'new' / 'lift.gif') as picture:
        assert (picture.format, picture.size) == ('GIF', (400, 300))
        duration_ms = sum((picture.seek(frame), picture.info['duration'])[1] for frame in range(picture.n_frames))
    assert duration_ms == (2 + 1) * 100 + 1000


def test_an_mp4_plays_in_real_time_and_its_caption_changes(evaluation, tmp_path):
    record(evaluation, 1, tmp_path / 'lift.mp4')
    with av.open(str(tmp_path / 'lift.mp4')) as container:
        [stream] = container.streams
        frames = [frame.to_ndarray(format='gray') for frame in container.decode(stream)]
        assert (stream.codec.name, stream.average_rate, frames[0].shape) == ('h264', 20, (480, 640))
    assert len(frames) == 4 + 1 + 20
    captions = [frame[:32, :320].astype(int) for frame in frames]
    changes = [np.abs(after - before).max() for before, after in zip(captions, captions[1:])]
    assert min(changes[:4]) > 50 > max(changes[4:])


def test_an_object_that_is_unknown_is_refused_by_the_world(evaluation):
    with pytest.raises(ConfigError, match='needs one of cube'):
        dataclasses.replace(evaluation, object_kind='banana').loop()
