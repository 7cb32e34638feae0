"""Limits of a URDF mean the same in every engine: missing, zero, crossed, and joints that turn without end."""

import dataclasses
import math

import numpy as np
import pytest
from support.small_arm import small_arm

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.robots.urdf import mesh_file
from mbrl_sim.command_interfaces import TrajectoryCommand, TrajectoryPoint
from mbrl_sim.engines import make_world
from mbrl_sim.scene import WorldConfig
from mbrl_sim.simulated_driver import DriverConfig, SimulatedDriver
from mbrl_sim.urdf import arm_limits

ENGINES = ('pybullet', 'mujoco')
PLAIN = '<limit lower="-2" upper="2" effort="40" velocity="2"/>'


@pytest.fixture(params=ENGINES)
def engine(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def make(engine, tmp_path):
    """Makes the small arm's world in an engine, with a servo that does not lag."""
    worlds = []

    def make(kind, limit, **more):
        config = DriverConfig(simulator=engine, world=WorldConfig(cube=False))
        worlds.append(make_world(small_arm(tmp_path, kind, limit, **more), config))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def turn(world, velocity, duration_s):
    world.drive_velocity(np.array([0.0, velocity]))
    for _ in range(round(duration_s / world.dt_s)):
        world.step()
    return world.joint_positions()[1]


def test_limits_of_the_profiles_are_those_of_their_urdf():
    limits, fingers = arm_limits(load_robot('panda'))
    assert limits.lower[3] == -3.1416 and limits.upper[5] == 3.8223
    assert limits.max_velocity.tolist() == [2.175] * 4 + [2.61] * 3 and limits.max_force.tolist() == [87.0] * 4 + [12.0] * 3
    assert not limits.is_continuous.any()
    assert fingers.max_force.tolist() == [20.0, 20.0]


def test_a_limit_that_is_no_number_is_refused_by_name(make):
    with pytest.raises(ConfigError, match="joint 'elbow' cannot be read .*wide"):
        make('revolute', '<limit lower="-1" upper="wide" effort="40" velocity="2"/>')


def test_a_joint_that_cannot_turn_and_a_file_that_is_no_urdf_are_refused(make, tmp_path):
    with pytest.raises(ConfigError, match='elbow cannot move'):
        make('fixed', '')
    robot = small_arm(tmp_path, 'revolute', PLAIN)
    (tmp_path / 'small.urdf').write_text('robot: small')
    with pytest.raises(ConfigError, match='small.urdf: is no URDF'):
        arm_limits(robot)


@pytest.mark.parametrize('limit', ['', '<limit lower="0" upper="0" effort="40" velocity="2"/>',
                                   '<limit effort="40" velocity="2"/>', '<limit lower="1" upper="-1" effort="40" velocity="2"/>',
                                   '<limit lower="-1" upper="nan" effort="-40" velocity="2"/>'])
def test_positions_without_a_range_are_unlimited(make, limit):
    world = make('revolute', limit, home_rad=-1.5)
    assert world.joint_positions()[1] == pytest.approx(-1.5, abs=2e-3)
    assert turn(world, 1.0, 5.0) == pytest.approx(3.5, abs=0.1)


def test_a_limit_of_zero_velocity_is_the_profiles_and_one_of_zero_effort_is_none(make):
    world = make('revolute', '<limit lower="-3" upper="3" effort="0" velocity="0"/>')
    assert world.limits.max_velocity.tolist() == [2.0, 1.2] and world.limits.max_force.tolist() == [50.0, math.inf]
    assert turn(world, 9.0, 1.0) - 0.5 == pytest.approx(1.2, abs=0.1)


def test_a_joint_stops_at_its_limit(make):
    world = make('revolute', PLAIN)
    assert turn(world, 2.0, 3.0) == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize('limit', ['', '<limit effort="40" velocity="2"/>'])
def test_a_continuous_joint_starts_at_home_turns_on_and_is_reported_within_a_turn(make, limit):
    world = make('continuous', limit, home_rad=2.5)
    assert world.joint_positions()[1] == pytest.approx(2.5, abs=2e-3)
    place = turn(world, 1.0, 1.5)
    assert place == pytest.approx(4.0 - 2 * math.pi, abs=0.1)
    assert world.ground_truth(0, 'object').position[1] == place
    assert turn(world, 1.0, 4.0) == pytest.approx(8.0 - 2 * math.pi, abs=0.1)
    world.hold()
    held = world.joint_positions()[1]
    assert turn(world, 0.0, 1.0) == pytest.approx(held, abs=0.02)


@pytest.mark.parametrize('command_type', ['position', 'trajectory'])
def test_a_continuous_joint_takes_the_shortest_way(engine, tmp_path, command_type):
    config = DriverConfig(simulator=engine, world=WorldConfig(cube=False), command_timeout_s=0.0)
    driver = SimulatedDriver(make_world(small_arm(tmp_path, 'continuous', '', home_rad=3.0), config), config,
                             command_type=command_type)
    seen = []
    for target in (-3.0, 3.0):  # Across ±pi and back.
        driver.command([0.0, target] if command_type == 'position' else
                       TrajectoryCommand(('shoulder', 'elbow'), [TrajectoryPoint(0.8, (0.0, target))]))
        for _ in range(round(1.2 / driver.world.dt_s)):
            driver.step(0)
            seen.append(driver.world.joint_positions()[1])
        assert seen[-1] == pytest.approx(target, abs=0.01)
    assert np.abs(seen).min() > 2.9
    driver.close()


def test_joints_that_the_profile_does_not_name_stay_where_they_are(engine, tmp_path):
    more = ('<link name="tip"><inertial><mass value="0.5"/><origin xyz="0.1 0 0"/>'
            '<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>'
            '<joint name="wrist" type="revolute"><parent link="lower"/><child link="tip"/>'
            f'<axis xyz="0 1 0"/><origin xyz="0.4 0 0"/>{PLAIN}</joint>')
    robot = dataclasses.replace(small_arm(tmp_path, 'revolute', PLAIN, more=more), tool_link='tip')
    world = make_world(robot, DriverConfig(simulator=engine, world=WorldConfig(cube=False)))
    turned = world.tool_pose()[1]
    turn(world, 0.0, 1.0)
    assert np.abs(world.tool_pose()[1] - turned).max() < 0.02
    world.close()


def test_meshes_are_beside_the_urdf_in_a_package_or_nowhere(tmp_path):
    urdf = tmp_path / 'arm.urdf'
    (tmp_path / 'meshes').mkdir()
    mesh = tmp_path / 'meshes' / 'link.stl'
    mesh.touch()
    for url in ('meshes/link.stl', 'package://meshes/link.stl', str(mesh), f'file://{mesh}'):
        assert mesh_file(url, urdf) == mesh
    assert mesh_file('package://pybullet_data/duck.obj', urdf).name == 'duck.obj'
    with pytest.raises(ConfigError, match='which does not exist'):
        mesh_file('meshes/none.stl', urdf)
