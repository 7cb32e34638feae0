"""A model, its run and its card say what it is evaluated in, and all that contradicts them is refused before anything starts."""

import contextlib
import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from safetensors.numpy import save_file
from support import proportional
from support.ensembles import untrained_bundle
from typer.testing import CliRunner

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.agents.codec import AGENT, DYNAMICS, decode, encode
from mbrl_ros.agents.registry import AGENTS
from mbrl_ros.cli.main import app
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.errors import MbrlError
from mbrl_ros.resources import config_file, model_file
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.evaluation_request import EvaluationRequest
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.live_evaluation import processes
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim.tabletop import make_task_world

OTHER, SLIDER, SPARSE = 'proportional', 'tiny_environments:tiny/Slider-v0', 'goal_environments:goal/Sparse-v0'
TINY = ['max_episode_steps=9', 'explorations=1', 'planner.horizon=2', 'planner.population_size=8', 'planner.num_elites=2',
        'planner.num_iterations=1', 'learner.min_transitions=12', 'learner.trainer.max_steps=5',
        'learner.trainer.ensemble.hidden_size=8']


def other_reward(obs, action):
    return obs[..., 0]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The folder of a run with settings of its own."""
    folder = tmp_path_factory.mktemp('runs') / 'reach'
    config = TaskLoopConfig.of_task('reach', changes=TINY)
    with contextlib.closing(TaskLoop('reach', config, make_task_world, str(config_file('robots', 'panda')))) as loop:
        list(itertools.islice(LearningRun(loop, seed=0, folder=folder).episodes(999), 3))
    return folder


@pytest.fixture
def run(folder, tmp_path):
    """The same, to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / 'run'))


@pytest.fixture
def other_agent():
    AGENTS[OTHER] = 'support.proportional:KIND'
    yield
    del AGENTS[OTHER]


def request(model, **asked):
    return EvaluationRequest(model, **asked).resolve(make_task_world)


def refused(folder, *words):
    """The sentence by which a command refuses, which leaves the folder as it was."""
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob('*'))}
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, MbrlError), result.output
    assert result.output == '' and '\n' not in str(result.exception)
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob('*'))} == before
    return str(result.exception)


def recarded(model, **changes):
    """A bundle with another contract on its card."""
    card = model.card
    return dataclasses.replace(model, card=dataclasses.replace(card, contract=dataclasses.replace(card.contract, **changes)))


def test_a_run_says_task_robot_agent_and_settings(folder):
    evaluation = request(folder / 'model.safetensors')
    assert (evaluation.task, evaluation.robot) == ('reach', str(config_file('robots', 'panda')))
    assert evaluation.config == TaskLoopConfig.of_task('reach', changes=TINY)


def test_options_come_on_top_of_the_run(folder, tmp_path):
    model = folder / 'model.safetensors'
    evaluation = request(model, changes=['planner.horizon=3'], robot='panda')
    assert evaluation.robot == 'panda'
    assert evaluation.config == TaskLoopConfig.of_task('reach', changes=[*TINY, 'planner.horizon=3'])
    (tmp_path / 'own.yaml').write_text('max_episode_steps: 7\n')
    assert request(model, config=tmp_path / 'own.yaml').config == TaskLoopConfig.of_task('reach', tmp_path / 'own.yaml')


def test_a_run_from_before_its_settings_had_their_names_is_read(run):
    kept = yaml.safe_load((run / 'config.yaml').read_text())
    del kept['settings']['agent']
    kept['settings']['learner']['acceptance']['change_factor'] = kept['settings']['learner']['drift'].pop('change_factor')
    (run / 'config.yaml').write_text(yaml.safe_dump(kept))
    assert request(run / 'model.safetensors').config == TaskLoopConfig.of_task('reach', changes=TINY)


@pytest.mark.parametrize('beside', ['', 'settings: 3\n', 'task: push\n'])
def test_without_a_run_the_card_says_it(folder, tmp_path, beside):
    (tmp_path / 'config.yaml').write_text(beside or '{}')
    shutil.copy(folder / 'model.safetensors', tmp_path)
    evaluation = request(tmp_path / 'model.safetensors')
    assert (evaluation.task, evaluation.robot, evaluation.config) == ('reach', 'panda', TaskLoopConfig.of_task('reach'))
    assert request(model_file('push')).config == TaskLoopConfig.of_task('push')


def test_the_command_needs_no_more_than_the_model(folder, tmp_path):
    figures = tmp_path / 'figures.json'
    words = ['--model', str(folder / 'model.safetensors'), '--episodes', '1', '--workers', '1', '--json', str(figures)]
    result = CliRunner().invoke(app, ['evaluate', *words])
    assert result.exit_code == 0, result.output
    assert 'reach: 0 % of 1 episodes' in result.output and json.loads(figures.read_text())['task'] == 'reach'


@pytest.mark.parametrize('reward', ['learned', f'{__name__}:other_reward'])
def test_the_card_of_a_model_of_an_environment_says_its_reward(tmp_path, reward):
    config = EnvLoopConfig.of_env(SLIDER, has_goals=False)
    with contextlib.closing(EnvLoop(FlatEnvironment(SLIDER), config, reward=reward)) as loop:
        untrained_bundle(loop.contract).save(tmp_path / 'model.safetensors')
        evaluation = request(tmp_path / 'model.safetensors')
        assert (evaluation.env_id, evaluation.reward, evaluation.config) == (SLIDER, reward, config)
    text = refused(tmp_path, 'evaluate', '--model', tmp_path / 'model.safetensors', '--reward', 'math:pi')
    assert text.endswith(f"was learned with the reward {reward!r}, here it is 'math:pi'")
    for option, *value in (('--task', 'reach'), ('--robot', 'panda'), ('--object', 'duck'), ('--live',)):
        text = refused(tmp_path, 'evaluate', '--model', tmp_path / 'model.safetensors', option, *value)
        assert text.endswith(f'is of the environment {SLIDER!r}, for which there is no {option}')


def test_a_model_of_an_environment_with_goals_has_the_settings_for_goals(tmp_path):
    with contextlib.closing(EnvLoop(FlatEnvironment(SPARSE), EnvLoopConfig.of_env(SPARSE, has_goals=True))) as loop:
        untrained_bundle(loop.contract).save(tmp_path / 'model.safetensors')
        assert request(tmp_path / 'model.safetensors').config == loop.config != EnvLoopConfig.of_env(SPARSE, has_goals=False)


def test_a_live_evaluation_is_of_the_models_agent_with_the_settings_of_the_nodes(folder, tmp_path, other_agent):
    evaluation = request(folder / 'model.safetensors', live=True)
    assert evaluation.config == TaskLoopConfig.of_task('reach')
    own = dataclasses.replace(evaluation, config=TaskLoopConfig.of_task('reach', agent=OTHER))
    command_of = {spec.name.rpartition('-')[0]: spec.command for spec in processes(own, 2, tmp_path, {})}
    for node in ('model_trainer', 'mpc_controller'):
        assert f'agent:="{OTHER}"' in command_of[node]


@pytest.mark.parametrize(('words', 'text'), [
    (['--task', 'push'], "model.safetensors: model version {} has task 'reach', here it is 'push'"),
    (['--robot', 'iiwa'], "model.safetensors: model version {} has robot 'panda', here it is 'iiwa'"),
    (['--env', 'Pendulum-v1'], "model.safetensors: is of the task 'reach', for which there is no --env"),
    (['--reward', 'math:pi'], "model.safetensors: is of the task 'reach', for which there is no --reward"),
    (['--task', 'reach', '--env', 'Pendulum-v1'], '--env: a model is of a task or of an environment, not of both'),
    (['--set', 'control_rate_hz=10'], 'predicts 0.05 s ahead, the control period is 0.1 s'),
    (['--set', 'agent=pest'], "--set: there is no agent 'pest'; did you mean 'pets'?"),
    (['--set', 'agent=3'], '--set: agent needs a name, got 3'),
    (['--set', f'agent={OTHER}'], "--set: 'planner' is a setting of the agent 'pets', and this is for 'proportional'"),
    (['--config', 'unknown.yaml'], "unknown.yaml: is for the agent 'pest', here it is 'pets'"),
    (['--config', 'other.yaml'], "other.yaml: is for the agent 'proportional', here it is 'pets'"),
    (['--config', 'foreign.yaml'], "foreign.yaml: 'damping' is a setting of the agent 'proportional', and this is for 'pets'"),
])
def test_an_option_that_contradicts_the_model_is_refused(run, tmp_path, other_agent, words, text):
    for name, line in (('unknown', 'agent: pest'), ('other', f'agent: {OTHER}'), ('foreign', 'damping: 0.1')):
        (tmp_path / f'{name}.yaml').write_text(f'{line}\n')
    words = [tmp_path / word if word.endswith('.yaml') else word for word in words]
    version = AgentBundle.load(run / 'model.safetensors').version
    assert text.format(version) in refused(tmp_path, 'evaluate', '--model', run / 'model.safetensors', *words)


SPOILT = pytest.mark.parametrize(('changes', 'text'), [
    ({'agent': OTHER}, f"has agent '{OTHER}', here it is 'pets'"),
    ({'space_version': 9}, 'was learned in version 9 of the space'),
    ({'robot': 'iiwa'}, "has robot 'iiwa', here it is 'panda'"), ({'task': 'push'}, "has task 'push', here it is 'reach'"),
    ({'period_s': 0.1}, 'predicts 0.1 s ahead, the control period is 0.05 s')])


@SPOILT
def test_a_bundle_that_is_not_of_its_run_is_not_evaluated(run, other_agent, changes, text):
    model = run / 'model.safetensors'
    recarded(AgentBundle.load(model), **changes).save(model)
    if {'task', 'agent'} & set(changes):
        of = {'task': 'reach', 'agent': 'pets', **changes}
        text = f'is of {of["task"]!r} and the agent {of["agent"]!r}, but lies in the folder of a run of \'reach\''
    assert text in refused(run, 'evaluate', '--model', model)


@SPOILT
def test_a_checkpoint_that_is_not_of_its_run_is_not_gone_on_with(run, other_agent, changes, text):
    path = run / 'checkpoint.safetensors'
    with safe_open(path, 'numpy') as file:
        kept, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118  it is no dict
    bundle = recarded(AgentBundle.from_bytes(kept['model'].tobytes()), **changes)
    save_file({**kept, 'model': np.frombuffer(bundle.to_bytes(), dtype=np.uint8)}, path, metadata)
    said = resume(run)
    assert said.startswith(f'{path}: cannot be gone on with (') and text in said


def resume(run, *words, changes=TINY):
    return refused(run, 'learn', '--resume', '--out', run, '--task', 'reach', '--robot', config_file('robots', 'panda'),
                   *itertools.chain(*(('--set', change) for change in changes)), *words)


def test_a_run_is_gone_on_with_by_its_own_agent_alone(run, other_agent):
    text = resume(run, '--agent', OTHER, changes=TINY[:1])
    assert text == f"{run}: holds a run of the agent 'pets', here it is '{OTHER}'"


@pytest.mark.parametrize(('words', 'text'), [
    (['--agent', 'pest'], "there is no agent 'pest'; did you mean 'pets'?"),
    (['--config', 'CONFIG'], "config.yaml: there is no agent 'pest'; did you mean 'pets'?"),
    (['--config', 'CONFIG', '--agent', 'pets'], "config.yaml: is for the agent 'pest', here it is 'pets'"),
    (['--agent', OTHER, '--set', 'planner.horizon=3'],
     "--set: 'planner' is a setting of the agent 'pets', and this is for 'proportional'"),
    (['--agent', OTHER, '--set', 'agent=pets'], "--set: is for the agent 'pets', here it is 'proportional'"),
])
def test_an_agent_that_is_not_there_or_not_meant_learns_nothing(tmp_path, other_agent, words, text):
    config = tmp_path / 'config.yaml'
    config.write_text('agent: pest\n')
    words = [config if word == 'CONFIG' else word for word in words]
    assert refused(tmp_path, 'learn', '--task', 'reach', '--out', tmp_path / 'run', *words).endswith(text)


def test_an_agent_of_the_working_directory_learns_and_is_evaluated_by_what_its_run_says(tmp_path):
    shutil.copy(proportional.__file__, tmp_path / 'own_agent.py')
    for words in (['learn', '--task', 'reach', '--agent', 'own_agent:KIND', '--steps', '60', '--out', 'run'],
                  ['evaluate', '--model', 'run/model.safetensors', '--episodes', '2', '--workers', '1']):
        done = subprocess.run([Path(sys.executable).with_name('mbrl-ros'), *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert 'of 2 episodes succeeded' in done.stdout


def test_an_old_model_of_a_space_that_has_changed_is_to_be_learned_anew(tmp_path):
    config = TaskLoopConfig.of_task('lift', changes=['actions=joints'])
    with contextlib.closing(TaskLoop('lift', config, make_task_world)) as loop:
        tensors, metadata = decode(untrained_bundle(loop.contract).to_bytes())
    assert metadata.pop('format') == AGENT
    figures = json.loads(metadata.pop('figures'))
    old = {name: text for name, text in metadata.items() if name not in ('agent', 'space', 'space_version')}
    path = tmp_path / 'model.safetensors'
    path.write_bytes(encode({name.removeprefix('model.'): tensor for name, tensor in tensors.items()},
                            {**old, **{name: json.dumps(value) for name, value in figures.items()}, 'format': DYNAMICS}))
    text = refused(tmp_path, 'evaluate', '--model', path, '--set', 'actions=joints')
    assert text == (f"{path}: model version 1 was learned in version 1 of the space 'joint_tool', here it is version 2, whose "
                    'features differ; learn it anew')
