"""A goal is no dynamics: the environment's reward of goals is planned with, or a reward is learned of many goals at once."""

import contextlib
import dataclasses
import itertools

import numpy as np
import pytest
import torch

from mbrl_ros.environments.adapter import FlatEnvironment, has_goals
from mbrl_ros.environments.functions import load_features
from mbrl_ros.environments.goals import RewardOfGoals
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.runs.env_loop import BUILT_IN, ENVIRONMENT, LEARNED, EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.playing import EVALUATION
from mbrl_ros.runs.playing import LEARNING as STREAM
from mbrl_ros.spaces.frame import imagined_transitions, inner_sizes
from mbrl_ros.spaces.outcome import Goals, OutcomeFrame, features_name

ACHIEVED, DESIRED = np.array([0, 1]), np.array([2, 3])
CONFIG = EnvLoopConfig.from_mapping({
    'explorations': 3,
    'planner': {'horizon': 5, 'population_size': 48, 'num_elites': 6, 'num_iterations': 2, 'init_std': 0.5, 'device': 'cpu'},
    'learner': {'min_transitions': 20, 'imagined_share': 1.0,
                'acceptance': {'rmse_tolerance': 1.0, 'rmse_floor': 0.5, 'nll_tolerance': 50.0},
                'trainer': {'ensemble': {'hidden_layers': 1, 'hidden_size': 16}, 'max_steps': 150, 'learning_rate': 0.01}},
})


def made(name):
    return contextlib.closing(FlatEnvironment(f'goal_environments:goal/{name}-v0'))


def loop(name, config=CONFIG, **arguments):
    return contextlib.closing(EnvLoop(FlatEnvironment(f'goal_environments:goal/{name}-v0'), config, **arguments))


def offsets(obs):
    """Features of a point: where it is from the goal."""
    return obs[..., 2:4] - obs[..., 0:2]


def growing(obs):
    """As many features as there are observations."""
    return obs[..., :1].expand(*obs.shape[:-1], obs.shape[0])


def flat(obs):
    return obs.sum()


def endless(obs):
    return obs / 0.0


def test_entries_of_goals_are_known():
    with made('Sparse') as env:
        assert env.obs_names == ('obs.achieved_goal[0]', 'obs.achieved_goal[1]', 'obs.desired_goal[0]', 'obs.desired_goal[1]',
                                 'obs.observation[0]')
        assert (np.flatnonzero(env.is_achieved).tolist(), np.flatnonzero(env.is_goal).tolist()) == ([0, 1], [2, 3])


@pytest.mark.parametrize(('name', 'default'), [
    ('Sparse', ENVIRONMENT), ('Dense', ENVIRONMENT), ('Elsewhere', LEARNED), ('OneByOne', LEARNED), ('Plain', LEARNED)])
def test_the_environments_reward_of_goals_is_the_default_where_it_agrees(name, default):
    with loop(name) as made_loop:
        assert made_loop.contract.reward == default
        assert ('reward' in made_loop.contract.state_names) == (default == LEARNED)


@pytest.mark.parametrize(('name', 'text'), [
    ('Elsewhere', 'has no compute_reward.* that agrees with the rewards of its steps'),
    ('Plain', 'has no compute_reward'), ('Keys', 'has no goals to compute rewards of')])
def test_a_reward_of_goals_that_is_not_there_is_refused(name, text):
    with pytest.raises(ConfigError, match=text):
        EnvLoop(FlatEnvironment(f'goal_environments:goal/{name}-v0'), CONFIG, reward=ENVIRONMENT)


def test_a_sparse_reward_is_guided_and_a_dense_one_is_not():
    near = torch.tensor([[0.5, 0.5, 0.5, 0.55, 1.0]])
    far = torch.tensor([[[0.0, 0.0, 0.5, 0.5, 1.0]], [[1.0, 1.0, 0.5, 0.5, 1.0]]])
    with made('Sparse') as env:
        sparse = RewardOfGoals(env)
        assert sparse.is_sparse
        assert sparse(near).shape == (1,) and sparse(far).shape == (2, 1)
        assert -0.05 < sparse(near) < 0.0
        assert (sparse(far) < -1.0).all() and (sparse(far) > -2.0).all()
        assert sparse.of_step(far[:, 0]).tolist() == [-1.0, -1.0]
    with made('Dense') as env:
        dense = RewardOfGoals(env)
        assert not dense.is_sparse
        np.testing.assert_allclose(dense(far)[:, 0], -np.sqrt(0.5), rtol=1e-6)


def frame(**arguments):
    return OutcomeFrame(5, goals=Goals(ACHIEVED, DESIRED, reward=lambda obs: obs[:, 2]), **arguments)


def test_no_action_changes_a_goal_and_only_a_learned_reward_depends_on_it():
    obs, action = torch.arange(7.0).expand(3, 7), torch.ones(3, 2)
    given, learned = frame(is_reward_learned=False), frame(is_reward_learned=True)
    assert given.encode(obs[:, :6], action)[0][0].tolist() == [0.0, 1.0, 0.0, 0.0, 4.0, 0.0]
    assert learned.encode(obs, action)[0][0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0]
    assert learned.change(obs, obs + 1.0)[0].tolist() == [1.0, 1.0, 0.0, 0.0, 1.0, 6.0, 7.0]
    assert learned.moved(obs, torch.ones(3, 7))[0, :5].tolist() == [1.0, 2.0, 2.0, 3.0, 5.0]


def test_closeness_to_a_known_effector_is_a_further_input():
    goals = Goals(np.array([0, 1]), np.array([2, 3]), np.array([4, 5]))
    apart, at_it = torch.tensor([0.3, 0.4, 9.0, 9.0, 0.0, 0.0, 0.0]), torch.zeros(7)
    encode = OutcomeFrame(6, is_reward_learned=False, goals=goals).encode
    _, inputs = encode(torch.stack([apart, at_it]), torch.ones(2, 2))
    np.testing.assert_allclose(inputs[0], [1.0, 1.0, 0.3, 0.4, np.log(0.5)], atol=3e-3)
    assert torch.isfinite(inputs).all() and inputs[1, -1] < inputs[0, -1]
    without = OutcomeFrame(6, is_reward_learned=False, goals=dataclasses.replace(goals, effector=None))
    assert without.encode(apart, torch.ones(2))[1].tolist() == [1.0, 1.0]


def test_a_distance_between_entries_allows_no_origins_of_their_own():
    goals = Goals(np.array([0, 1]), np.array([2, 3]))
    assert OutcomeFrame(6, is_reward_learned=False, goals=goals).is_shiftable
    known = dataclasses.replace(goals, effector=np.array([4, 5]))
    assert not OutcomeFrame(6, is_reward_learned=False, goals=known).is_shiftable


def test_detours_are_held_and_only_learning_makes_them():
    actions = {}
    for detours in (0.0, 1.0):
        with loop('Dense', dataclasses.replace(CONFIG, detours=detours)) as made_loop:
            sizes = inner_sizes(made_loop.space.frame, made_loop.contract.obs_size, made_loop.contract.action_size)
            agent = made_loop.agent.with_parameters(stand_in(*sizes, EnsembleConfig(hidden_layers=1, hidden_size=16)))
            for stream in (STREAM, EVALUATION, STREAM):
                played = made_loop.play(agent, seed=0, episode=0, stream=stream).action
                np.testing.assert_array_equal(actions.setdefault((detours, stream), played), played)
    np.testing.assert_array_equal(actions[0.0, EVALUATION], actions[1.0, EVALUATION])
    planned, random = actions[0.0, STREAM], actions[1.0, STREAM]
    assert len(random) == 10 and 2 <= len(np.unique(random, axis=0)) < 10
    assert not np.isin(random, planned).any()


def test_settings_for_goals_come_before_the_default_ones():
    with_goals, without = (EnvLoopConfig.of_env('goal_environments:goal/Some-v0', has_goals=told) for told in (True, False))
    assert with_goals.planner.propagation == 'expectation' and without.planner.propagation == 'tsinf'
    assert with_goals.learner.trainer == without.learner.trainer and with_goals.learner.imitation.max_steps > 0


def test_goals_are_seen_by_the_names_of_entries():
    with made('Sparse') as with_goals, made('Keys') as without:
        assert has_goals(with_goals.obs_names) and not has_goals(without.obs_names)
    names = ('obs.observation[0]', 'obs.achieved_goal.x[0]', 'obs.desired_goals[0]')
    assert not has_goals(names) and has_goals((*names, 'obs.desired_goal.x[0]'))


def test_a_learned_reward_is_relabelled_in_hindsight():
    rng = np.random.default_rng(0)
    obs, next_obs, action = rng.normal(size=(40, 7)), rng.normal(size=(40, 7)), rng.normal(size=(40, 2))
    next_obs[:, DESIRED] = obs[:, DESIRED]
    seen, _, reached = imagined_transitions(frame(is_reward_learned=True), obs, action, next_obs, number=40, seed=0)
    goals = seen[:, DESIRED]
    assert len(seen) == 40 and not np.isin(goals, obs[:, DESIRED]).any()
    np.testing.assert_allclose(reached[:, DESIRED], goals)
    # The trainer's difference for an outcome is its value, here the goal's first entry.
    np.testing.assert_allclose(reached[:, 5], goals[:, 0])
    own = next_obs[:, ACHIEVED]
    assert np.isin(goals, own).all() and sum((row == own).all(axis=1).any() for row in goals) >= 20
    assert imagined_transitions(frame(is_reward_learned=False), obs[:, :6], action, next_obs[:, :6], number=40, seed=0) is None


@pytest.mark.parametrize('name', ['Sparse', 'Dense', 'Plain'])
def test_goals_are_learned_to_be_reached(name, tmp_path):
    trainer = dataclasses.replace(CONFIG.learner.trainer, max_steps=400)
    trainer = dataclasses.replace(trainer, ensemble=dataclasses.replace(trainer.ensemble, hidden_size=48))
    config = dataclasses.replace(CONFIG, explorations=20, learner=dataclasses.replace(CONFIG.learner, trainer=trainer))
    with loop(name, config if name == 'Plain' else CONFIG) as made_loop:
        run = LearningRun(made_loop, seed=0, folder=tmp_path / 'run')
        done = list(itertools.islice(run.episodes(400), made_loop.config.explorations + 10))
    last = [np.linalg.norm(progress.episode.obs[-1, ACHIEVED] - progress.episode.obs[-1, DESIRED]) for progress in done[-6:]]
    print(name, np.median(last))
    assert np.median(last) < (0.45 if name == 'Plain' else 0.15)  # Random motion ends at 0.85.


def test_an_episode_that_begins_at_its_goal_is_known():
    with loop('Sparse') as sparse, loop('Dense') as dense:
        episode = sparse.play(None, seed=0, episode=0)
        assert episode.began_at_goal is False
        assert dense.play(None, seed=0, episode=0).began_at_goal is None
        at_goal = episode.obs[0].copy()
        at_goal[ACHIEVED] = at_goal[DESIRED] + 0.01
        assert sparse._is_at_goal(at_goal) is True


def test_an_effector_guides_to_what_is_to_be_moved_and_is_an_input():
    names = [f'obs.observation[{index}]' for index in range(2)]
    with loop('Table', dataclasses.replace(CONFIG, effector=tuple(names))) as made_loop:
        obs = torch.zeros(3, 7)
        obs[1, made_loop.env.obs_names.index(names[0])] = 1.0
        guided = made_loop._goals(obs[:, :6])
        assert guided[0] == guided[2] > guided[1]
        assert made_loop.space.frame.encode(obs, torch.zeros(3, 2))[1][:, 2:4].tolist() == [[0.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(('names', 'text'), [
    (('obs.observatoin[0]', 'obs.observation[1]'),
     r"no entry 'obs.observatoin\[0\]' for the setting effector; its entries are obs.achieved_goal.0., .*"),
    (('obs.observation[0]',), 'has goals of 2 numbers, and the setting effector names 1')])
def test_what_is_no_effector_is_refused(names, text):
    with pytest.raises(ConfigError, match=text):
        EnvLoop(FlatEnvironment('goal_environments:goal/Table-v0'), dataclasses.replace(CONFIG, effector=names))


def test_an_end_by_success_is_no_end_for_the_model():
    with loop('Sparse') as made_loop:
        episodes = [made_loop.play(None, seed=0, episode=episode) for episode in range(400)]
    ended = [episode for episode in episodes if episode.terminated]
    assert ended and all(episode.success for episode in ended)
    assert not any(episode.obs[:, -1].any() for episode in episodes)


def test_features_are_further_inputs(tmp_path):
    name = f'{__name__}:offsets'
    with loop('Dense', features=name) as made_loop:
        assert features_name(made_loop.contract.space) == name
        run = LearningRun(made_loop, seed=0, folder=tmp_path / 'run')
        list(run.episodes(40))
        inner, _ = made_loop.space.frame.encode(torch.zeros(6), torch.zeros(2))
        assert made_loop.space.frame.encode(torch.zeros(6), torch.zeros(2))[1].shape == (4,) and inner.shape == (6,)
        assert run.rounds.current.card.contract.space == f'outcome with {name}'


@pytest.mark.parametrize(('name', 'text'), [
    ('growing', r'gave 2 features, then 5 for observations \(5, 3\), where their number must not change'),
    ('flat', r'needs to return a float tensor of shape \(2, F\) for observations \(2, 3\), got torch.float32 of shape \(\)'),
    ('endless', 'features that are not finite'), ('nothing', 'cannot be had')])
def test_what_are_no_features_is_refused(name, text):
    with pytest.raises(ConfigError, match=text):
        load_features(f'{__name__}:{name}', torch.ones(3))


def test_a_reward_of_a_function_is_not_the_environments():
    with pytest.raises(ConfigError, match='there is no built-in reward'):
        EnvLoop(FlatEnvironment('goal_environments:goal/Dense-v0'), CONFIG, reward=BUILT_IN)


def test_a_reward_of_one_goal_at_a_time_can_be_planned_with_too():
    with loop('OneByOne', reward=ENVIRONMENT) as made_loop, loop('Sparse') as quick:
        assert not made_loop.env.takes_many_goals and quick.env.takes_many_goals
        obs = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(made_loop._goals(obs), quick._goals(obs))
