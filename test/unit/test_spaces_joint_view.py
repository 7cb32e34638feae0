"""What a policy that moves joints sees: the way to the goal, and what each joint does about it."""

import numpy as np
import pytest
import torch
from support.made_arms import Made, write_profile

from mbrl_ros.robots.kinematics import ChainProducts, KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.spaces.joint_tool import table_space
from mbrl_ros.spaces.space import state_at_home
from mbrl_ros.spaces.tabletop import BODY, SIZE, TOOL

#: A joint that slides among joints that turn, listed in another order than in the chain.
SKEWED = [Made(axis='1 2 -2', xyz='0.1 -0.05 0.2', rpy='1.2 0 0'),
          Made('prismatic', {'lower': -0.2, 'upper': 0.3, 'velocity': 2, 'effort': 9}, axis='0 -1 0.5', rpy='0 0.7 -2.0'),
          Made(axis='-1 0 0', xyz='0 0 0.3')]


@pytest.fixture(params=['panda', 'iiwa', 'made'])
def robot(request, tmp_path):
    if request.param != 'made':
        return load_robot(request.param)
    return load_robot(write_profile(tmp_path, SKEWED, joints=['j2', 'j3', 'j1'], home_rad=[0.1, 0.2, 0.1],
                                    position_lower_rad=[-0.1, -2.2, -2.2], position_upper_rad=[0.2, 2.2, 2.2]))


def positions(robot, *shape):
    low, high = torch.tensor(robot.position_lower_rad), torch.tensor(robot.position_upper_rad)
    return (low + (high - low) * torch.rand((*shape, len(low)), generator=torch.Generator().manual_seed(0))).float()


def test_products_of_a_chain_equal_its_walk(robot):
    chain = KinematicChain.of_robot(robot)
    for q in (positions(robot), positions(robot, 5), positions(robot, 2, 3)):
        place, slopes = ChainProducts(chain)(q)
        torch.testing.assert_close(place, chain.position(q), atol=1e-6, rtol=0)
        torch.testing.assert_close(slopes.mT, chain.jacobian(q)[..., :3, :], atol=1e-6, rtol=0)


def test_a_goal_at_the_tool_is_no_way_and_a_far_one_is_bounded(robot):
    view, q = JointSpace(robot).view, positions(robot, 8)
    obs, tool, size = torch.cat([q, 0.1 * q], dim=1), KinematicChain.of_robot(robot).position(q), len(robot.joints)
    at_goal, far = view.features(obs, tool), view.features(obs, tool + 100.0)
    assert at_goal.shape == (8, view.num_features)
    torch.testing.assert_close(at_goal[:, :2 * size], obs)
    torch.testing.assert_close(at_goal[:, 2 * size:], torch.zeros(8, size + 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(far[:, 2 * size:2 * size + 3], torch.full((8, 3), 100.0))
    assert (far[:, 2 * size + 3:2 * size + 6] <= 1.0).all()


def test_a_joint_that_brings_the_tool_nearer_has_a_positive_share(robot):
    view, chain, q = JointSpace(robot).view, KinematicChain.of_robot(robot), positions(robot, 6)
    size, goal, step = len(robot.joints), torch.tensor([0.4, 0.1, 0.5]), 1e-3
    seen = view.features(torch.cat([q, torch.zeros_like(q)], dim=1), goal)
    squashed, along = seen[:, 2 * size + 3:2 * size + 6], seen[:, 2 * size + 6:]
    for joint in range(size):
        moved = q.clone()
        moved[:, joint] += step
        change = (chain.position(moved) - chain.position(q)) / step
        torch.testing.assert_close(along[:, joint], (change * squashed).sum(dim=1), atol=3e-3, rtol=0)


def test_actions_are_seen_as_they_are_and_stay_within_bounds():
    view, obs = JointSpace(load_robot('panda')).view, torch.zeros(3, 14)
    action = torch.linspace(-2.0, 2.0, 21).view(3, 7)
    torch.testing.assert_close(view.seen(obs, action), action)
    np.testing.assert_array_equal(view.action(obs, action).numpy(), action.clamp(-1.0, 1.0).numpy())


def test_over_a_table_each_joint_has_its_share_in_both_ways():
    robot = load_robot('panda')
    space = table_space(robot, 'joints')
    obs = torch.from_numpy(space.observe(state_at_home(robot, space))).float()
    shares = {}
    for name, body, goal in (('body', [0.0, 0.01, 0.0], [0.0, 0.01, 0.0]), ('goal', [0.0, 0.0, 0.0], [0.0, 0.01, 0.0])):
        scene = obs.clone()
        scene[BODY] = obs[TOOL] + torch.tensor(body)
        seen = space.view.features(scene, obs[TOOL] + torch.tensor(goal))
        assert seen.shape == (space.view.num_features,)
        torch.testing.assert_close(seen[-14 - 18:-14], obs[2 * SIZE:])
        shares[name] = seen[-14:].view(7, 2)
    sideways = KinematicChain.of_robot(robot).jacobian(torch.tensor(robot.home_rad).float())[1]
    for name, column, scale in (('body', 0, 0.02), ('goal', 1, 0.05)):
        torch.testing.assert_close(shares[name][:, column], sideways * np.tanh(0.01 / scale), atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(shares[name][:, 1 - column], torch.zeros(7), atol=1e-5, rtol=0)
