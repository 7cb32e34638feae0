"""Rounds of training within an episode: when they happen, from which experience, and that a run with them can be resumed."""

import contextlib
import dataclasses
import itertools
import math

import numpy as np
import pytest
from support.asserts import some

from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.runs.env_loop import LEARNED, EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.types import Tag

LONG = 'tiny_environments:tiny/Long-v0'
CONFIG = EnvLoopConfig.from_mapping({
    'explorations': 1, 'steps_per_round': 15,
    'planner': {'horizon': 3, 'population_size': 24, 'num_elites': 4, 'num_iterations': 2, 'init_std': 0.5, 'device': 'cpu'},
    'learner': {'min_transitions': 20, 'acceptance': {'rmse_tolerance': 1.0, 'rmse_floor': 0.5, 'nll_tolerance': 50.0},
                'trainer': {'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 16}, 'max_steps': 60}}})
TIMES = {'plan_ms_p50': None, 'plan_ms_p99': None, 'wall_s': None}


@contextlib.contextmanager
def run_in(folder, *, config=CONFIG, resume=False):
    """A run, and what each of its rounds was given: index of the round, newest whole episode, experience, version after it."""
    with contextlib.closing(EnvLoop(FlatEnvironment(LONG), config, reward=LEARNED)) as loop:
        run, given = LearningRun(loop, seed=5, folder=folder, resume=resume), []
        make = run.rounds.round

        def watched(rows, **options):
            report = make(rows, **options)
            given.append((options['round_index'], options['episode'], rows, report.model_version))
            return report

        run.rounds.round = watched
        yield run, given


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp('learned') / 'run'
    with run_in(folder) as (run, given):
        done = list(run.episodes(120))
    return folder, done, given


def test_rounds_within_an_episode_learn_from_its_steps_so_far(learned):
    _, done, given = learned
    assert [score.phase for score in (one.score for one in done)] == ['exploring', 'running', 'running']
    assert [len(rows) for _, _, rows, _ in given] == [40, 55, 70, 80, 95, 110, 120]
    assert [episode for _, episode, _, _ in given] == [0, 0, 0, 1, 1, 1, 2]
    indices = [index for index, *_ in given]
    assert len(set(indices)) == len(indices) and [indices[0], indices[3], indices[6]] == [0, 1, 2]
    whole = given[-1][2]
    for _, _, rows, _ in some(given):
        for name, values in rows.columns().items():
            np.testing.assert_array_equal(values, whole.columns()[name][:len(rows)])


def test_the_agent_acts_with_the_newest_model_and_the_score_has_the_last_one_of_the_episode(learned):
    _, done, given = learned
    versions = [version for *_, version in given]
    assert versions[1] > versions[0]  # A round within an episode was accepted.
    assert [one.score.model_version for one in done] == [0, versions[2], versions[5]]
    without = dataclasses.replace(CONFIG, steps_per_round=0)
    with contextlib.closing(EnvLoop(FlatEnvironment(LONG), without, reward=LEARNED)) as loop, \
            contextlib.closing(EnvLoop(FlatEnvironment(LONG), CONFIG, reward=LEARNED)) as other:
        assert loop.steps_per_round == 0 and other.steps_per_round == 15


def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted(learned, tmp_path):
    folder, done, _ = learned
    with run_in(tmp_path / 'run') as (run, _):
        list(itertools.islice(run.episodes(120), 2))
    with run_in(tmp_path / 'run', resume=True) as (run, given):
        [last] = run.episodes(120)
    assert len(given) == 3
    np.testing.assert_array_equal(last.episode.action, done[-1].episode.action)
    np.testing.assert_equal(*([dataclasses.asdict(dataclasses.replace(one, **TIMES)) for one in scores]
                              for scores in (run.board.scores, [one.score for one in done])))
    assert (tmp_path / 'run' / 'model.safetensors').read_bytes() == (folder / 'model.safetensors').read_bytes()


def test_the_episode_changes_with_the_model_only_after_the_first_round_within_it(learned, tmp_path):
    _, done, _ = learned
    with run_in(tmp_path / 'run', config=dataclasses.replace(CONFIG, steps_per_round=0)) as (run, given):
        plain = list(itertools.islice(run.episodes(120), 2))
    assert len(given) == 2
    actions = [one[1].episode.action[:, 0] for one in (done, plain)]
    np.testing.assert_array_equal(actions[0][:15], actions[1][:15])
    assert not np.array_equal(actions[0][15:], actions[1][15:])


def test_without_random_episodes_chance_acts_until_the_first_model(tmp_path):
    with run_in(tmp_path / 'run', config=dataclasses.replace(CONFIG, explorations=0)) as (run, given):
        [done] = itertools.islice(run.episodes(40), 1)
    # 15 transitions are too few for a model.
    assert [version > 0 for *_, version in given] == [False, True, True]
    assert done.episode.tags.tolist() == 30 * [Tag.EXPLORED] + 10 * [0]
    assert len(done.episode.plan_s) == 10
    assert (done.score.phase, done.score.model_version) == ('running', given[1][3])
    assert not math.isnan(done.score.plan_ms_p50)
