"""Comparing learning curves: how success is counted, what the table says, which folders are taken and which are refused."""

import csv
import importlib.util
import json

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from mbrl_ros.cli.main import app
from mbrl_ros.errors import ConfigError
from mbrl_ros.runs.baselines.sac import SacConfig, SacSetup, ensure_run
from mbrl_ros.runs.comparison import Check, Curve, Run, curves_of, figures, load_checks, markdown_table, read_run, save_checks
from mbrl_ros.runs.scores import EpisodeScore, ScoreBoard, ScoreConfig, load_scores
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim import ENVIRONMENTS

HAS_SB3 = importlib.util.find_spec('stable_baselines3') is not None
needs_sb3 = pytest.mark.skipif(not HAS_SB3, reason='stable-baselines3 is not installed; `make compare` has it')
TINY_LOOP = {'max_episode_steps': 10}
TINY_SAC = {'learning_starts': 20, 'batch_size': 8, 'hidden_layers': 1, 'hidden_size': 8}
NAN = float('nan')


def scores_of(successes, steps=10, scripted=0, wall_s=NAN):
    """Scores of episodes of equal length, the first of them scripted, all of which succeed."""
    flags = [*[True] * scripted, *successes]
    return [EpisodeScore(index, steps * (index + 1), 'scripted' if index < scripted else 'running', bool(flag), 0.01, -1.5, 0,
                         NAN, NAN, NAN, 0, wall_s=wall_s) for index, flag in enumerate(flags)]


def run_of(successes, *, method='mbrl_ros', seed=0, checks=(), **also):
    return Run(method, seed, tuple(scores_of(successes, **also)), tuple(checks), 60.0)


def make_folder(folder, successes, *, task='reach', robot='panda', seed=0, checks=(), minutes=2, **identity):
    """A run's folder as learning leaves it."""
    folder.mkdir(parents=True)
    settings = {'control_rate_hz': 20.0, 'max_episode_steps': 50}
    (folder / 'config.yaml').write_text(yaml.safe_dump({'task': task, 'robot': robot, 'seed': seed, 'settings': settings,
                                                        **identity}))
    board = ScoreBoard(ScoreConfig(), folder / 'scores.csv')
    for score in scores_of(successes, wall_s=60 * minutes / len(successes)):
        board.add(score)
    board.save()
    if checks:
        save_checks(folder / 'checks.csv', checks)
    return folder


def command(*words):
    return CliRunner().invoke(app, ['compare', *map(str, words)])


def tiny(tmp_path):
    """Files of tiny settings: of the task, and of Soft Actor-Critic."""
    paths = tmp_path / 'loop.yaml', tmp_path / 'sac.yaml'
    for path, values in zip(paths, (TINY_LOOP, TINY_SAC)):
        path.write_text(yaml.safe_dump(values))
    return paths


def test_scores_are_read_as_they_were_written(tmp_path):
    scores = scores_of([True, False], scripted=1)
    board = ScoreBoard(ScoreConfig(), tmp_path / 'scores.csv', scores)
    board.save()
    np.testing.assert_equal([vars(score) for score in load_scores(tmp_path / 'scores.csv')], [vars(score) for score in scores])
    text = (tmp_path / 'scores.csv').read_text()
    (tmp_path / 'scores.csv').write_text(text.replace('True', 'perhaps'))
    with pytest.raises(ConfigError, match=r'scores\.csv: cannot be read as scores'):
        load_scores(tmp_path / 'scores.csv')


def test_what_was_shown_counts_as_steps_and_not_as_success():
    [curve] = curves_of(run_of([False] * 5 + [True] * 20, scripted=12))
    assert curve.steps[0] == 130 and curve.rate[0] == 0.0
    assert curve.first(0.95) == 10 * (12 + 5 + 19)
    assert curve.rate[-1] == 1.0


def test_episodes_that_are_still_missing_count_as_failed():
    [curve] = curves_of(run_of([True] * 30))
    np.testing.assert_allclose(curve.rate[:3], [0.05, 0.1, 0.15])
    assert [curve.first(level) for level in (0.5, 0.8, 0.95)] == [100, 160, 190]
    assert curve.rate.max() == 1.0


def test_a_rate_lasts_until_the_next_one():
    curve = Curve('SAC', 'looks', 0, np.array([100, 200]), np.array([0.5, 0.25]), 0.0)
    assert curve.at(np.array([1, 99, 100, 150, 200, 1000])).tolist() == [0.0, 0.0, 0.5, 0.5, 0.25, 0.25]
    assert curve.first(0.8) is None


def test_the_table_gives_median_and_range_and_says_what_was_not_reached():
    checks = [Check(100, 5, 10, 30.0), Check(200, 9, 10, 60.0)]
    runs = [run_of([False] * late + [True] * 20, seed=seed) for seed, late in enumerate((0, 1, 4))]
    runs += [run_of([False] * 20, method='SAC', checks=checks), run_of([False] * 20, method='SAC', seed=1)]
    result = figures('lift', 'panda', runs)
    assert [(row['method'], row['measured'], row['seeds']) for row in result['rows']] == [
        ('mbrl_ros', 'last 20 episodes', [0, 1, 2]), ('SAC', 'last 20 episodes', [0, 1]),
        ('SAC', '10 episodes without noise', [0])]
    assert result['rows'][0]['steps_to'] == {'0.5': [100, 110, 140], '0.8': [160, 170, 200], '0.95': [190, 200, 230]}
    lines = markdown_table(result).splitlines()
    assert '| 110 (100–140) | 170 (160–200) | 200 (190–230) | 100 | 210 (200–240) | 0, 1, 2 | 1.0 |' in lines[2]
    assert '| not within 200 | not within 200 | not within 200 | 0 |' in lines[3]
    assert '| 100 | 200 | not within 200 | 90 |' in lines[4]


def test_seeds_that_did_not_get_there_are_counted():
    result = figures('lift', 'panda', [run_of([True] * 20), run_of([False] * 20, seed=1)])
    assert '| 100, 1 of 2 seeds |' in markdown_table(result)


def test_looks_are_read_as_they_were_written(tmp_path):
    checks = (Check(100, 5, 10, 30.5), Check(200, 9, 10, 61.0))
    save_checks(tmp_path / 'checks.csv', checks)
    assert load_checks(tmp_path / 'checks.csv') == checks


def test_a_run_takes_as_long_as_its_episodes_or_as_its_looks_say(tmp_path):
    assert read_run(make_folder(tmp_path / 'a', [True] * 3, minutes=3), 'reach', 'panda').wall_s == pytest.approx(180.0)
    looked = read_run(make_folder(tmp_path / 'b', [True], method='SAC', checks=[Check(10, 1, 1, 7.5)]), 'reach', 'panda')
    assert (looked.method, looked.wall_s) == ('SAC', 7.5)


def test_scores_from_before_wall_times_were_kept_are_read_and_their_minutes_are_a_dash(tmp_path):
    folders = [make_folder(tmp_path / str(seed), [True] * 20, seed=seed) for seed in (0, 1)]
    lines = (folders[0] / 'scores.csv').read_text().splitlines()
    assert lines[0].endswith(',wall_s,held_steps,failed_plans')
    (folders[0] / 'scores.csv').write_text(''.join(f'{line.rsplit(",", 3)[0]}\n' for line in lines))
    runs = [read_run(folder, 'reach', 'panda') for folder in folders]
    assert len(runs[0].scores) == 20 and np.isnan(runs[0].wall_s) and runs[1].wall_s == pytest.approx(120.0)
    for some, minutes in ((runs[:1], '–'), (runs, '–'), (runs[::-1], '–'), (runs[1:], '2.0')):
        assert markdown_table(figures('reach', 'panda', some)).endswith(f' | {minutes} |')


@pytest.mark.parametrize(('identity', 'named'), [({'task': 'lift'}, "run of task 'lift', needed is 'reach'"),
                                                 ({'robot': 'iiwa'}, "run of robot 'iiwa', needed is 'panda'")])
def test_another_tasks_or_robots_run_is_refused(tmp_path, identity, named):
    result = command('--task', 'reach', '--ours', make_folder(tmp_path / 'run', [True], **identity), '--out', tmp_path / 'out')
    assert isinstance(result.exception, ConfigError) and named in str(result.exception)
    assert not (tmp_path / 'out').exists()


def test_a_run_of_other_episodes_is_refused(tmp_path):
    run = make_folder(tmp_path / 'run', [True], settings={'control_rate_hz': 40.0, 'max_episode_steps': 50})
    result = command('--task', 'reach', '--ours', run, '--out', tmp_path / 'out')
    assert isinstance(result.exception, ConfigError)
    assert 'run: was learned with control_rate_hz 40.0, needed is 20.0; give the settings' in str(result.exception)


def test_actions_that_the_environments_do_not_have_are_refused(tmp_path):
    (tmp_path / 'lift.yaml').write_text(yaml.safe_dump({'actions': 'joints'}))
    result = command('--task', 'lift', '--config', tmp_path / 'lift.yaml', '--out', tmp_path / 'out')
    assert isinstance(result.exception, ConfigError) and "needs actions 'twist'" in str(result.exception)


def test_a_folder_without_a_run_is_refused(tmp_path):
    result = command('--task', 'reach', '--ours', tmp_path, '--out', tmp_path / 'out')
    assert isinstance(result.exception, ConfigError) and 'holds no run' in str(result.exception)


def test_unknown_tasks_and_methods_are_refused_with_the_known_ones(tmp_path):
    for option, value, text in (('--task', 'lft', "no 'lft' in config/tasks; known: lift"),
                                ('--methods', 'ppo', "no method 'ppo'; known: sac, sac-her")):
        result = command(option, value, '--out', tmp_path / 'out')
        assert isinstance(result.exception, ConfigError) and text in str(result.exception)


@pytest.mark.skipif(HAS_SB3, reason='stable-baselines3 is installed')
def test_without_stable_baselines_it_is_said_how_to_get_it_before_anything_is_learned(tmp_path):
    result = command('--task', 'reach', '--seeds', 0, '--out', tmp_path / 'out')
    assert isinstance(result.exception, ConfigError)
    assert 'is not installed; `make compare ARGS=...` installs it' in str(result.exception)
    assert not (tmp_path / 'out').exists()


def test_hindsight_needs_an_episode_of_warm_up():
    with pytest.raises(ConfigError, match='learning_starts needs 50 or more, the steps of an episode'):
        SacSetup('SAC + HER', 'reach', ENVIRONMENTS['reach'], 0, 100, TaskLoopConfig.of_task('reach'),
                 SacConfig(learning_starts=49))


def test_the_command_sets_finished_runs_beside_each_other(tmp_path):
    """None is trained, so that nothing needs to be installed; lists follow their options as words."""
    loop = TaskLoopConfig.of_task('reach')
    for method, name in (('SAC', 'sac'), ('SAC + HER', 'sac-her')):
        for seed in (0, 1):
            identity = SacSetup(method, 'reach', ENVIRONMENTS['reach'], seed, 400, loop).identity
            make_folder(tmp_path / 'out' / f'{name}-{seed}', [False] * 30 + [True] * 10, checks=[Check(400, 15, 20, 90.0)],
                        **identity)
    ours = [make_folder(tmp_path / f'reach-{seed}', [True] * 25, seed=seed) for seed in (0, 1)]
    words = ('--task', 'reach', '--ours', *ours, '--seeds', 0, 1, '--sac-steps', 400, '--out', tmp_path / 'out')
    result = command(*words, '--markdown')
    assert result.exit_code == 0, result.output
    assert '| mbrl_ros | last 20 episodes | 100 | 160 | 190 | 100 | 250 | 0, 1 | 2.0 |' in result.output
    assert '| SAC + HER | last 20 episodes | 400 | not within 400 | not within 400 | 50 | 400 | 0, 1 | 1.5 |' in result.output
    assert 'real control steps to a success rate' in command(*words).output
    written = json.loads((tmp_path / 'out' / 'comparison.json').read_text())
    assert {row['method'] for row in written['rows']} == {'mbrl_ros', 'SAC', 'SAC + HER'}
    with (tmp_path / 'out' / 'curves.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 25 + 4 * 40 + 4 * 1
    pixels = np.asarray(Image.open(tmp_path / 'out' / 'comparison.png').convert('RGB'))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    other = command(*words, '--sac-steps', 500)
    assert isinstance(other.exception, ConfigError)
    assert str(other.exception).endswith('sac-0: holds a run with another steps; name another folder by --out')


@needs_sb3
@pytest.mark.parametrize('method', ['SAC', 'SAC + HER'])
def test_a_model_free_run_is_trained_once_and_leaves_what_is_read(tmp_path, method):
    setup = SacSetup(method, 'reach', ENVIRONMENTS['reach'], 1, 60, TaskLoopConfig.from_mapping(TINY_LOOP),
                     SacConfig.from_mapping(TINY_SAC), check_every=30, check_episodes=2)
    told = []
    folder = ensure_run(setup, tmp_path, told.append)
    assert {path.name for path in folder.iterdir()} == {'config.yaml', 'scores.csv', 'checks.csv', 'policy.zip', 'normalizer.pkl'}
    run = read_run(folder, 'reach', 'panda')
    assert (run.method, run.seed, run.scores[-1].total_steps) == (method, 1, 60)
    assert [score.phase for score in run.scores] == ['exploring'] * 2 + ['running'] * 4
    assert [(check.steps, check.episodes) for check in run.checks] == [(30, 2), (60, 2)]
    assert 0.0 < sum(score.wall_s for score in run.scores) <= run.wall_s
    assert tuple(told) == run.checks
    before = (folder / 'scores.csv').stat().st_mtime_ns
    assert ensure_run(setup, tmp_path) == folder and (folder / 'scores.csv').stat().st_mtime_ns == before


@needs_sb3
def test_the_command_learns_what_is_missing(tmp_path):
    loop, sac = tiny(tmp_path)
    words = ('--task', 'reach', '--config', loop, '--sac-config', sac, '--seeds', 0, '--methods', 'sac-her', '--sac-steps', 40,
             '--check-every', 40, '--check-episodes', 1, '--steps', 20, '--out', tmp_path / 'out')
    result = command(*words)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'mbrl_ros-0', 'sac-her-0', 'comparison.json', 'curves.csv', 'comparison.png'}
