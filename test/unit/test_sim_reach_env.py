"""The Gymnasium environment over the simulated world."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import mbrl_sim  # noqa: F401  (registers the environment)
from mbrl_ros.errors import GoalError


@pytest.fixture(params=['panda', 'iiwa'])
def env(request):
    env = gymnasium.make('mbrl_sim/Reach-v0', robot=request.param, render_mode='rgb_array')
    yield env
    env.close()


def test_gymnasium_finds_nothing_to_complain_about(env):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_env(env.unwrapped)


def test_equal_seeds_give_equal_episodes(env):
    def episode():
        env.reset(seed=3)
        env.action_space.seed(3)
        return np.array([env.step(env.action_space.sample())[0] for _ in range(10)])

    first = episode()
    env.reset(seed=4)
    assert np.array_equal(episode(), first)


def test_moving_towards_the_goal_raises_the_reward_and_reaching_it_succeeds(env):
    lean = np.array([0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0], dtype=np.float32)

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


def test_an_episode_is_truncated_after_a_hundred_steps(env):
    env.reset(seed=0)
    ends = [env.step(np.zeros(7, dtype=np.float32))[2:4] for _ in range(100)]
    assert ends[-1] == (False, True) and not any(map(any, ends[:-1]))


def test_a_goal_out_of_reach_is_refused(env):
    with pytest.raises(GoalError, match='outside the workspace'):
        env.reset(options={'goal': (2.0, 0.0, 0.5)})
