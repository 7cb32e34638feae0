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
from mbrl_ros.runs.comparison import Check, Curve, Run, figures, load_checks, markdown_table, read_run, save_checks
from mbrl_ros.runs.final_evaluation import FinalEvaluation
from mbrl_ros.runs.scores import EpisodeScore, ScoreBoard, ScoreConfig, load_scores
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim import ENVIRONMENTS

HAS_SB3 = importlib.util.find_spec('stable_baselines3') is not None
needs_sb3 = pytest.mark.skipif(not HAS_SB3, reason='stable-baselines3 is not installed; `make compare` has it')
TINY_LOOP = {'max_episode_steps': 10}
TINY_SAC = {'learning_starts': 20, 'batch_size': 8, 'hidden_layers': 1, 'hidden_size': 8}
TINY_ENV = {'explorations': 2, 'max_episode_steps': 5,
            'planner': {'horizon': 2, 'population_size': 8, 'num_elites': 2, 'num_iterations': 1, 'device': 'cpu'},
            'learner': {'min_transitions': 12, 'trainer': {'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 8},
                                                           'max_steps': 10}}}
NAN = float('nan')


def scores_of(successes, steps=10, scripted=0, wall_s=NAN):
    """Scores of episodes of equal length, the first of them scripted, all of which succeed."""
    flags = [*[True] * scripted, *successes]
    return [EpisodeScore(index, steps * (index + 1), 'scripted' if index < scripted else 'running', bool(flag), 0.01, -1.5, 0,
                         NAN, NAN, NAN, 0, wall_s=wall_s) for index, flag in enumerate(flags)]


def run_of(successes, *, task='lift', method='pets', seed=0, checks=(), rate=None, wall_s=3.0, **also):
    evaluation = None if rate is None else FinalEvaluation(rate, 100, 0.2 + 0.1 * seed, 0.4 + 0.2 * seed)
    return Run(task, method, seed, tuple(scores_of(successes, wall_s=wall_s, **also)), tuple(checks), evaluation)


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
    curve = run_of([False] * 5 + [True] * 20, scripted=12).curve
    assert curve.steps[0] == 130 and curve.rate[0] == 0.0
    assert curve.first(0.95) == 10 * (12 + 5 + 19)
    assert curve.rate[-1] == 1.0


def test_episodes_that_are_still_missing_count_as_failed():
    curve = run_of([True] * 30).curve
    np.testing.assert_allclose(curve.rate[:3], [0.05, 0.1, 0.15])
    assert [curve.first(level) for level in (0.5, 0.8, 0.95)] == [100, 160, 190]
    assert curve.rate.max() == 1.0


def test_a_rate_lasts_until_the_next_one():
    curve = Curve(np.array([100, 200]), np.array([0.5, 0.25]))
    assert curve.at(np.array([1, 99, 100, 150, 200, 1000])).tolist() == [0.0, 0.0, 0.5, 0.5, 0.25, 0.25]
    assert curve.first(0.8) is None


def test_evaluations_during_learning_are_the_curve_where_there_are_any():
    run = run_of([False] * 20, checks=[Check(100, 5, 10, 30.0), Check(200, 9, 10, 60.0)])
    assert (run.curve.steps.tolist(), run.curve.rate.tolist(), run.wall_s) == ([100, 200], [0.5, 0.9], 60.0)
    assert run.measured == '10 episodes of evaluation'


def test_the_end_is_the_policy_at_the_end_and_not_the_best_one():
    fallen = [True] * 20 + [False] * 15
    assert run_of(fallen).final_rate == pytest.approx(0.25)
    assert run_of(fallen, rate=0.125).final_rate == 0.125
    assert run_of([], scripted=3).final_rate == 0.0


def test_the_table_gives_median_and_range_and_says_what_was_not_reached():
    runs = [run_of([False] * late + [True] * 20, seed=seed, rate=rate)
            for seed, (late, rate) in enumerate(((0, 1.0), (1, 0.9), (4, 0.95)))]
    runs += [run_of([False] * 20, method='sac')]
    result = figures('panda', runs)
    assert [(row['task'], row['method'], row['seeds']) for row in result['rows']] == [
        ('lift', 'pets', [0, 1, 2]), ('lift', 'sac', [0])]
    assert result['rows'][0]['steps_to'] == {'0.5': [100, 110, 140], '0.8': [160, 170, 200], '0.95': [190, 200, 230]}
    head, rule, *rows = markdown_table(result).splitlines()
    assert rows[0] == ('| lift | pets | 110 (100–140) | 170 (160–200) | 200 (190–230) | 95 [90, 100] | 210 (200–240) | 0, 1, 2 | '
                       '1.1 (1.0–1.2) | 0.3, p99 0.6 |')
    assert rows[1] == '| lift | sac | > 200 | > 200 | > 200 | 0 | 200 | 0 | 1.0 | – |'
    assert head.count('|') == rule.count('|') == rows[0].count('|')


def test_seeds_that_did_not_get_there_are_counted():
    result = figures('panda', [run_of([True] * 20), run_of([False] * 20, seed=1)])
    assert '| 100, 1 of 2 seeds |' in markdown_table(result)


def test_all_tasks_together_have_a_row_for_each_agent_that_ran_all_of_them():
    runs = [run_of([True] * 20, task=task, method=method, seed=seed, rate=rate)
            for task, method, rate in (('lift', 'pets', 0.8), ('lift', 'sac', 0.5), ('reach', 'pets', 0.4)) for seed in (0, 1)]
    result = figures('panda', runs)
    assert [(row['task'], row['method']) for row in result['rows']] == [
        ('lift', 'pets'), ('lift', 'sac'), ('reach', 'pets'), ('all tasks', 'pets')]
    assert markdown_table(result).splitlines()[-1] == '| all tasks | pets | – | – | – | 60 [60, 60] | – | 0, 1 | – | – |'
    assert [curve['method'] for curve in result['estimates'] if curve['task'] == 'all tasks'] == ['pets']


def test_a_curve_over_seeds_ends_with_the_shortest_run():
    runs = [run_of([False, True] * half, seed=seed) for seed, half in enumerate((5, 10))]
    [curve] = figures('panda', runs)['estimates']
    assert curve['steps'] == list(range(0, 101, 10))
    np.testing.assert_allclose(curve['mean'], [0, 0, 0.05, 0.05, 0.1, 0.1, 0.15, 0.15, 0.2, 0.2, 0.25])


def test_looks_are_read_as_they_were_written(tmp_path):
    checks = (Check(100, 5, 10, 30.5), Check(200, 9, 10, 61.0))
    save_checks(tmp_path / 'checks.csv', checks)
    assert load_checks(tmp_path / 'checks.csv') == checks


def test_a_run_says_what_it_is_of_and_takes_as_long_as_its_episodes_or_looks(tmp_path):
    run = read_run(make_folder(tmp_path / 'a', [True] * 3, minutes=3, seed=4))
    assert (run.task, run.method, run.seed) == ('reach', 'pets', 4) and run.wall_s == pytest.approx(180.0)
    looked = read_run(make_folder(tmp_path / 'b', [True], method='SB3 SAC', checks=[Check(10, 1, 1, 7.5)]))
    assert (looked.method, looked.wall_s) == ('SB3 SAC', 7.5)
    assert read_run(make_folder(tmp_path / 'c', [True], settings={'agent': 'mbpo'})).method == 'mbpo'
    assert read_run(make_folder(tmp_path / 'd', [True], task=None, env='Maze-v0')).task == 'Maze-v0'


def test_scores_from_before_wall_times_were_kept_are_read_and_their_minutes_are_a_dash(tmp_path):
    folders = [make_folder(tmp_path / str(seed), [True] * 20, seed=seed) for seed in (0, 1)]
    lines = (folders[0] / 'scores.csv').read_text().splitlines()
    assert lines[0].endswith(',wall_s,held_steps,failed_plans,retraining,follow_s')
    (folders[0] / 'scores.csv').write_text(''.join(f'{line.rsplit(",", 5)[0]}\n' for line in lines))
    runs = [read_run(folder) for folder in folders]
    assert len(runs[0].scores) == 20 and np.isnan(runs[0].wall_s) and runs[1].wall_s == pytest.approx(120.0)
    for some, minutes in ((runs[:1], '–'), (runs, '–'), (runs[::-1], '–'), (runs[1:], '2.0')):
        assert markdown_table(figures('panda', some)).endswith(f' | {minutes} | – |')


@pytest.mark.parametrize(('identity', 'named'), [
    ({'task': 'lift'}, "holds a run of 'lift', needed is 'reach'"),
    ({'robot': 'iiwa'}, 'was learned with robot iiwa, needed is panda'),
    ({'settings': {'control_rate_hz': 40.0, 'max_episode_steps': 50}}, 'was learned with control_rate_hz 40.0, needed is 20.0')])
def test_a_given_run_of_something_else_is_refused(tmp_path, identity, named):
    result = command('--tasks', 'reach', '--runs', make_folder(tmp_path / 'run', [True], **identity), '--out', tmp_path / 'out')
    assert isinstance(result.exception, ConfigError) and named in str(result.exception)
    assert not (tmp_path / 'out').exists()


def test_two_given_runs_of_the_same_agent_task_and_seed_are_refused(tmp_path):
    folders = [make_folder(tmp_path / name, [True]) for name in ('a', 'b')]
    result = command('--runs', *folders, '--out', tmp_path / 'out')
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == f'{folders[1]}: holds the same agent, task and seed as {folders[0]}'


@pytest.mark.parametrize(('words', 'text'), [
    (('--agents', 'pets', 'petz'), "there is no agent 'petz'; did you mean 'pets'?"),
    (('--agents', 'pets', 'dyna_q'), "the agent 'dyna_q' has a table of states and actions"),
    (('--agents', 'nowhere:KIND'), "agent 'nowhere:KIND': 'nowhere' cannot be imported"),
    (('--tasks', 'reach', 'lft'), "no 'lft' in config/tasks; known: lift"),
    (('--tasks', 'reach', '--envs', 'Pendulum-v1'), 'Pendulum-v1 does not tell whether an episode succeeded'),
    (('--methods', 'ppo'), "no method 'ppo'; known: sac, sac-her"),
    (('--tasks', 'lift', '--methods', 'sac', '--set', 'actions=joints'), "needs actions 'twist'"),
    (('--agents', 'pets', 'sac', '--set', 'planner.horizon=9'), "'planner' is a setting of the agent 'pets'"),
    (('--runs', '.'), 'holds no run')])
def test_what_cannot_be_compared_is_refused_before_any_work(tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    result = command(*words)
    assert isinstance(result.exception, ConfigError) and text in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(HAS_SB3, reason='stable-baselines3 is installed')
def test_without_stable_baselines_it_is_said_how_to_get_it_before_anything_is_learned(tmp_path):
    result = command('--methods', 'sac', '--seeds', 0, '--out', tmp_path / 'out')
    assert isinstance(result.exception, ConfigError)
    assert 'is not installed; `make compare ARGS=...` installs it' in str(result.exception)
    assert not (tmp_path / 'out').exists()


def test_hindsight_needs_an_episode_of_warm_up():
    with pytest.raises(ConfigError, match='learning_starts needs 50 or more, the steps of an episode'):
        SacSetup('sac-her', 'reach', ENVIRONMENTS['reach'], 0, 100, TaskLoopConfig.of_task('reach'),
                 SacConfig(learning_starts=49))


def test_the_command_sets_finished_runs_beside_each_other(tmp_path):
    """None is trained, so that nothing needs to be installed; lists follow their options as words."""
    loop = TaskLoopConfig.of_task('reach')
    for method in ('sac', 'sac-her'):
        for seed in (0, 1):
            identity = SacSetup(method, 'reach', ENVIRONMENTS['reach'], seed, 400, loop).identity
            make_folder(tmp_path / 'out' / 'reach' / f'sb3-{method}-{seed}', [False] * 40, checks=[Check(400, 15, 20, 90.0)],
                        **identity)
    given = [make_folder(tmp_path / f'reach-{seed}', [True] * 25, seed=seed) for seed in (0, 1)]
    words = ('--runs', *given, '--methods', 'sac', 'sac-her', '--seeds', 0, 1, '--sac-steps', 400, '--out', tmp_path / 'out')
    result = command(*words, '--markdown')
    assert result.exit_code == 0, result.output
    assert '| reach | pets | 100 | 160 | 190 | 100 [100, 100] | 250 | 0, 1 | 2.0 | – |' in result.output
    assert '| reach | SB3 SAC + HER | 400 | > 400 | > 400 | 75 [75, 75] | 400 | 0, 1 | 1.5 | – |' in result.output
    written = json.loads((tmp_path / 'out' / 'comparison.json').read_text())
    assert [row['method'] for row in written['rows']] == ['pets', 'SB3 SAC', 'SB3 SAC + HER']
    with (tmp_path / 'out' / 'curves.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 25 + 4 * 1
    pixels = np.asarray(Image.open(tmp_path / 'out' / 'comparison.png').convert('RGB'))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    other = command(*words, '--sac-steps', 500)
    assert isinstance(other.exception, ConfigError)
    assert str(other.exception).endswith('sb3-sac-0: holds a run with another steps; name another folder by --out')


def test_agents_are_trained_and_evaluated_once_and_go_on_where_more_steps_are_asked_for(tmp_path):
    """The same algorithm under two names learns the same; an agent of one's own is named by its module."""
    (tmp_path / 'slider.yaml').write_text(yaml.safe_dump(TINY_ENV))
    out, own = tmp_path / 'out', 'mbrl_ros.agents.pets:KIND'
    words = ('--envs', 'tiny_environments:tiny/Slider-v0', '--config', tmp_path / 'slider.yaml', '--out', out, '--seeds', 3)
    result = command(*words, '--agents', 'pets', own, '--steps', 20, '--evaluation-episodes', 2)
    assert result.exit_code == 0, result.output
    folder = out / 'tiny-Slider-v0'
    assert {path.name for path in folder.iterdir()} == {'pets-3', 'pets-3.json', 'mbrl_ros.agents.pets.KIND-3',
                                                        'mbrl_ros.agents.pets.KIND-3.json'}
    first, second = json.loads((out / 'comparison.json').read_text())['runs']
    assert (first['method'], second['method']) == ('pets', own)
    assert first['steps'] == second['steps'] and first['success_rate'] == second['success_rate']
    assert first['evaluation']['episodes'] == 2
    assert 0 < first['evaluation']['action_ms_p50'] <= first['evaluation']['action_ms_p99']

    def stamps():
        return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob('*')) if path.is_file()}

    before = stamps()
    again = command(*words, '--agents', 'pets', own, '--steps', 20, '--evaluation-episodes', 2)
    assert again.exit_code == 0 and 'success over real control steps' in again.output
    assert 'learning …' not in again.output and stamps() == before
    more = command(*words, '--agents', 'pets', '--steps', 30, '--evaluation-episodes', 0)
    assert more.exit_code == 0 and 'pets on tiny_environments:tiny/Slider-v0, seed 3: learning' in more.output.replace('\n', ' ')
    [row] = json.loads((out / 'comparison.json').read_text())['rows']
    assert row['steps'] == [30] and row['action_ms_p50'] == []
    other = command(*words, '--agents', 'pets', '--set', 'explorations=1')
    assert 'holds a run with other settings: explorations (2 there, 1 here)' in str(other.exception)


@needs_sb3
@pytest.mark.parametrize('method', ['sac', 'sac-her'])
def test_a_model_free_run_is_trained_once_and_leaves_what_is_read(tmp_path, method):
    setup = SacSetup(method, 'reach', ENVIRONMENTS['reach'], 1, 60, TaskLoopConfig.from_mapping(TINY_LOOP),
                     SacConfig.from_mapping(TINY_SAC), check_every=30, check_episodes=2)
    told = []
    folder = ensure_run(setup, tmp_path, told.append)
    assert {path.name for path in folder.iterdir()} == {'config.yaml', 'scores.csv', 'checks.csv', 'policy.zip', 'normalizer.pkl'}
    run = read_run(folder)
    assert (run.method, run.seed, run.steps) == (setup.name, 1, 60)
    assert [score.phase for score in run.scores] == ['exploring'] * 2 + ['running'] * 4
    assert [(check.steps, check.episodes) for check in run.checks] == [(30, 2), (60, 2)]
    assert 0.0 < sum(score.wall_s for score in run.scores) <= run.wall_s
    assert tuple(told) == run.checks
    before = (folder / 'scores.csv').stat().st_mtime_ns
    assert ensure_run(setup, tmp_path) == folder and (folder / 'scores.csv').stat().st_mtime_ns == before


@needs_sb3
def test_the_command_learns_what_is_missing(tmp_path):
    loop, sac = tiny(tmp_path)
    words = ('--config', loop, '--sac-config', sac, '--seeds', 0, '--methods', 'sac-her', '--sac-steps', 40,
             '--check-every', 40, '--check-episodes', 1, '--steps', 20, '--evaluation-episodes', 0, '--out', tmp_path / 'out')
    result = command(*words)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'reach', 'comparison.json', 'curves.csv', 'comparison.png'}
    assert {path.name for path in (tmp_path / 'out' / 'reach').iterdir()} == {'pets-0', 'sb3-sac-her-0'}
