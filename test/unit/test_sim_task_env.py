"""The Gymnasium environments: sound ones, and the very tasks that are learned in one process."""

import dataclasses
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from mbrl_ros.agents.experts.demonstrator import Demonstrator
from mbrl_ros.errors import ConfigError, GoalError
from mbrl_ros.runs.playing import EVALUATION, LEARNING
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import make_task
from mbrl_sim import ENVIRONMENTS
from mbrl_sim.tabletop import make_task_world

TASKS = tuple(ENVIRONMENTS)
SEED, LENGTH = 3, 25


@pytest.fixture(scope='module')
def make():
    """Makes environments of a task, each once."""
    made = {}

    def of_task(task, **settings):
        key = task, *sorted(settings.items())
        if key not in made:
            made[key] = gymnasium.make(ENVIRONMENTS[task], **settings)
        return made[key]

    yield of_task
    for env in made.values():
        env.close()


def loop_of(task, **changes):
    return TaskLoop(task, dataclasses.replace(TaskLoopConfig.of_task(task), **changes), make_task_world)


@pytest.mark.parametrize(('task', 'settings'), [
    ('reach', {'robot': 'iiwa'}), ('reach', {'goal_env': True}), ('push', {'goal_env': True}), ('lift', {}), ('pick_place', {})])
def test_gymnasium_finds_nothing_to_complain_about(make, task, settings):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_env(make(task, render_mode='rgb_array', **settings).unwrapped, skip_render_check=task != 'lift')


@pytest.mark.parametrize('task', ['reach', 'lift'])
def test_equal_seeds_give_equal_episodes(make, task):
    env = make(task)

    def episode():
        env.reset(seed=SEED)
        env.action_space.seed(SEED)
        return np.array([env.step(env.action_space.sample())[0] for _ in range(5)])

    first = episode()
    env.reset(seed=SEED + 1)
    assert np.array_equal(episode(), first)


@pytest.mark.parametrize('task', ['push', 'lift', 'pick_place'])
def test_a_demonstration_is_the_same_here_and_in_the_loop(make, task):
    loop = loop_of(task, max_episode_steps=LENGTH)
    episode = loop.demonstrate(seed=SEED, episode=1)
    loop.close()
    env = make(task, end_with_success=True, max_episode_steps=LENGTH, disable_env_checker=True)
    expert = Demonstrator(task, noise_std=loop.config.demonstration_noise, seed=SEED)
    obs, info = env.reset(options={'episode': (SEED, LEARNING, 1)})
    expert.reset(obs[18:], 1)
    seen, total, ended = [obs[:18]], 0.0, False
    while not ended:
        obs, reward, terminated, ended, info = env.step(expert.action(obs[:18]))
        assert not terminated
        seen.append(obs[:18])
        total += reward
    np.testing.assert_array_equal(seen, episode.obs)
    assert (info['is_held'], info['distance_m']) == (episode.success, episode.distance_m)
    assert total == pytest.approx(episode.reward.sum())


def test_random_motion_is_the_same_here_and_in_the_loop(make):
    loop = loop_of('reach', max_episode_steps=30)
    episode = loop.play(None, seed=SEED, episode=0, stream=EVALUATION)
    loop.close()
    env = make('reach')
    seen = [env.reset(options={'episode': (SEED, EVALUATION, 0)})[0]]
    steps = [env.step(action) for action in episode.action]
    # An action is the velocity that was reached; where a limit acted on the way there, that way is not quite repeated.
    np.testing.assert_allclose([seen[0][:14], *(step[0][:14] for step in steps)], episode.obs, atol=5e-3)
    assert sum(step[1] for step in steps) == pytest.approx(episode.reward.sum(), rel=1e-2)


@pytest.mark.parametrize('task', TASKS)
def test_sparse_rewards_are_zero_within_tolerance_alone_or_in_a_batch(make, task):
    env = make(task, goal_env=True)
    obs, _ = env.reset(seed=SEED)
    reach = 2.0 * make_task(task, env.unwrapped.robot).goal_tolerance_m
    places = obs['desired_goal'] + np.random.default_rng(SEED).uniform(-reach, reach, (200, 3))
    goals = np.broadcast_to(obs['desired_goal'], places.shape)
    rewards = env.unwrapped.compute_reward(places, goals, [{}] * 200)
    assert set(rewards) == {0.0, -1.0}
    assert rewards.tolist() == [env.unwrapped.compute_reward(place, goal, {}) for place, goal in zip(places, goals)]
    obs, reward, _, _, info = env.step(env.action_space.sample())
    assert reward == env.unwrapped.compute_reward(obs['achieved_goal'], obs['desired_goal'], info) == info['is_success'] - 1.0


@pytest.mark.parametrize('ends', [False, True])
def test_a_success_is_a_goal_that_was_held_and_ends_an_episode_where_that_is_asked_for(make, ends):
    env = make('reach', end_with_success=ends)
    lean = np.array([0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0], dtype=np.float32)
    actions = [lean] * 8 + [0.0 * lean] * 12
    env.reset()
    place = [env.step(action)[0] for action in actions[:10]][-1][14:17]
    env.reset(options={'goal': place})
    within, held = [], []
    for action in actions:
        *_, terminated, truncated, info = env.step(action)
        within.append(info['is_success'])
        held.append(info['is_held'])
        assert not terminated and truncated == (ends and held[-1])
        if truncated:
            break
    assert held == [any(all(within[end - 5:end]) for end in range(5, count + 1)) for count in range(1, len(within) + 1)]
    assert held[-1] and (len(held) < len(actions)) == ends


def test_moving_towards_the_goal_raises_the_reward_and_reaching_it_succeeds(make):
    env, lean = make('reach'), np.array([0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0], dtype=np.float32)

    def lean_forward():
        """Rewards, and the last step's observation and info."""
        steps = [env.step(lean) for _ in range(8)]
        return [step[1] for step in steps], steps[-1][0], steps[-1][4]

    env.reset(seed=0)
    _, obs, _ = lean_forward()
    _, info = env.reset(seed=0, options={'goal': obs[14:17]})
    assert info['distance_m'] > 0.05 and not info['is_success']
    rewards, _, info = lean_forward()
    assert rewards == sorted(rewards)
    assert info['is_success'] and info['distance_m'] < 1e-6


def test_an_episode_is_truncated_after_its_steps(make):
    env = make('reach')
    env.reset(seed=0)
    ends = [env.step(np.zeros(7, dtype=np.float32))[2:4] for _ in range(100)]
    assert ends[-1] == (False, True) and not any(map(any, ends[:-1]))


def test_pictures_are_of_the_scene(make):
    env = make('lift', render_mode='rgb_array')
    env.reset(seed=0)
    first = env.render()
    env.reset(seed=1)
    assert first.shape == (360, 480, 3) and not np.array_equal(env.render(), first)


@pytest.mark.parametrize('task', TASKS)
def test_a_goal_out_of_reach_is_refused(make, task):
    with pytest.raises(GoalError, match='outside the workspace'):
        make(task).reset(options={'goal': (2.0, 0.0, 0.5)})


def test_an_arm_without_a_gripper_cannot_lift(make):
    with pytest.raises(ConfigError, match='has no gripper'):
        make('lift', robot='iiwa')
