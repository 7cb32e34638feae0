"""A run in an environment begins with demonstrations, of a file or an expert; what does not fit is refused."""

import contextlib
import functools
import itertools
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.asserts import some
from support.recordings import columns, recorded, saved, to_goal, to_mark
from typer.testing import CliRunner

from mbrl_ros.cli.main import app
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.environments.bounds import misfit
from mbrl_ros.errors import ConfigError, DemonstrationError
from mbrl_ros.runs import curve
from mbrl_ros.runs.env_loop import LEARNED, EnvLoop, episode_seeds
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.playing import LEARNING as LEARNING_STREAM
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.signals import Ended
from mbrl_ros.types import Tag

SLIDER, WALLED, PARTS, UNPAID = (f'tiny_environments:tiny/{name}-v0' for name in ('Slider', 'Walled', 'Parts', 'Unpaid'))
SPARSE, DENSE, PLAIN, CHORDS = (f'goal_environments:goal/{name}-v0' for name in ('Sparse', 'Dense', 'Plain', 'Chords'))
SETTINGS = {
    'explorations': 1, 'demonstrations': 3,
    'planner': {'horizon': 2, 'population_size': 8, 'num_elites': 2, 'num_iterations': 1, 'init_std': 0.5, 'device': 'cpu'},
    'learner': {'min_transitions': 12, 'trainer': {'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 8},
                                                   'max_steps': 10}},
}
CONFIG = EnvLoopConfig.from_mapping(SETTINGS)


def with_parts(obs):
    return np.array([[1.0, 5.0]])


def chord(obs):
    return np.array([1, 0])


def in_the_middle(obs):
    """Of no particular type."""
    return [1]


def raising(obs):
    raise RuntimeError('no weights\nsecond line')


def leaving(obs):
    raise SystemExit(3)


def ended(obs):
    raise Ended(143)


def pair(obs):
    return np.zeros(1), None


def flat(obs):
    return np.zeros(2)


def tensor(obs):
    return torch.zeros(1, requires_grad=True)


def far(obs):
    return np.array([3.5])


def endless(obs):
    return np.array([np.nan])


def half(obs):
    return [0.5, 0]


def late(obs):
    return [0, 2]


def named(function):
    return f'{function.__module__}:{function.__name__}'


@pytest.fixture(scope='module')
def slides():
    return recorded(SLIDER, to_mark)


@pytest.fixture(scope='module')
def walks():
    return recorded(SPARSE, to_goal)


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / 'tiny.yaml'
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


def loop(env_id=SLIDER, **arguments):
    return contextlib.closing(EnvLoop(FlatEnvironment(env_id), CONFIG, **arguments))


def load(*sources, env_id=SLIDER, seed=0, **arguments):
    with loop(env_id, **arguments) as made_loop:
        return made_loop.load_demonstrations(list(map(str, sources)), seed=seed)


def bent(array, row, value):
    """A copy of an array with a row changed."""
    array = np.array(array)
    array[row] = value
    return array


def command(*words):
    return CliRunner().invoke(app, ['learn', *map(str, words)])


@pytest.mark.parametrize(('env_id', 'act', 'reward'), [
    (SLIDER, to_mark, LEARNED), (WALLED, to_mark, LEARNED), (PARTS, with_parts, LEARNED), (SPARSE, to_goal, None),
    (SPARSE, to_goal, LEARNED), (DENSE, to_goal, None), (PLAIN, to_goal, None), (CHORDS, chord, None)])
def test_a_recording_teaches_what_the_expert_teaches_that_it_is_of(env_id, act, reward, tmp_path):
    played = load(named(act), env_id=env_id, seed=4, reward=reward)
    arrays = recorded(env_id, act, [episode_seeds(4, LEARNING_STREAM, index)[0] for index in range(3)])
    read = load(saved(tmp_path / 'demos.npz', arrays), env_id=env_id, reward=reward)
    assert [(one.steps, one.success) for one in read] == [(one.steps, one.success) for one in played]
    np.testing.assert_allclose([one.episode_return for one in read], [one.episode_return for one in played], rtol=1e-5)
    for mine, theirs in zip(columns(read), columns(played)):
        for name in some(mine):
            np.testing.assert_allclose(mine[name], theirs[name], atol=1e-5, err_msg=name)


def test_an_expert_is_given_the_environments_observation_and_seeds_of_the_run():
    first, again, other = (load(named(to_goal), env_id=SPARSE, seed=seed) for seed in (0, 0, 1))
    assert len(first) == 3 and all(one.source == named(to_goal) for one in first)
    np.testing.assert_equal(columns(first), columns(again))
    assert first[0].transitions.obs[0, 2] != other[0].transitions.obs[0, 2] != first[1].transitions.obs[0, 2]
    assert all((one.transitions.tags == int(Tag.DEMONSTRATED)).all() for one in first)


def test_success_at_a_goal_is_no_end_for_the_model(walks, tmp_path):
    shown = load(saved(tmp_path / 'demos.npz', walks), env_id=SPARSE)
    assert all(one.success and one.transitions.terminated[-1] for one in some(shown))
    assert not any(one.transitions.next_obs[:, -1].any() for one in shown)


def test_an_end_is_one_for_the_model(tmp_path):
    arrays = recorded(WALLED, lambda obs: np.array([3.0], np.float32))
    shown = load(saved(tmp_path / 'demos.npz', arrays), env_id=WALLED)
    assert all(one.transitions.terminated[-1] and one.transitions.next_obs[-1, -1] == 1.0 for one in some(shown))


@pytest.mark.parametrize('told', ['is_success', 'success'])
def test_success_may_be_told_of_steps_or_of_episodes(told, slides, tmp_path):
    of_episodes, of_steps = [True, False, True], np.zeros(len(slides['actions']))
    of_steps[np.flatnonzero(slides['truncations'])] = of_episodes
    for values in (of_episodes, of_steps, of_steps[:, None]):
        shown = load(saved(tmp_path / 'demos.npz', slides, **{'is_success': None, told: values}))
        assert [one.success for one in shown] == of_episodes
    assert [one.success for one in load(saved(tmp_path / 'demos.npz', slides, is_success=None))] == 3 * [None]


def test_rewards_of_goals_are_computed_and_so_is_success_where_they_are_sparse(walks, tmp_path):
    known = load(saved(tmp_path / 'demos.npz', walks), env_id=SPARSE)
    bare = load(saved(tmp_path / 'bare.npz', walks, rewards=None, is_success=None), env_id=SPARSE)
    np.testing.assert_equal(columns(bare), columns(known))
    assert [(one.success, one.episode_return) for one in bare] == [(one.success, one.episode_return) for one in known]
    with pytest.raises(DemonstrationError, match='lacks is_success, without which an end at a goal of .*Dense-v0 looks like a'):
        load(saved(tmp_path / 'demos.npz', walks, is_success=None), env_id=DENSE)


@pytest.mark.parametrize(('changes', 'text'), [
    (lambda arrays: {'actions': None}, 'lacks actions; it has observations, rewards, next_observations, terminations, trunc'),
    (lambda arrays: {'rewards': None}, 'lacks rewards, which the returns and a learned reward need; it has observations, act'),
    (lambda arrays: {'next_observations': None, 'truncations': None}, 'lacks next_observations, truncations; it has'),
    (lambda arrays: {'rewards': arrays['rewards'][1:]}, 'rewards has 35 rows, actions has 36; each array has a row for each'),
    (lambda arrays: dict.fromkeys(arrays, np.zeros((0, 1))), 'holds no steps'),
    (lambda arrays: {'observations': np.zeros((36, 2))}, 'observations has the shape (36, 2), where (36, 1) fits tiny_env'),
    (lambda arrays: {'actions': arrays['actions'][:, 0]}, 'actions has the shape (36,), where (36, 1) fits tiny_environm'),
    (lambda arrays: {'actions': np.full((36, 1), 'left')}, 'actions is of type <U4, where numbers with a row for each step'),
    (lambda arrays: {'rewards': 1.0}, 'rewards is a single value, where numbers with a row for each step fit'),
    (lambda arrays: {'actions': bent(arrays['actions'], 7, 3.5)}, 'at step 7 action[0] is 3.5, 0.5 beyond the bound 3'),
    (lambda arrays: {'actions': bent(arrays['actions'], 7, -1.5)}, 'at step 7 action[0] is -1.5, 0.5 beyond the bound -1'),
    (lambda arrays: {'actions': bent(arrays['actions'], 7, np.nan)}, 'at step 7 action[0] is nan, which is not finite'),
    (lambda arrays: {'observations': bent(arrays['observations'], 9, np.inf)},
     'in observations at step 9 obs[0] is inf, which is not finite'),
    (lambda arrays: {'rewards': bent(arrays['rewards'], 2, np.nan)}, 'in rewards at step 2 there is nan, which is not finite'),
    (lambda arrays: {'truncations': bent(arrays['truncations'], 35, False)},
     'the last 12 of its 36 steps are of an episode without an end; terminations or truncations is true at the last step'),
    (lambda arrays: {'truncations': np.zeros(36)}, 'the last 36 of its 36 steps are of an episode without an end'),
    (lambda arrays: {'truncations': bent(arrays['truncations'], 11, False)},
     'episode 0 has 24 steps, where one of tiny_environments:tiny/Slider-v0 has at most 12'),
    (lambda arrays: {'observations': bent(arrays['observations'], 5, 2.0)}, 'step 5 does not begin where step 4 of its episode'),
    (lambda arrays: {'is_success': np.ones(7)}, 'is_success has the shape (7,), where a value for each of 36 steps or for each'),
])
def test_what_does_not_fit_is_said_before_anything_is_written(changes, text, slides, settings, tmp_path):
    path = saved(tmp_path / 'demos.npz', slides, **changes(slides))
    result = command('--env', SLIDER, '--config', settings, '--out', tmp_path / 'run', '--demos', path)
    assert isinstance(result.exception, DemonstrationError)
    assert str(result.exception).startswith(f'{path}: {text}') and '\n' not in str(result.exception)
    assert not (tmp_path / 'run').exists()


def test_a_file_without_goals_is_none_for_an_environment_with_goals(slides, walks, tmp_path):
    with pytest.raises(DemonstrationError, match='lacks observations/achieved_goal, observations/desired_goal, .*, as an obser'
                                                 'vation of .*Sparse-v0 is a Dict with an array for each part; it has obs'):
        load(saved(tmp_path / 'demos.npz', slides), env_id=SPARSE)
    with pytest.raises(DemonstrationError, match='lacks observations, next_observations; it has observations/.*_goal, obs'):
        load(saved(tmp_path / 'demos.npz', walks))


def test_bounds_are_told_by_how_much_and_rounding_is_none():
    names, low, high = ('a', 'b', 'c'), np.array([0.0, -np.inf, 5.0]), np.array([10.0, 1.0, 5.0])

    def found(*values, tolerance=0.1):
        return misfit(np.array([[5.0, 0.0, 5.0], values]), low, high, names, tolerance=tolerance)

    assert found(11.0, 1.1, 5.0) is None and found(10.000001, -1e9, 5.000001, tolerance=0.0) is None
    assert found(-1.5, 0.0, 5.0) == (1, 'a is -1.5, 1.5 beyond the bound 0')
    assert found(5.0, 1.2, 5.0) == (1, 'b is 1.2, 0.2 beyond the bound 1')
    assert found(5.0, 0.0, 4.0) == (1, 'c is 4, 1 beyond the bound 5')


@pytest.mark.parametrize(('write', 'text'), [
    (lambda path: None, 'no such file or directory'), (lambda path: path.mkdir(), 'is a directory'),
    (lambda path: path.write_text('observations,actions\n'), 'is no .npz file; numpy.savez makes one'),
    (lambda path: path.write_bytes(b''), 'is no .npz file; numpy.savez makes one'),
    (lambda path: path.write_bytes(pickle.dumps({'actions': 1})), 'is a pickle, which is never loaded, as it may run any'),
    (lambda path: np.savez(path, infos=np.array([{}])), 'infos is pickled, which is never loaded, as it may run any prog'),
])
def test_a_file_that_is_none_is_refused(write, text, tmp_path):
    path = tmp_path / 'demos.npz'
    write(path)
    with pytest.raises(DemonstrationError, match=re.escape(f'{path}: {text}')):
        load(path)


def test_a_damaged_file_is_refused_wherever_it_is_damaged(slides, tmp_path):
    path = saved(tmp_path / 'demos.npz', slides)
    whole = path.read_bytes()
    for place in range(100, len(whole), 331):
        path.write_bytes(whole[:place])
        with pytest.raises(DemonstrationError, match=r'demos\.npz: is damaged \('):
            load(path)
        path.write_bytes(whole[:place] + bytes(byte ^ 0xff for byte in whole[place:place + 8]) + whole[place + 8:])
        with contextlib.suppress(DemonstrationError):  # Some bytes, such as times, change nothing.
            load(path)


@pytest.mark.parametrize('source', ['runs/demos/bag', 'demos.hdf5', ''])
def test_what_is_no_source_is_told_those_that_are(source):
    with pytest.raises(DemonstrationError, match='cannot be demonstrations of an environment; a file .npz, minari:<dataset id>'):
        load(source)


@pytest.mark.parametrize(('env_id', 'act', 'text'), [
    (SLIDER, raising, 'raised RuntimeError: no weights'), (SLIDER, leaving, 'raised SystemExit: 3'),
    (SLIDER, pair, 'returned tuple, where an action, an array of shape (1,), fits'),
    (SLIDER, flat, 'returned an array of shape (2,), where an action, an array of shape (1,), fits'),
    (SLIDER, tensor, 'returned Tensor, where an action, an array of shape (1,), fits'),
    (SLIDER, far, 'returned an action that does not fit: action[0] is 3.5, 0.5 beyond the bound 3'),
    (SLIDER, endless, 'returned an action that does not fit: action[0] is nan, which is not finite'),
    (CHORDS, half, 'returned an action that does not fit: action[0] is 0.5, which is no whole number'),
    (CHORDS, late, 'returned an action that does not fit: action[1] is 2, 1 beyond the bound 1'),
])
def test_what_an_expert_does_amiss_is_one_line_before_anything_is_written(env_id, act, text, settings, tmp_path):
    result = command('--env', env_id, '--config', settings, '--out', tmp_path / 'run', '--demos', named(act))
    assert isinstance(result.exception, DemonstrationError)
    assert str(result.exception) == f'expert {named(act)!r} {text}'
    assert not (tmp_path / 'run').exists()


def test_a_signal_that_interrupts_an_expert_ends_the_program():
    with pytest.raises(Ended):
        load(named(ended))


def test_an_expert_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=rf"expert '{__name__}:nobody' cannot be had \(AttributeError"):
        load(f'{__name__}:nobody')


def test_numbers_of_any_type_are_an_action():
    assert load(named(in_the_middle))[0].transitions.action.tolist() == 12 * [[0.0]]


def test_the_command_begins_with_files_and_experts_and_counts_their_steps(slides, settings, tmp_path):
    path = saved(tmp_path / 'demos.npz', slides)
    result = command('--env', SLIDER, '--steps', 96, '--config', settings, '--out', tmp_path / 'run', '--demos', path, '--demos',
                     named(to_mark))
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    phases = ('demonstrated', 'exploring', 'running')
    assert [line[:3] for line in lines if line[2:3] and line[2] in phases] == [
        [str(index), str(12 * index + 12), phase] for index, phase in enumerate([*6 * phases[:1], *phases[1:]])]
    assert yaml.safe_load((tmp_path / 'run' / 'config.yaml').read_text())['demos'] == [str(path), named(to_mark)]
    assert (tmp_path / 'run' / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')


def test_a_run_goes_on_without_its_demonstrations_and_takes_no_others(slides, settings, tmp_path):
    words = ['--env', SLIDER, '--config', settings, '--out', tmp_path / 'run']
    path = saved(tmp_path / 'demos.npz', slides)
    assert command(*words, '--demos', path, '--steps', 40).exit_code == 0
    path.unlink()
    result = command(*words, '--resume', '--steps', 60)
    assert result.exit_code == 0 and ' running ' in result.output, result.output
    for source in (path, named(raising)):
        refused = command(*words, '--resume', '--demos', source)
        assert str(refused.exception) == '--demos: the run has its demonstrations already, and --resume goes on with it'
        refused = command(*words, '--demos', source)
        assert 'holds a run already' in str(refused.exception)


def test_a_model_is_learned_of_demonstrations_alone(slides, tmp_path):
    with loop() as made_loop:
        shown = made_loop.load_demonstrations([str(saved(tmp_path / 'demos.npz', slides))], seed=0)
        run = LearningRun(made_loop, seed=0, folder=tmp_path / 'run', shown=shown)
        list(run.episodes(36))
        assert run.rounds.current.version == 1 and run.total_steps == 36


def test_the_curve_of_returns_tells_demonstrations_from_plans(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curve, '_save', lambda figure, path: drawn.append(figure))
    nan = float('nan')
    scores = [EpisodeScore(index, 12 * index + 12, phase, None, nan, float(index), 0, nan, nan, nan, 0)
              for index, phase in enumerate(('demonstrated', 'demonstrated', 'exploring', 'running'))]
    curve.save_return_curve(scores, tmp_path / 'curve.png', title='')
    points = {one.get_label(): one.get_offsets()[:, 1].tolist() for one in drawn[0].axes[0].collections}
    assert points == {'demonstrated': [0.0, 1.0], 'random actions': [2.0], 'planned': [3.0]}


def test_a_reward_that_never_varied_is_told_of_those_too_who_demonstrated(tmp_path):
    with loop(UNPAID) as made_loop:
        shown = made_loop.load_demonstrations([named(to_mark)], seed=0)
        run = LearningRun(made_loop, seed=0, folder=tmp_path / 'run', shown=shown)
        [first] = itertools.islice(run.episodes(999), 1)
    assert first.notes[0].startswith("the reward was -1 in all 36 demonstrated and 12 random steps, so there's nothing to learn")
    assert ', demonstrate steps with another one with --demos, ' in first.notes[0]


def test_the_recorder_of_the_docs_records_what_is_learned_from(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / 'docs' / 'environments.md').read_text(encoding='utf-8')
    [code] = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {'my_module:MyEnv-v0': SPARSE, 'from my_module': f'from {to_goal.__module__}', 'expert': 'to_goal'}
    exec(functools.reduce(lambda text, name: text.replace(name, names[name]), names, code), {})
    shown = load('demos.npz', env_id=SPARSE)
    assert len(shown) == 15 and all(one.success for one in shown)
