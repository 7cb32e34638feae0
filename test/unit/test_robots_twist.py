"""The Jacobian is the derivative of the pose; resolved twists move the tool as asked and keep it upright."""

import numpy as np
import pytest
import torch
from support.asserts import some

from mbrl_ros.errors import ShapeError
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.robots.twist import TwistConfig, TwistResolver

PANDA = load_robot('panda')
CHAIN = KinematicChain.of_robot(PANDA)
HOME = np.array(PANDA.home_rad)
STEP_S = 1e-3


def poses(robot, count=20):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.uniform(robot.position_lower_rad, robot.position_upper_rad, (count, len(robot.joints))))


@pytest.mark.parametrize('name', ['panda', 'iiwa'])
def test_the_jacobian_is_the_derivative_of_position_and_rotation(name):
    robot = load_robot(name)
    chain = KinematicChain.of_robot(robot)
    for q in some(poses(robot)):
        position = torch.autograd.functional.jacobian(chain.position, q)
        rotation = torch.autograd.functional.jacobian(lambda q: chain.pose(q)[1], q)  # (3, 3, J)
        spin = torch.einsum('ikj,lk->ilj', rotation, chain.pose(q)[1])  # dR Rᵀ, skew symmetric
        angular = torch.stack([spin[2, 1], spin[0, 2], spin[1, 0]])
        torch.testing.assert_close(chain.jacobian(q), torch.cat([position, angular]), atol=1e-6, rtol=0)


def test_batched_jacobians_equal_looped_ones_in_any_joint_order():
    q, order = poses(PANDA), [3, 0, 6, 1, 5, 2, 4]
    looped = torch.stack([CHAIN.jacobian(row) for row in q])
    torch.testing.assert_close(CHAIN.jacobian(q.view(4, 5, 7)).view(20, 6, 7), looped)
    shuffled = KinematicChain(PANDA.urdf_path, PANDA.base_link, PANDA.tool_link, [PANDA.joints[index] for index in order])
    torch.testing.assert_close(shuffled.jacobian(q[:, order]), looped[..., order])
    with pytest.raises(ShapeError, match='need 7 entries'):
        CHAIN.jacobian(torch.zeros(6))


@pytest.mark.parametrize('twist', [(0.2, 0.0, 0.0, 0.0), (0.0, -0.2, 0.0, 0.0), (0.0, 0.0, -0.2, 0.0), (0.0, 0.0, 0.0, 0.8)])
def test_the_tool_moves_as_the_twist_says_and_stays_upright(twist):
    resolver, q = TwistResolver(PANDA, CHAIN), HOME.copy()
    start = resolver.pose(q)
    for _ in range(500):
        q = q + STEP_S * resolver.joint_velocity(np.array(twist), q)
    np.testing.assert_allclose(resolver.pose(q) - start, 500 * STEP_S * np.array(twist), atol=5e-3)
    assert CHAIN.pose(torch.from_numpy(q))[1][2, 2] < -0.999


def test_a_tilted_tool_turns_upright_while_it_stands():
    resolver, q = TwistResolver(PANDA, CHAIN), HOME + [0.0, 0.1, 0.0, 0.1, 0.2, 0.2, 0.0]
    start = resolver.pose(q)
    for _ in range(2000):
        q = q + STEP_S * resolver.joint_velocity(np.zeros(4), q)
    assert CHAIN.pose(torch.from_numpy(q))[1][2, 2] < -0.9999
    np.testing.assert_allclose(resolver.pose(q)[:3], start[:3], atol=2e-3)


def test_the_twist_of_resolved_joint_velocities_is_the_one_asked_for():
    resolver, asked = TwistResolver(PANDA, CHAIN), np.array([0.1, -0.05, 0.08, 0.3])
    q = HOME + 0.1
    np.testing.assert_allclose(resolver.twist(resolver.joint_velocity(asked, q), q), asked, atol=2e-3)


def test_spare_joints_return_home_without_moving_the_tool():
    spare = np.linalg.svd(CHAIN.jacobian(torch.from_numpy(HOME)).numpy())[2][-1]
    resolver, q = TwistResolver(PANDA, CHAIN), HOME + 0.2 * spare
    away = np.linalg.norm(q - HOME)
    start = resolver.pose(q)
    for _ in range(3000):
        q = q + STEP_S * resolver.joint_velocity(np.zeros(4), q)
    assert np.linalg.norm(q - HOME) < 0.5 * away
    np.testing.assert_allclose(resolver.pose(q), start, atol=5e-3)


def test_near_a_singular_pose_joint_velocities_stay_bounded():
    stretched = HOME.copy()
    stretched[3] = PANDA.position_upper_rad[3]
    velocity = TwistResolver(PANDA, CHAIN, TwistConfig(damping=0.1)).joint_velocity(np.array([0.4, 0.0, 0.0, 0.0]), stretched)
    assert np.abs(velocity).max() < 10.0
