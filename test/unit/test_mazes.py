"""The mazes of Sutton and Barto, and the grid over an arm's reach."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import mbrl_ros.environments  # noqa: F401  registers the mazes
import mbrl_sim  # noqa: F401  registers the grid
from mbrl_ros.environments.mazes import MAPS, MOVES, Maze
from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.inverse import reach_down
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_sim.reach_grid import ReachGrid, distances

UP, DOWN, LEFT, RIGHT = range(4)
GRID = 'mbrl_sim/ReachGrid-v0'


def shortest(maze):
    rows = np.array([list(row) for row in MAPS[maze]])
    (start,), (goal,) = (list(map(tuple, np.argwhere(rows == letter).tolist())) for letter in 'SG')
    return distances(rows != '#', goal)[start]


@pytest.mark.parametrize(('maze', 'steps'), [('dyna', 14), ('right_open', 10), ('left_open', 16), ('both_open', 10)])
def test_shortest_ways_are_those_of_the_book(maze, steps):
    assert shortest(maze) == steps


def test_a_maze_is_walked_as_it_is_drawn():
    env = Maze('dyna')
    assert env.reset()[0] == 2 * 9
    assert env.step(LEFT)[0] == 18 and env.step(RIGHT)[0] == 19 and env.step(RIGHT)[0] == 19  # The edge, and a wall.
    env.reset()
    *before, last = [env.step(action) for action in [*2 * [DOWN], *3 * [RIGHT], UP, *5 * [RIGHT], *3 * [UP]]]
    assert all(reward == 0.0 and not terminated for _, reward, terminated, _, _ in before)
    assert last == (8, 1.0, True, False, {'is_success': True})


def test_a_maze_changes_after_its_steps_over_all_episodes():
    env = Maze('right_open', 'left_open', 5)
    for _ in range(5):
        env.reset()
        assert env.step(DOWN)[0] == 48
    env.reset()
    for _ in range(3):
        env.step(LEFT)
    assert [env.step(UP)[0] for _ in range(3)] == [36, 27, 18]  # Through the wall that was on the left.


@pytest.mark.parametrize('env_id', ['mbrl_ros/DynaMaze-v0', 'mbrl_ros/BlockingMaze-v0', 'mbrl_ros/ShortcutMaze-v0', GRID])
def test_gymnasium_finds_nothing_amiss_and_a_picture(env_id):
    env = gymnasium.make(env_id, render_mode='rgb_array')
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    picture = env.render()
    assert picture.dtype == np.uint8 and (picture == (50, 90, 200)).all(axis=-1).sum() == 24 * 24
    env.close()


@pytest.mark.parametrize('robot', ['panda', 'iiwa'])
def test_a_cell_is_free_where_the_arm_gets_and_the_joints_are_those_that_get_it_there(robot):
    env, profile = ReachGrid(robot), load_robot(robot)
    chain = KinematicChain.of_robot(profile)
    for row, column in np.argwhere(env.free).tolist():
        joints = env.reset(options={'tool': (row, column)})[1]['joints_rad']
        assert (joints >= profile.position_lower_rad).all() and (joints <= profile.position_upper_rad).all()
        place, rotation = chain.pose(torch.from_numpy(joints))
        np.testing.assert_allclose(place, [0.1 * row + 0.05, 0.1 * column - 0.65, 0.15], atol=2e-3)
        assert rotation[2, 2] < -0.999
    assert 50 < env.free.sum() < env.free.size - 6 and not env.free[4, 4:10].any()


def test_what_is_beyond_an_arm_is_out_of_its_reach():
    reached = reach_down(load_robot('panda'), torch.tensor([[0.5, 0.0, 0.2], [1.5, 0.0, 0.2], [0.5, 0.0, -0.2]],
                                                           dtype=torch.float64))[1]
    assert reached.tolist() == [True, False, False]


def test_the_grid_is_walked_within_its_cells_until_the_goal():
    env = ReachGrid()
    goal, free = env.goals[0], env.free
    steps = distances(free, goal)
    for cell in map(tuple, np.argwhere(free).tolist()):
        for action, (down, right) in enumerate(MOVES):
            env.reset(options={'tool': cell, 'goal': goal})
            there = cell[0] + down, cell[1] + right
            is_free = 0 <= there[0] < free.shape[0] and 0 <= there[1] < free.shape[1] and free[there]
            obs, reward, terminated, _, info = env.step(action)
            assert tuple(obs) == (*(there if is_free else cell), *goal) and reward == -1.0
            assert terminated == info['is_success'] == (tuple(obs[:2]) == goal)
    assert (steps[free] >= 0).all() and (steps[~free] == -1).all()


def test_starts_and_goals_are_drawn_by_the_seed_and_differ():
    env = ReachGrid()
    drawn = [tuple(env.reset(seed=seed)[0]) for seed in range(200)]
    assert drawn == [tuple(env.reset(seed=seed)[0]) for seed in range(200)]
    assert {start[2:] for start in drawn} == set(env.goals) and len({start[:2] for start in drawn}) > 50
    assert all(start[:2] != start[2:] for start in drawn)


def test_a_grid_without_room_for_its_goals_is_refused():
    with pytest.raises(ConfigError, match=r'the grid of panda at 2.0 m has \d+ reachable cells, too few for 4 goals'):
        ReachGrid(height_m=2.0)
