"""What a learning run tells beside scores: episodes without a plan, a reward that never varies, long episodes, warnings."""

import contextlib
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import yaml
from support.asserts import some
from typer.testing import CliRunner

from mbrl_ros.cli.main import app
from mbrl_ros.environments.adapter import FlatEnvironment, success_of
from mbrl_ros.errors import PlanningError
from mbrl_ros.runs.comparison_runs import Comparison, compared_runs
from mbrl_ros.runs.env_loop import LEARNED, EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.notes import Notes, require_plans
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_sim import ENVIRONMENTS
from mbrl_sim.tabletop import make_task_world

SLIDER, UNPAID, FAR = (f'tiny_environments:tiny/{name}-v0' for name in ('Slider', 'Unpaid', 'Far'))
SETTINGS = {
    'explorations': 2,
    'planner': {'horizon': 2, 'population_size': 8, 'num_elites': 2, 'num_iterations': 1, 'init_std': 0.5, 'device': 'cpu'},
    'learner': {'min_transitions': 12, 'trainer': {'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 8},
                                                   'max_steps': 10}},
}
CONFIG = EnvLoopConfig.from_mapping(SETTINGS)
REWARD = f'{__name__}:near_reward'


def near_reward(obs, action):
    """A reward that only makes sense near the origin."""
    return torch.where(obs[..., 0].abs() < 500.0, obs[..., 0], math.nan)


@contextlib.contextmanager
def run_in(folder, env_id=SLIDER, *, config=CONFIG, reward=LEARNED, resume=False):
    with contextlib.closing(EnvLoop(FlatEnvironment(env_id), config, reward=reward)) as loop:
        yield LearningRun(loop, seed=1, folder=folder, resume=resume)


def notes_of(folder, env_id, episodes, **arguments):
    """Notes after each of the first episodes of a run."""
    with run_in(folder, env_id, **arguments) as run:
        return [done.notes for done in itertools.islice(run.episodes(9999), episodes)]


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_three_episodes_without_a_plan_are_told_and_end_the_run(tmp_path):
    done = []
    with run_in(tmp_path, FAR, reward=REWARD) as run:
        with pytest.raises(PlanningError, match='^the last 3 episodes had no plan, so the run ends here: none of .* candidates'):
            for one in run.episodes(9999):
                done.append(one)
        assert [score.failed_plans for score in run.board.scores] == [0, 0, 12, 12, 12]
    assert [len(one.notes) for one in done] == [0, 0, 1, 1, 1]
    for index in (2, 3, 4):
        assert done[index].notes[0].startswith(f'episode {index} had no plan: none of ')
        assert not done[index].episode.action.any()  # The middle of the range.
    with run_in(tmp_path, FAR, reward=REWARD, resume=True) as run:
        assert len(run.board.scores) == 5
        with pytest.raises(PlanningError):
            list(run.episodes(9999))
        assert len(run.board.scores) == 6


def test_the_command_ends_with_the_error_after_the_curve(tmp_path):
    settings = tmp_path / 'tiny.yaml'
    settings.write_text(yaml.safe_dump(SETTINGS))
    result = command('learn', '--env', FAR, '--config', settings, '--out', tmp_path / 'run', '--reward', REWARD)
    assert isinstance(result.exception, PlanningError)
    assert result.output.count(' had no plan: ') == 3
    assert result.output.index('episode 4 had no plan: ') < result.output.index('learning curve: ')
    assert (tmp_path / 'run' / 'learning_curve.png').exists()


@pytest.mark.parametrize(('failed', 'told'), [
    (0, ()), (6, ()), (7, ('episode 5 had no plan in 7 of 12 steps: last',)),
    (12, ('episode 5 had no plan: last; after 3 such episodes in a row the run ends',))])
def test_an_episode_is_told_if_most_of_its_plans_failed(failed, told):
    with contextlib.closing(EnvLoop(FlatEnvironment(SLIDER), CONFIG)) as loop:
        played = loop.play(None, seed=0, episode=0)
        episode = dataclasses.replace(played, failures=(*(failed - 1) * ('first',), 'last')[:failed],
                                      plan_s=np.full(12 - failed, 0.01))
        rows = played.transitions(np.arange(12), 0)
        assert Notes(loop).after(5, episode, rows, (), is_last_random=False) == told


def test_only_episodes_in_a_row_end_a_run():
    def score(failed_plans, plan_ms):
        return EpisodeScore(0, 12, 'running', None, math.nan, 0.0, 1, 0.1, plan_ms, plan_ms, 0, failed_plans=failed_plans)

    class Newest:
        failures = ('why',)

    failed, partly, held = score(12, math.nan), score(11, 2.0), score(0, math.nan)
    for scores in ([failed, failed], [failed, failed, partly, failed, failed], [failed, held, failed]):
        require_plans(scores, Newest)
    with pytest.raises(PlanningError, match='why$'):
        require_plans([partly, failed, failed, failed], Newest)


def test_a_reward_that_never_varies_is_told_once_after_the_random_episodes(tmp_path):
    told = notes_of(tmp_path / 'run', UNPAID, 4)
    assert [len(notes) for notes in told] == [0, 1, 0, 0]
    assert told[1][0].startswith("the reward was -1 in all 24 random steps, so there's nothing to learn it from: give one with ")


def test_a_reward_of_goals_is_learned_in_hindsight_and_needs_no_variety(tmp_path):
    with run_in(tmp_path, 'goal_environments:goal/Sparse-v0', reward=LEARNED) as run:
        done = list(itertools.islice(run.episodes(9999), 2))
    assert {value for one in some(done) for value in one.episode.reward} == {-1.0}
    assert all(one.notes == () for one in done)


@pytest.mark.parametrize(('env_id', 'reward'), [
    (SLIDER, LEARNED), (UNPAID, REWARD), ('tiny_environments:tiny/Walled-v0', LEARNED)])
def test_a_reward_that_varies_or_is_given_or_ends_that_can_be_learned_are_not_told(env_id, reward, tmp_path):
    config = dataclasses.replace(CONFIG, explorations=8)
    with run_in(tmp_path, env_id, config=config, reward=reward) as run:
        done = list(itertools.islice(run.episodes(9999), 8))
        assert all(one.notes == () for one in some(done))
        if 'Walled' in env_id:
            assert any(one.episode.terminated for one in done)


def test_an_episode_longer_than_the_steps_that_are_left_is_announced(tmp_path):
    settings = tmp_path / 'tiny.yaml'
    settings.write_text(yaml.safe_dump(SETTINGS))
    with run_in(tmp_path / 'run') as run:
        assert run.foreseen(12) == ()
        line = f'an episode of {SLIDER} has up to 12 steps, so that the run may make more than the 11 asked for'
        assert run.foreseen(11) == (line,)
        list(run.episodes(11))
        assert run.foreseen(12) == () and run.foreseen(24) == ()
        assert run.foreseen(20) == (line.replace('11 asked', '8 that are left of the 20 asked'),)
    result = command('learn', '--env', SLIDER, '--config', settings, '--out', tmp_path / 'other', '--steps', 11)
    assert result.exit_code == 0, result.output
    assert result.output.index(line) < result.output.index('episode   steps')


def test_each_warning_of_a_round_is_told_once(tmp_path):
    with run_in(tmp_path) as run:
        train, given = run.rounds.round, iter([('a',), ('a', 'b'), ('b',), ()])
        run.rounds.round = lambda *rows, **options: dataclasses.replace(train(*rows, **options), warnings=next(given))
        told = [done.notes for done in itertools.islice(run.episodes(9999), 4)]
    assert told == [('a',), ('b',), (), ()]


def test_steps_are_counted_within_episodes(tmp_path):
    counted = []
    with run_in(tmp_path) as run:
        assert [done.score.total_steps for done in run.episodes(20, counted.append)] == [12, 24]
    assert counted == list(range(24))


def test_the_headline_counts_successes_once_episodes_are_planned(tmp_path):
    with run_in(tmp_path) as run:
        lines = [run.headline for _ in run.episodes(36)]
    assert lines[:2] == [SLIDER, SLIDER] and lines[2].startswith(f'{SLIDER}  ') and lines[2].endswith(' of the last 1 succeeded')


def test_runs_of_a_comparison_tell_too(tmp_path):
    comparison = Comparison(('pets',), ('reach',), (0,), 5, tmp_path, make_task_world, ENVIRONMENTS,
                            changes=('max_episode_steps=10',), evaluation_episodes=0)
    lines = []
    compared_runs(comparison, lines.append)
    assert ('pets on reach, seed 0: an episode of reach has up to 10 steps, so that the run may make more than the 5 asked '
            'for') in lines


@pytest.mark.parametrize(('info', 'success'), [
    ({}, None), ({'is_success': True}, True), ({'is_success': np.False_}, False), ({'is_success': np.array(1.0)}, True),
    ({'success': np.array([True])}, True), ({'success': 0.0}, False), ({'success': torch.tensor([True])}, True),
    ({'success': False, 'is_success': True}, True)])
def test_success_is_told_under_either_name(info, success):
    assert success_of(info) is success
