"""Profiles are data that is checked on reading; the kinematics agree with the library that parsed them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import pytorch_kinematics
import torch
import yaml

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_driver, load_robot

ROBOTS = [path.stem for path in sorted((share_directory() / 'config' / 'robots').glob('*.yaml'))]
DRIVERS = [path.stem for path in sorted((share_directory() / 'config' / 'drivers').glob('*.yaml'))]


@pytest.fixture(params=['panda', 'iiwa'])
def robot(request):
    return load_robot(request.param)


def random_positions(robot, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(robot.position_lower_rad), torch.tensor(robot.position_upper_rad)
    return low + (high - low) * torch.rand(count, len(low), generator=generator)


def test_tool_pose_equals_the_librarys(robot):
    q = random_positions(robot, 200).double()
    library = pytorch_kinematics.build_serial_chain_from_urdf(
        Path(robot.urdf_path).read_bytes(), robot.tool_link, robot.base_link).to(dtype=torch.float64)
    expected = library.forward_kinematics(q).get_matrix()
    point, rotation = KinematicChain.of_robot(robot).pose(q)
    torch.testing.assert_close(point, expected[:, :3, 3], atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation, expected[:, :3, :3], atol=1e-6, rtol=0)


def test_any_leading_axes_give_the_same_points(robot):
    chain, q = KinematicChain.of_robot(robot), random_positions(robot, 24)
    batched = chain.position(q.reshape(2, 3, 4, 7)).reshape(24, 3)
    looped = torch.stack([chain.position(row) for row in q])
    torch.testing.assert_close(batched, looped, atol=1e-6, rtol=0)
    torch.testing.assert_close(chain.points(q)[:, -1], batched)
    assert chain.points(q).shape == (24, 8, 3)


def test_joint_order_of_the_profile_is_the_order_of_the_input(robot):
    order = [3, 0, 6, 1, 5, 2, 4]
    shuffled = KinematicChain(robot.urdf_path, robot.base_link, robot.tool_link, [robot.joints[i] for i in order])
    q = random_positions(robot, 10)
    torch.testing.assert_close(shuffled.position(q[:, order]), KinematicChain.of_robot(robot).position(q))


def test_wrong_number_of_joints_is_refused(robot):
    with pytest.raises(ShapeError, match=r'need 7 entries on the last axis, got shape \(5, 6\)'):
        KinematicChain.of_robot(robot).position(torch.zeros(5, 6))


def test_links_that_are_not_there_are_refused(robot):
    with pytest.raises(ConfigError, match='no chain from .* to .flange9.'):
        KinematicChain(robot.urdf_path, robot.base_link, 'flange9', robot.joints)


def test_joints_of_another_robot_are_refused(robot):
    with pytest.raises(ConfigError, match='the profile lists a, b'):
        KinematicChain(robot.urdf_path, robot.base_link, robot.tool_link, ('a', 'b'))


def test_goals_are_drawn_from_the_workspace_and_nowhere_else(robot):
    rng = np.random.default_rng(0)
    goals = np.array([robot.workspace.sample(rng) for _ in range(500)])
    assert not any(robot.workspace.refusal(goal) for goal in goals)
    assert (np.ptp(goals, axis=0) > 0.35).all()


@pytest.mark.parametrize(('point', 'text'), [
    ((0.5, 0.0, -0.2), 'outside the workspace box'),
    ((0.69, 0.49, 0.84), 'from the shoulder'),
    ((float('nan'), 0.0, 0.3), 'three finite coordinates'),
    ((0.5, 0.0), 'three finite coordinates'),
])
def test_goal_out_of_reach_is_refused_with_the_reason(robot, point, text):
    assert text in robot.workspace.refusal(np.array(point))


@pytest.mark.parametrize('name', ROBOTS)
def test_every_robot_profile_loads(name):
    assert load_robot(name).name == name


@pytest.mark.parametrize('name', DRIVERS)
def test_every_driver_profile_loads(name):
    assert load_driver(name).name == name


def test_unknown_robot_lists_those_that_exist():
    with pytest.raises(ConfigError, match="there is no 'pandda' in config/robots; known: iiwa, panda"):
        load_robot('pandda')


@pytest.mark.parametrize(('change', 'text'), [
    ({'home_rad': [0.0] * 6}, 'home_rad needs one number for each of the 7 joints, got 6'),
    ({'home_rad': [9.0] * 7}, 'home_rad of panda_joint1 needs to lie between'),
    ({'joint': []}, "unknown key 'joint' in RobotProfile; did you mean 'joints'"),
    ({'urdf': 'package://pybullet_data/none.urdf'}, 'which does not exist'),
    ({'urdf': 'package://no_such_package/a.urdf'}, 'neither a ROS package nor a Python package'),
    ({'workspace': {'lower_m': [2, 2, 2], 'upper_m': [3, 3, 3]}}, 'needs a box that the arm reaches into'),
    ({'workspace': {'lower_m': [0, 0, 0.3], 'upper_m': [0.1, 0.1, 0.4]}}, 'needs a box that the arm reaches into'),
    ({'workspace': {'lower_m': [1, 1, 1], 'upper_m': [0, 0, 0]}}, 'needs to be below upper_m'),
])
def test_profile_that_does_not_fit_is_one_error_with_the_file(tmp_path, change, text):
    values = yaml.safe_load((share_directory() / 'config' / 'robots' / 'panda.yaml').read_text())
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump({**values, **change}))
    with pytest.raises(ConfigError, match=text) as caught:
        load_robot(str(path))
    assert str(path) in str(caught.value)


def test_capsules_of_the_panda_contain_its_collision_meshes_with_the_fingers_open_and_closed():
    robot = load_robot('panda')
    folder = Path(robot.urdf_path).parent / 'meshes' / 'collision'
    rows = np.array(robot.capsules).reshape(-1, 8)

    def vertices(name):
        lines = (folder / f'{name}.obj').read_text().splitlines()
        return np.array([line.split()[1:4] for line in lines if line.startswith('v ')], dtype=float)

    def beyond(points, capsules):
        start, end = capsules[:, 1:4], capsules[:, 4:7]
        way = end - start
        share = np.clip(((points[:, None] - start) * way).sum(-1) / (way * way).sum(-1), 0.0, 1.0)
        return (np.linalg.norm(points[:, None] - start - share[..., None] * way, axis=-1) - capsules[:, 7]).min(axis=1)

    for link in range(1, 8):
        assert beyond(vertices(f'link{link}'), rows[rows[:, 0] == link]).max() <= 0.0
    half = np.sqrt(0.5)
    hand = np.array([[half, half, 0.0], [-half, half, 0.0], [0.0, 0.0, 1.0]])  # The hand is turned by -45 degrees.
    mirror, finger = np.diag([-1.0, -1.0, 1.0]), vertices('finger')
    fingers = [(finger + (0.0, opening, 0.0584)) @ side for opening in (0.0, 0.04) for side in (np.eye(3), mirror)]
    for part in (vertices('hand'), *fingers):
        assert beyond(part @ hand.T + (0.0, 0.0, 0.107), rows[rows[:, 0] == 7]).max() <= 0.0


@pytest.mark.parametrize('capsules', [(1.0,) * 7, (8.0,) * 8, (0.5,) * 8])
def test_capsules_are_eight_numbers_and_begin_with_a_joint(capsules):
    with pytest.raises(ConfigError, match='capsules needs 8 numbers each, the first of them a joint from 1 to 7'):
        dataclasses.replace(load_robot('panda'), capsules=capsules)
