"""An agent's vectors become actions of any space, and demonstrated actions become vectors."""

import contextlib
import itertools

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from test_environment_goals import CONFIG, made

from mbrl_ros.environments.actions import action_map
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.learning_run import LearningRun

SPACES = [Box(np.array([-1.0, 0.0]), np.array([3.0, 10.0]), dtype=np.float64), Box(-2.0, 2.0, (2, 3), np.float32), Discrete(4),
          Discrete(3, start=-1), MultiDiscrete([3, 2]), MultiDiscrete([[2, 3], [4, 2]]), MultiBinary(3), MultiBinary((2, 2))]


@pytest.mark.parametrize('space', SPACES, ids=str)
def test_an_environments_action_comes_back_from_the_agents(space):
    space.seed(0)
    mapped = action_map(space, 'Some-v0')
    actions = np.array([space.sample() for _ in range(20)])
    of_agent = mapped.to_agent(actions)
    assert of_agent.shape == (20, mapped.size) and np.abs(of_agent).max() <= 1.0
    for action, vector in zip(actions, of_agent):
        back = mapped.of_agent(vector)
        assert space.contains(back)
        np.testing.assert_allclose(back, action, atol=1e-6)
        np.testing.assert_allclose(mapped.units(torch.from_numpy(vector)), np.ravel(action), atol=1e-6)
    assert mapped.units(torch.zeros(3, 1, mapped.size)).shape == (3, 1, mapped.num_units)


def test_the_dynamics_depend_on_the_choice_alone():
    mapped = action_map(MultiDiscrete([3, 2]), 'Some-v0')
    vectors = torch.tensor([[0.1, 0.3, -0.2, 0.5, 0.4], [-1.0, 0.9, 0.8, 1.0, -1.0]])
    assert mapped.features(vectors).tolist() == [[0.0, 1.0, 0.0, 1.0, 0.0]] * 2
    box = action_map(Box(-1.0, 1.0, (5,)), 'Some-v0')
    assert box.features(vectors) is vectors


@pytest.mark.parametrize(('name', 'chosen'), [('Keys', np.int64(1)), ('Chords', [1, 1]), ('Switches', [1, 1])])
def test_discrete_actions_have_the_type_of_the_space(name, chosen):
    with made(name) as env:
        env.reset(0)
        vector = env.actions.to_agent(np.array([chosen]))[0]
        env.step(vector)
        assert np.array_equal(env._env._env.unwrapped.told, chosen)
        assert env.tells_success


@pytest.mark.parametrize('name', ['Keys', 'Chords'])
def test_discrete_actions_are_planned(name, tmp_path):
    with contextlib.closing(EnvLoop(FlatEnvironment(f'goal_environments:goal/{name}-v0'), CONFIG)) as loop:
        run = LearningRun(loop, seed=0, folder=tmp_path / 'run')
        done = list(itertools.islice(run.episodes(200), 12))
    assert np.mean([abs(progress.episode.obs[-1, 0] - 0.6) for progress in done[-5:]]) < 0.25
