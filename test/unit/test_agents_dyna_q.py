"""Dyna-Q and Dyna-Q+ against known answers: updates by hand, value iteration, and the mazes of Sutton and Barto."""

import contextlib
import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.chain import SECOND_NS, space_of, steps

from mbrl_ros.agents.agent import Lesson
from mbrl_ros.agents.bundle import AgentBundle, Card
from mbrl_ros.agents.dyna_q import (
    DynaQActingConfig,
    DynaQAgent,
    DynaQLearner,
    DynaQLearnerConfig,
    DynaQPlusLearnerConfig,
)
from mbrl_ros.agents.registry import agent_kind
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.errors import BundleError, ConfigError, ModelError, TrainingCancelled
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.spaces.numbering import Numbering
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.training.rounds import Rounds
from mbrl_sim.tabletop import make_task_world

MAZE = 'mbrl_ros/DynaMaze-v0'
TIMES = {'plan_ms_p50': None, 'plan_ms_p99': None, 'wall_s': None}


def lesson(rows, seed=0):
    none = np.zeros(len(rows), dtype=bool)
    return Lesson(rows, none, none, none, 0, seed)


def bundled(contract, report, version=1):
    return AgentBundle(Card(version, contract, 1, 0, {}, 0, 1), report.groups)


def learn(rows, num_states=3, num_actions=2, **settings):
    """Values after one round on rows of `chain.steps`."""
    space, contract, numbering = space_of(num_states, num_actions)
    learner = DynaQLearner(contract, space, DynaQLearnerConfig(**settings))
    return learner.update(lesson(steps(numbering, rows)), bool).groups['values']['values'].numpy()


@pytest.mark.parametrize(('end', 'target'), [('', 2.0 + 0.5 * 8.0), ('truncated', 2.0 + 0.5 * 8.0), ('terminated', 2.0)])
def test_a_time_limit_is_bootstrapped_and_an_end_never(end, target):
    # The first step makes the value of the last state 8; the second one is what is asked about.
    values = learn([(2, 1, 8.0, 2, 'terminated'), (0, 1, 2.0, 2, end)], planning_steps=0, learning_rate=1.0, discount=0.5)
    assert values.tolist() == [[0.0, target], [0.0, 0.0], [0.0, 8.0]]


def test_updates_take_back_a_share_of_the_error_in_the_order_of_the_steps():
    values = learn([(0, 0, 1.0, 1, ''), (1, 0, 4.0, 0, 'terminated'), (0, 0, 1.0, 1, '')], planning_steps=0, learning_rate=0.5,
                   discount=0.5)
    assert values[1, 0] == 2.0 and values[0, 0] == 0.5 + 0.5 * (1.0 + 0.5 * 2.0 - 0.5)


def test_planning_makes_of_two_real_steps_the_values_of_the_whole_way():
    rows = [(0, 0, 0.0, 1, ''), (1, 0, 1.0, 2, 'terminated')]
    without = learn(rows, planning_steps=0, learning_rate=1.0, discount=0.5)
    planned = learn(rows, planning_steps=50, learning_rate=1.0, discount=0.5)
    assert without[0, 0] == 0.0 and planned[0, 0] == 0.5


def random_world(seed, num_states=6, num_actions=3):
    rng = np.random.default_rng(seed)
    shape = num_states, num_actions
    return rng.integers(num_states, size=shape), rng.normal(size=shape), rng.random(shape) < 0.15


def optimal_values(next_state, reward, ended, discount):
    values = np.zeros(reward.shape)
    for _ in range(2000):
        values = reward + discount * ~ended * values.max(axis=1)[next_state]
    return values


@pytest.mark.parametrize('seed', range(3))
def test_values_become_those_of_value_iteration(seed):
    next_state, reward, ended = random_world(seed)
    rows = [(state, choice, reward[state, choice], next_state[state, choice], 'terminated' if ended[state, choice] else '')
            for state, choice in np.ndindex(*reward.shape)]
    values = learn(rows * 20, *reward.shape, planning_steps=60, learning_rate=0.5, discount=0.8)
    np.testing.assert_allclose(values, optimal_values(next_state, reward, ended, 0.8), atol=1e-5)


def test_only_steps_that_are_new_are_learned_from():
    space, contract, numbering = space_of(3, 2)
    first, second = [(0, 0, 1.0, 1, '')], [(1, 1, 2.0, 2, '')]
    config = DynaQLearnerConfig(planning_steps=0)
    piecewise, at_once = (DynaQLearner(contract, space, config) for _ in range(2))
    piecewise.resume(bundled(contract, piecewise.update(lesson(steps(numbering, first)), bool)))
    both = steps(numbering, first + second)
    report, whole = (learner.update(lesson(both), bool) for learner in (piecewise, at_once))
    for group, tensors in whole.groups.items():
        for name, tensor in tensors.items():
            assert torch.equal(report.groups[group][name], tensor), name
    assert report.is_better and report.reason.startswith('1 new transitions')
    piecewise.resume(bundled(contract, report))
    with pytest.raises(ModelError, match='no transition is new'):
        piecewise.update(lesson(both), bool)
    with pytest.raises(TrainingCancelled):
        at_once.update(lesson(both), lambda: True)


def test_the_bonus_grows_with_the_root_of_the_time_and_is_for_untried_actions_too():
    space, contract, numbering = space_of(2, 2)
    # Nothing but the bonus earns anything, and nothing is discounted into anything else.
    config = DynaQPlusLearnerConfig(planning_steps=400, learning_rate=1.0, discount=0.0, kappa=0.5)
    rows = [(0, 0, 0.0, 1, 'terminated')] + 8 * [(1, 0, 0.0, 0, 'terminated')]
    values = DynaQLearner(contract, space, config).update(lesson(steps(numbering, rows)), bool).groups['values']['values'].numpy()
    # State 0 was last left by action 0 in step 1 of 9, and by action 1 never.
    np.testing.assert_allclose(values, [[0.5 * np.sqrt(8), 0.5 * np.sqrt(9)], [0.0, 0.5 * np.sqrt(9)]])


def test_surprise_is_the_share_that_was_foreseen_otherwise_before_it_was_learned_from():
    space, contract, numbering = space_of(3, 2)
    learner = DynaQLearner(contract, space, DynaQLearnerConfig())
    rows = [(0, 0, 0.0, 1, ''), (0, 0, 0.0, 1, ''), (0, 0, 0.0, 2, ''), (0, 0, 0.0, 2, '')]
    old = steps(numbering, rows)
    assert learner.surprise(old) is None
    report = learner.update(lesson(old), bool)
    assert report.figures['surprise'] == 0.25
    learner.resume(bundled(contract, report))
    assert learner.surprise(old).level == 0.25
    new = steps(numbering, [(0, 0, 0.0, 2, ''), (0, 0, 1.0, 2, ''), (0, 0, 0.0, 2, 'terminated'), (2, 1, 5.0, 0, '')], begin=4)
    assert (learner.surprise(new).level, learner.surprise(new).typical_error) == (0.5, 0.5)


def test_the_detector_hears_a_world_that_changes_though_each_step_is_learned_at_once():
    space, contract, numbering = space_of(12, 2)
    rounds = Rounds(DynaQLearner(contract, space, DynaQLearnerConfig()), contract, DynaQLearnerConfig(), seed=0)
    around = [(state, 0, 0.0, (state + 1) % 12, '') for state in range(12)]
    back = [(state, 0, 0.0, (state - 1) % 12, '') for state in range(12)]
    rows, told = steps(numbering, 2 * around + back), []
    for end in range(1, len(rows) + 1):
        told.append(rounds.round(rows.take(slice(end)), episode=0, round_index=end, stamp_ns=end * SECOND_NS).changed)
    assert not any(told[:24]) and any(told[24:])


def made_agent(values, epsilon=0.0):
    space, contract, numbering = space_of(*values.shape)
    report = DynaQLearner(contract, space, DynaQLearnerConfig()).update(lesson(steps(numbering, [(0, 0, 0.0, 0, '')])), bool)
    report.groups['values']['values'][:] = torch.from_numpy(values)
    agent = DynaQAgent(contract, space, DynaQActingConfig(epsilon=epsilon)).with_bundle(bundled(contract, report))

    def choose(state, memory):
        obs = np.array([float(state), 0.0, 0.0])
        decision = agent.act(obs, None, memory, objective=None, previous_action=np.zeros(values.shape[1]))
        return int(numbering.choices(decision.action[None])[0])
    return agent, choose


def test_the_agent_is_greedy_breaks_ties_by_its_seed_and_is_random_with_probability_epsilon():
    values = np.array([[0.0, 2.0, 2.0, 1.0], [3.0, 0.0, 0.0, 0.0]])
    agent, choose = made_agent(values)
    chosen = [choose(0, memory) for memory in [agent.reset(1)] for _ in range(200)]
    assert set(chosen) == {1, 2} and 60 < chosen.count(1) < 140
    assert chosen == [choose(0, memory) for memory in [agent.reset(1)] for _ in range(200)]
    agent, choose = made_agent(values, epsilon=0.4)
    others = sum(choose(1, memory) != 0 for memory in [agent.reset(2)] for _ in range(2000))
    assert 500 < others < 700  # 0.4 of 2000, of which one in four is the best one by chance.
    config = agent_kind('dyna_q').config(epsilon=0.4)
    assert (config.acting().epsilon, config.evaluated().acting().epsilon) == (0.4, 0.0)


@pytest.mark.parametrize(('spoil', 'text'), [
    (lambda groups: groups['values'].pop('values'), 'there is no table values'),
    (lambda groups: groups['values'].update(values=torch.zeros(3, 3, dtype=torch.float64)), 'values needs finite float64'),
    (lambda groups: groups['values']['values'].fill_(torch.nan), 'values needs finite float64'),
    (lambda groups: groups['values'].update(surprised_ns=torch.zeros(2)), 'surprised_ns needs finite int64'),
    (lambda groups: groups['model']['next_state'].fill_(7), 'next_state leads out of the 3 states'),
    (lambda groups: groups.pop('model'), "no tensors of 'model'")])
def test_tables_that_do_not_fit_are_refused(spoil, text):
    space, contract, numbering = space_of(3, 2)
    report = DynaQLearner(contract, space, DynaQLearnerConfig()).update(lesson(steps(numbering, [(0, 0, 0.0, 0, '')])), bool)
    groups = {group: dict(tensors) for group, tensors in report.groups.items()}
    spoil(groups)
    spoiled = bundled(contract, dataclasses.replace(report, groups=groups))
    with pytest.raises(BundleError, match=text):
        DynaQAgent(contract, space, DynaQActingConfig()).with_bundle(spoiled)


def test_numbers_of_several_choices_are_those_of_their_combinations():
    numbering = Numbering((3, 2), (-1, 0), (2, 3))
    assert (numbering.num_states, numbering.num_actions) == (6, 6)
    obs = np.array([[-1.0, 0.0, 9.0], [-1.0, 1.0, 9.0], [1.0, 1.0, 9.0]])
    assert numbering.states(obs).tolist() == [0, 1, 5]
    actions = np.array([numbering.action(choice) for choice in range(6)])
    assert numbering.choices(actions).tolist() == list(range(6)) and actions[5].tolist() == [-1.0, 1.0, -1.0, -1.0, 1.0]


def run_in(folder, *, env=MAZE, agent='dyna_q', changes=(), resume=False, seed=3):
    loop = EnvLoop(FlatEnvironment(env), EnvLoopConfig.of_env(env, changes=changes, agent=agent, has_goals=False))
    return contextlib.closing(loop), LearningRun(loop, seed=seed, folder=folder, resume=resume)


@pytest.fixture(scope='module')
def maze(tmp_path_factory):
    folder = tmp_path_factory.mktemp('maze') / 'run'
    closing, run = run_in(folder)
    with closing:
        return folder, list(itertools.islice(run.episodes(10**6), 4))


def test_the_way_through_the_maze_is_known_by_the_third_episode(maze):
    _, done = maze
    assert done[2].episode.steps <= 25 and all(one.score.success for one in done)
    closing, run = run_in(maze[0], changes=['epsilon=0.1'], resume=True)
    with closing as loop:
        greedy = loop.config.kind.make_agent(loop.contract, loop.space, DynaQActingConfig(epsilon=0.0))
        assert loop.play(greedy.with_bundle(run.rounds.current), seed=0, episode=0).steps == 14


def test_each_step_is_one_round_and_one_version(maze):
    _, done = maze
    assert [one.score.model_version for one in done[1:]] == [one.score.total_steps - 1 for one in done[1:]]


def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted(maze, tmp_path):
    folder, done = maze
    closing, run = run_in(tmp_path / 'run')
    with closing:
        list(itertools.islice(run.episodes(10**6), 2))
    closing, run = run_in(tmp_path / 'run', resume=True)
    with closing:
        last = list(itertools.islice(run.episodes(10**6), 2))[-1]
    np.testing.assert_array_equal(last.episode.action, done[-1].episode.action)
    np.testing.assert_equal(*([dataclasses.asdict(dataclasses.replace(one, **TIMES)) for one in scores]
                              for scores in (run.board.scores, [one.score for one in done])))
    assert (tmp_path / 'run' / 'model.safetensors').read_bytes() == (folder / 'model.safetensors').read_bytes()


def test_more_planning_takes_fewer_steps(maze, tmp_path):
    closing, run = run_in(tmp_path / 'run', changes=['learner.planning_steps=0'])
    with closing:
        without = [one.episode.steps for one in itertools.islice(run.episodes(10**6), 4)]
    assert sum(without[1:]) > 3 * sum(one.episode.steps for one in maze[1][1:])


def test_a_bundle_acts_in_another_process_as_in_this_one(maze):
    code = f"""
from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
loop = EnvLoop(FlatEnvironment({MAZE!r}), EnvLoopConfig.of_env({MAZE!r}, agent='dyna_q', has_goals=False))
episode = loop.play(loop.agent.with_bundle(AgentBundle.load({str(maze[0] / 'model.safetensors')!r})), seed=5, episode=1)
print(episode.action.tobytes().hex())
"""
    there = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()
    with contextlib.closing(EnvLoop(FlatEnvironment(MAZE), EnvLoopConfig.of_env(MAZE, agent='dyna_q', has_goals=False))) as loop:
        agent = loop.agent.with_bundle(AgentBundle.load(maze[0] / 'model.safetensors'))
        assert loop.play(agent, seed=5, episode=1).action.tobytes().hex() == there


@pytest.mark.parametrize(('env', 'agent', 'options', 'text'), [
    (MAZE, 'pets', {}, r"has observations Discrete.54., from which the agent 'pets' cannot learn; an agent with tables can"),
    ('CartPole-v1', 'dyna_q', {}, "agent 'dyna_q' has a table .* need to be Discrete.*; those of CartPole-v1 are not"),
    ('tiny_environments:tiny/Long-v0', 'dyna_q_plus', {}, "agent 'dyna_q_plus' has a table"),
    (MAZE, 'dyna_q', {'reward': 'test_agents_dyna_q:some_reward'}, "'dyna_q' learns from the rewards of steps, so --reward is")])
def test_what_does_not_fit_a_table_is_refused_in_a_sentence(env, agent, options, text):
    with pytest.raises(ConfigError, match=text):
        EnvLoop(FlatEnvironment(env), EnvLoopConfig.of_env(env, agent=agent, has_goals=False), **options)


def some_reward(obs, action):
    return obs[..., 0]


def test_the_tasks_of_an_arm_have_no_table(tmp_path):
    with contextlib.closing(TaskLoop('reach', TaskLoopConfig.of_task('reach', agent='dyna_q'), make_task_world)) as loop:
        with pytest.raises(ConfigError, match="agent 'dyna_q' has a table .*; those of reach are not"):
            LearningRun(loop, seed=0, folder=tmp_path / 'run')
        with pytest.raises(ConfigError, match='those of reach are not'):
            agent_kind('dyna_q').make_learner(loop.contract, loop.space, DynaQLearnerConfig())
    assert not (tmp_path / 'run').exists()


def test_a_table_that_is_too_large_is_refused():
    space, contract, _ = space_of(4, 2)
    space.numbering = Numbering((10_000, 10_000), (0, 0), (2,))
    with pytest.raises(ConfigError, match='100,000,000 states and 2 actions; a table of the agent'):
        DynaQAgent(contract, space, DynaQActingConfig())
