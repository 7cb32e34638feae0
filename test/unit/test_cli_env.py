"""An environment is learned, gone on with and evaluated as a task is, with the same planner and the same learner."""

import contextlib
import csv
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support.asserts import some
from support.ensembles import untrained_bundle
from typer.testing import CliRunner

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.cli.main import app
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.errors import ConfigError, MeasurementError, ModelMismatchError
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer
from mbrl_ros.models.framed import FramedModel
from mbrl_ros.resources import share_directory
from mbrl_ros.runs.env_evaluation import EnvEvaluation
from mbrl_ros.runs.env_loop import BUILT_IN, LEARNED, EnvLoop, episode_seeds
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.evaluation import Outcome, wilson_interval
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.playing import EVALUATION
from mbrl_ros.runs.playing import LEARNING as LEARNING_STREAM
from mbrl_ros.spaces.frame import framed_transitions
from mbrl_ros.spaces.outcome import learned_reward

SLIDER, WALLED = 'tiny_environments:tiny/Slider-v0', 'tiny_environments:tiny/Walled-v0'
SETTINGS = {
    'explorations': 4,
    'planner': {'horizon': 3, 'population_size': 24, 'num_elites': 4, 'num_iterations': 2, 'init_std': 0.5, 'device': 'cpu'},
    'learner': {'min_transitions': 20, 'acceptance': {'rmse_tolerance': 1.0, 'rmse_floor': 0.5, 'nll_tolerance': 50.0},
                'trainer': {'ensemble': {'hidden_layers': 1, 'hidden_size': 16}, 'max_steps': 150, 'learning_rate': 0.01}},
}
CONFIG = EnvLoopConfig.from_mapping(SETTINGS)
SEED, STEPS = 7, 84
PLAN_TIMES = {'plan_ms_p50': None, 'plan_ms_p99': None}
TIMES = {**PLAN_TIMES, 'wall_s': None}


def mark_reward(obs, action):
    """What `tiny_environments.Slider` pays."""
    return -(obs[..., 0] - 0.6).square()


def other_reward(obs, action):
    return obs[..., 0]


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp('config') / 'slider.yaml'
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


@dataclasses.dataclass(frozen=True)
class Kept:
    """A run that has ended."""

    folder: Path
    progress: list
    scores: list

    @property
    def model(self):
        return self.folder / 'model.safetensors'


def learn(folder, *, env_id=SLIDER, episodes=None, reward=LEARNED, **arguments):
    with contextlib.closing(EnvLoop(FlatEnvironment(env_id), CONFIG, reward=reward)) as loop:
        run = LearningRun(loop, seed=SEED, folder=folder, **arguments)
        progress = list(itertools.islice(run.episodes(STEPS), episodes))
        run.draw()
    return Kept(folder, progress, run.board.scores)


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    return learn(tmp_path_factory.mktemp('learned') / 'run')


def untrained(path, env_id, **arguments):
    """Leave a model for an environment that knows nothing of it."""
    with contextlib.closing(EnvLoop(FlatEnvironment(env_id), CONFIG, **arguments)) as loop:
        untrained_bundle(loop.contract).save(path)
    return path


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def returns(kept, phase):
    return [score.episode_return for score in kept.scores if score.phase == phase]


def test_a_run_explores_and_then_plans(learned):
    assert [score.phase for score in learned.scores] == 4 * ['exploring'] + 3 * ['running']
    assert [score.total_steps for score in learned.scores] == [12 * count for count in range(1, 8)]
    assert [len(done.episode.plan_s) for done in learned.progress] == 4 * [0] + 3 * [12]


@pytest.mark.parametrize('reward', [LEARNED, f'{__name__}:mark_reward'])
def test_dynamics_and_reward_are_learned_well_enough_to_plan_with(learned, tmp_path, reward):
    kept = learned if reward == LEARNED else learn(tmp_path / 'run', reward=reward)
    assert np.mean(returns(kept, 'exploring')) < -4.0
    # A way of up to 1.1 to the mark, at up to 0.5 a step, costs up to 0.7; then it stands there.
    assert np.mean(returns(kept, 'running')[1:]) > -1.5
    assert abs(kept.progress[-1].episode.obs[-1, 0] - 0.6) < 0.2


def test_outcomes_are_entries_of_the_observations(learned):
    model = AgentBundle.load(learned.model)
    assert (model.card.contract.robot, model.card.contract.task) == ('gymnasium', SLIDER)
    assert model.card.contract.state_names == ('obs[0]', 'reward', 'ended')
    for done in some(learned.progress):
        obs = done.episode.obs
        np.testing.assert_allclose(obs[1:, 1], -np.square(obs[1:, 0] - 0.6), atol=1e-6)
        assert done.episode.episode_return == pytest.approx(obs[:, 1].sum())
        assert not obs[:, 2].any()  # A time limit is no end.


def test_an_end_is_learned_and_no_plan_runs_into_it():
    with contextlib.closing(EnvLoop(FlatEnvironment(WALLED), CONFIG)) as loop:
        explored = [loop.play(None, seed=SEED, episode=episode) for episode in range(40)]
        assert all(done.obs[-1, 2] == (done.obs[-1, 0] > 0.7) and not done.obs[:-1, 2].any() for done in explored)
        data = (np.concatenate(parts) for parts in zip(*((done.obs[:-1], done.action, done.obs[1:]) for done in explored)))
        trainer = EnsembleTrainer(dataclasses.replace(CONFIG.learner.trainer, max_steps=400))
        result = trainer.fit(*framed_transitions(loop.space.frame, *data), seed=0)
        model = FramedModel(loop.space.frame, Predictor(result.parameters), 1)
        start = torch.tensor([0.4, 1.0, 0.0])
        mean, std = model.predict(start.expand(5, 2, 3), torch.tensor([[1.0], [-1.0]]).expand(5, 2, 1))
        into_the_wall, away = (mean.square() + std.square())[..., 2].mean(dim=0).sqrt().tolist()
        assert into_the_wall > 0.2 > 4.0 * away
        agent = loop.agent.with_parameters(result.parameters)
        memory = agent.reset(episode_seeds(SEED, LEARNING_STREAM, len(explored) - 1)[1])
        plan = agent.act(start.numpy(), None, memory, objective=learned_reward, previous_action=np.zeros(1)).plan
        assert plan.mean_obs[:, 0].max() < 0.8 and plan.value == pytest.approx(3.0, abs=0.2)


def test_scores_have_returns_and_success_but_no_distance(learned):
    with (learned.folder / 'scores.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row['episode_return']) for row in rows] == [score.episode_return for score in learned.scores]
    assert {row['distance_m'] for row in rows} == {'nan'}
    reached = [str(bool(abs(done.episode.obs[-1, 0] - 0.6) < 0.1)) for done in learned.progress]
    assert [row['success'] for row in rows] == reached and len(set(reached)) == 2
    assert (learned.folder / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')


def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted(learned, tmp_path):
    assert len(learn(tmp_path / 'run', episodes=5).scores) == 5
    resumed = learn(tmp_path / 'run', resume=True)
    np.testing.assert_equal(*([dataclasses.asdict(dataclasses.replace(score, **TIMES)) for score in run.scores]
                              for run in (resumed, learned)))
    assert resumed.model.read_bytes() == learned.model.read_bytes()


@pytest.mark.parametrize(('changes', 'named'), [
    ({'env_id': WALLED}, 'env'), ({'reward': f'{__name__}:mark_reward'}, 'reward')])
def test_another_run_is_not_gone_on_with(learned, changes, named):
    with pytest.raises(ConfigError, match=f'run: holds a run with another {named}$'):
        learn(learned.folder, resume=True, **changes)


def test_a_run_from_before_a_setting_existed_is_gone_on_with_at_its_default(tmp_path):
    kept = learn(tmp_path / 'run', episodes=1)
    config = yaml.safe_load((kept.folder / 'config.yaml').read_text())
    del config['settings']['effector'], config['settings']['learner']['trainer']['holdout_by']
    (kept.folder / 'config.yaml').write_text(yaml.safe_dump(config))
    assert len(learn(kept.folder, episodes=1, resume=True).scores) == 2
    del config['settings']['explorations']
    (kept.folder / 'config.yaml').write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r'other settings: explorations \(1 there, 4 here\)'):
        learn(kept.folder, resume=True)


def test_a_model_whose_reward_was_learned_is_no_model_for_a_given_reward(learned):
    with contextlib.closing(EnvLoop(FlatEnvironment(SLIDER), CONFIG, reward=f'{__name__}:mark_reward')) as loop, \
            pytest.raises(ModelMismatchError, match='has state_names .*reward, ended, here it is'):
        loop.agent.with_bundle(AgentBundle.load(learned.model))


def test_a_model_without_memory_for_its_plans_is_not_played_with(learned):
    config = dataclasses.replace(CONFIG, planner=dataclasses.replace(CONFIG.planner, population_size=1000, max_memory_mb=1))
    with contextlib.closing(EnvLoop(FlatEnvironment(SLIDER), config)) as loop, \
            pytest.raises(ConfigError, match='5 members and 3 observations'):
        loop.agent.with_bundle(AgentBundle.load(learned.model))


def test_an_environment_that_breaks_is_named(tmp_path):
    with pytest.raises(ConfigError, match='tiny/Broken-v0 gave the reward nan'):
        learn(tmp_path / 'run', env_id='tiny_environments:tiny/Broken-v0')
    assert not (tmp_path / 'run').exists()
    with pytest.raises(MeasurementError, match='tiny/Breaking-v0: step raised RuntimeError: serial port /dev/ttyUSB0 is gone$'):
        learn(tmp_path / 'run', env_id='tiny_environments:tiny/Breaking-v0')


def test_an_episode_without_any_limit_is_refused():
    with pytest.raises(ConfigError, match='sets no limit to an episode; its settings need a max_episode_steps above 0'):
        EnvLoop(FlatEnvironment('tiny_environments:tiny/Endless-v0'), CONFIG)
    config = dataclasses.replace(CONFIG, max_episode_steps=3)
    with contextlib.closing(EnvLoop(FlatEnvironment('tiny_environments:tiny/Endless-v0'), config)) as loop:
        assert loop.play(None, seed=0, episode=0).steps == 3


def test_a_built_in_reward_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match='no built-in reward for .*Slider-v0; there is one for HalfCheetah-v5, Pendulum-v1'):
        EnvLoop(FlatEnvironment(SLIDER), CONFIG, reward=BUILT_IN)


def test_every_environment_has_settings():
    assert EnvLoopConfig.of_env('Some-v0', has_goals=False) == EnvLoopConfig.of_env('default', has_goals=False)
    names = [path.stem for path in (share_directory() / 'config' / 'envs').glob('*.yaml')]
    for name in names:
        EnvLoopConfig.of_env(name, has_goals=False)
    with pytest.raises(ConfigError, match='none.yaml: cannot be read'):
        EnvLoopConfig.of_env('Some-v0', Path('none.yaml'), has_goals=False)


@pytest.mark.parametrize(('words', 'text'), [
    (['--env', 'tiny_environments:tiny/Textual-v0'], 'has actions Text('),
    (['--env', SLIDER, '--task', 'lift'], '--task: is for a task, which excludes --env'),
    (['--env', SLIDER, '--robot', 'iiwa'], '--robot: is for a task, which excludes --env'),
    (['--task', 'lift', '--reward', 'learned'], '--reward: is for an environment, which needs --env'),
    (['--task', 'lift', '--features', 'a:b'], '--features: is for an environment, which needs --env'),
    (['--env', SLIDER, '--reward', 'built-in'], 'there is no built-in reward for'),
    (['--env', SLIDER, '--reward', 'environment'], 'has no goals to compute rewards of'),
    (['--env', SLIDER, '--set', 'planner.max_memory_mb=1'], 'MB, max_memory_mb allows 1'),
])
def test_the_command_refuses_before_any_work(words, text, tmp_path):
    result = command('learn', *words, '--out', tmp_path / 'run')
    assert isinstance(result.exception, ConfigError)
    result.exception.args[0].index(text.replace('\\', ''))
    assert not (tmp_path / 'run').exists()


def test_a_model_is_evaluated_with_the_reward_that_it_was_learned_with(settings, tmp_path):
    model = untrained(tmp_path / 'model.safetensors', SLIDER, reward=f'{__name__}:mark_reward')
    result = command('evaluate', '--env', SLIDER, '--model', model, '--config', settings, '--reward', f'{__name__}:other_reward')
    assert isinstance(result.exception, ModelMismatchError)
    assert str(result.exception) == (f"{model}: model version 1 was learned with the reward '{__name__}:mark_reward', "
                                     f"here it is '{__name__}:other_reward'")


def test_the_command_learns_and_prints_returns(settings, tmp_path):
    result = command('learn', '--env', SLIDER, '--steps', 60, '--config', settings, '--out', tmp_path / 'run', '--reward',
                     f'{__name__}:mark_reward')
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ['episode', 'steps', 'phase', 'success', 'return', 'model', 'error', 'plan', 'p50', 'p99', 'missed'] in lines
    assert [line[:3] for line in lines if line[2:3] in (['exploring'], ['running'])] == [
        *([str(index), str(12 * index + 12), 'exploring'] for index in range(4)), ['4', '60', 'running']]


def test_figures_of_returns_have_students_interval(learned):
    outcomes = [Outcome(None, 12, float('nan'), value, (1.0, 2.0)) for value in (1.0, 2.0, 6.0)]
    figures = EnvEvaluation(SLIDER, CONFIG, learned.model).summary(outcomes)
    half = 4.302653 * np.std([1.0, 2.0, 6.0], ddof=1) / np.sqrt(3.0)
    np.testing.assert_allclose([figures['mean_return'], *figures['ci95']], [3.0, 3.0 - half, 3.0 + half], rtol=1e-5)
    assert (figures['success_rate'], figures['plan_ms_p50'], figures['mean_steps']) == (None, 1.5, 12.0)
    assert (figures['successes'], figures['success_ci95']) == (None, None)


def test_successes_have_wilsons_interval_and_are_put_into_words(learned):
    evaluation = EnvEvaluation(SLIDER, CONFIG, learned.model)
    outcomes = [Outcome(index < 41, 12, float('nan'), float(index), (1.0, 2.0)) for index in range(50)]
    figures = evaluation.summary(outcomes)
    assert (figures['successes'], figures['success_rate']) == (41, 0.82)
    assert figures['success_ci95'] == list(wilson_interval(41, 50))
    assert evaluation.in_words(figures)[1] == '41 of 50 episodes succeeded (82 %, 95 % interval 69 to 90 %)'
    some_silent = evaluation.summary([*outcomes[:41], *(dataclasses.replace(outcome, success=None) for outcome in outcomes[41:])])
    assert some_silent['success_rate'] == 0.82


def test_successes_of_episodes_that_began_elsewhere_are_told_too(learned):
    evaluation = EnvEvaluation(SLIDER, CONFIG, learned.model)
    outcomes = [Outcome(index < 30, 12, float('nan'), 0.0, (1.0,), index < 10) for index in range(50)]
    figures = evaluation.summary(outcomes)
    assert figures['of_a_way'] == {'episodes': 40, 'successes': 20, 'success_rate': 0.5,
                                   'success_ci95': list(wilson_interval(20, 40))}
    assert evaluation.in_words(figures)[1:3] == ['30 of 50 episodes succeeded (60 %, 95 % interval 46 to 72 %)',
                                                 'of the 40 that did not begin at the goal 20 (50 %, 95 % interval 35 to 65 %)']
    assert evaluation.summary(outcomes[10:])['of_a_way'] is None


def test_one_episode_has_no_interval(learned, settings):
    result = command('evaluate', '--env', SLIDER, '--model', learned.model, '--config', settings, '--episodes', 1)
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.output.splitlines() if 'mean return' in line]
    assert line.endswith(' over one episode')


def test_ctrl_c_leaves_a_curve_of_what_was_learned(settings, tmp_path):
    words = ['--env', 'tiny_environments:tiny/InterruptedLater-v0', '--config', settings, '--out', tmp_path / 'run']
    result = command('learn', *words)
    assert result.exit_code == 130
    assert 'interrupted; --resume goes on' in result.output and 'learning curve: ' in result.output
    assert (tmp_path / 'run' / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')


def test_evaluation_sees_other_episodes_than_learning(learned):
    with contextlib.closing(EnvLoop(FlatEnvironment(SLIDER), CONFIG)) as loop:
        agent = loop.agent.with_bundle(AgentBundle.load(learned.model))
        first, again = (loop.play(agent, seed=SEED, episode=3, stream=EVALUATION).obs for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first[0, 0] != learned.progress[3].episode.obs[0, 0]


def test_the_command_evaluates_returns_and_makes_a_moving_picture(learned, settings, tmp_path):
    figures, video = tmp_path / 'slider.json', tmp_path / 'slider.gif'
    result = command('evaluate', '--env', SLIDER, '--model', learned.model, '--config', settings, '--episodes', 3,
                     '--workers', 1, '--json', figures, '--video', video, '--video-episodes', 2)
    assert result.exit_code == 0, result.output
    written = json.loads(figures.read_text())
    assert written['ci95'][0] < written['mean_return'] < written['ci95'][1]
    assert written['mean_return'] > -1.5
    assert written['success_rate'] > 0.5
    assert f'mean return {written["mean_return"]:.1f} over 3 episodes' in result.output
    with Image.open(video) as picture:
        assert picture.format == 'GIF' and picture.n_frames > 1


@pytest.mark.parametrize(('name', 'code', 'line'), [
    ('Interrupted', 130, '\ninterrupted after 0 of 9999 episodes\n'),
    ('InterruptedEarly', 130, '\ninterrupted after 0 of 9999 episodes\n'), ('Terminated', 143, '')])
def test_a_signal_ends_an_evaluation_and_its_workers(deaf, settings, tmp_path, name, code, line):
    env_id = f'tiny_environments:tiny/{name}-v0'
    words = ['evaluate', '--env', env_id, '--model', untrained(tmp_path / 'model.safetensors', env_id), '--config', settings,
             '--workers', '2', '--episodes', '9999']
    process = subprocess.Popen([*deaf, sys.executable, '-m', 'mbrl_ros.cli.main', *words],
                               cwd=Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True)
    try:
        # Whoever is left would hold the pipe open.
        output, _ = process.communicate(timeout=60.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code
    assert 'Traceback' not in output and output.endswith(line)


@pytest.mark.parametrize(('number', 'code', 'line'), [
    (signal.SIGINT, 130, '\ninterrupted; --resume goes on'), (signal.SIGTERM, 143, '')])
def test_a_signal_ends_learning(deaf, settings, tmp_path, number, code, line):
    words = ['learn', '--env', SLIDER, '--config', settings, '--steps', '999999', '--out', tmp_path / 'run']
    process = subprocess.Popen([*deaf, sys.executable, '-m', 'mbrl_ros.cli.main', *words], cwd=Path(__file__).parent,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while 'exploring' not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        output, _ = process.communicate(timeout=60.0)
    finally:
        process.kill()
    assert process.returncode == code
    assert 'Traceback' not in output and line in output
