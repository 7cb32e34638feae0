"""The simulated world: repeatable to the bit, true to the profile, and refusing what its motors cannot do."""

import dataclasses

import numpy as np
import pytest
import torch
from support.made_arms import FULL, Made, write_profile

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_sim.world import ArmWorld, WorldConfig

ROBOTS = ('panda', 'iiwa')


@pytest.fixture(params=ROBOTS)
def world(request):
    world = ArmWorld(load_robot(request.param), seed=1)
    yield world
    world.close()


@pytest.fixture
def panda():
    world = ArmWorld(load_robot('panda'), seed=1)
    yield world
    world.close()


def trace(world, seed):
    """Exact states along a fixed sequence of motor commands after a seeded reset."""
    world.reset(seed)
    rng, states = np.random.default_rng(0), []
    for _ in range(20):
        world.drive_velocity(rng.uniform(-1.0, 1.0, 7))
        for _ in range(12):
            world.step()
        state = world.ground_truth(0, 'object')
        states.append(np.concatenate([state.position, state.velocity]))
    return np.array(states)


def test_equal_seeds_give_bit_identical_worlds_whatever_happened_before(world):
    first = trace(world, 7)
    world.drive_velocity(np.full(7, 1.0))
    for _ in range(200):
        world.step()
    assert np.array_equal(trace(world, 7), first)
    other = ArmWorld(world.robot, seed=99)
    assert np.array_equal(trace(other, 7), first)
    other.close()


def test_other_seeds_and_later_resets_put_the_cube_elsewhere(world):
    places = [world.cube_pose()[0]]
    for seed in (2, None, None):
        world.reset(seed)
        places.append(world.cube_pose()[0])
    assert min(np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[:i]) > 1e-3


def test_a_reset_world_is_at_home_at_rest_with_the_cube_on_the_table_in_reach(world):
    for seed in range(5):
        world.reset(seed)
        assert np.abs(world.joint_positions(world.robot.joints) - world.robot.home_rad).max() < 1e-4
        assert np.abs(world.joint_velocities()).max() < 1e-3
        place, quaternion = world.cube_pose()
        assert place[2] == pytest.approx(0.025, abs=1e-3)
        assert np.linalg.norm(world.cube_velocity()[0]) < 1e-2
        assert np.linalg.norm(quaternion) == pytest.approx(1.0)
        assert not world.robot.workspace.refusal([place[0], place[1], world.robot.workspace.lower_m[2]])


def test_the_tool_is_where_the_kinematic_chain_says(world):
    chain, rng = KinematicChain.of_robot(world.robot), np.random.default_rng(3)
    for _ in range(50):
        q = rng.uniform(world.robot.position_lower_rad, world.robot.position_upper_rad)
        world.place_arm(q)
        np.testing.assert_allclose(world.tool_pose()[0], chain.position(torch.tensor(q)).numpy(), atol=1e-4)


def test_the_profile_stays_within_what_the_urdf_allows(world):
    assert (world.limits.lower <= world.robot.position_lower_rad).all()
    assert (world.limits.upper >= world.robot.position_upper_rad).all()
    assert (world.limits.max_velocity >= world.robot.max_velocity_rad_s).all()


def test_a_velocity_moves_each_joint_by_velocity_times_time(world):
    velocity = np.array([0.2, -0.3, 0.1, 0.2, -0.2, 0.3, 0.1])
    start = world.joint_positions(world.robot.joints)
    world.drive_velocity(velocity)
    for _ in range(120):
        world.step()
    np.testing.assert_allclose(world.joint_positions(world.robot.joints) - start, velocity * 0.5, atol=0.01)


def test_held_joints_drift_less_than_a_milliradian_in_ten_seconds(world):
    start = world.joint_positions(world.robot.joints)
    world.hold()
    for _ in range(2400):
        world.step()
    assert np.abs(world.joint_positions(world.robot.joints) - start).max() < 1e-3


def test_the_gripper_closes_at_its_speed_and_opens_again(panda):
    for opening, steps, expected in ((0.0, 96, 0.04), (0.0, 240, 0.0), (1.0, 400, 0.08)):
        panda.drive_gripper(opening)
        for _ in range(steps):
            panda.step()
        assert panda.joint_positions(panda.fingers).sum() == pytest.approx(expected, abs=0.004)


def test_a_shown_goal_is_seen_also_after_a_reset_and_moves_nothing(world):
    plain = trace(world, 3)
    world.show_goal(np.array([0.5, 0.2, 0.4]))
    assert np.array_equal(trace(world, 3), plain)
    red, green, blue = np.moveaxis(world.render().astype(int), -1, 0)
    assert ((green > red + 60) & (green > blue + 60)).sum() > 10


def test_ground_truth_carries_the_names_of_the_state_and_the_rates_of_its_angles(panda):
    names = (*panda.robot.state_names, 'box_x', 'box_y', 'box_z', 'box_roll', 'box_pitch', 'box_yaw')
    before = panda.ground_truth(5, 'box')
    assert before.names == names and before.stamp_ns == 5
    panda._bullet.resetBaseVelocity(panda._cube, [0.1, 0.0, 1.0], [0.3, -0.2, 0.5])
    panda.step()
    middle = panda.ground_truth(0, 'box')
    panda.step()
    after = panda.ground_truth(0, 'box')
    rates = (after.position[-6:] - middle.position[-6:]) * 240.0
    np.testing.assert_allclose(rates, after.velocity[-6:], atol=0.02)


def test_the_table_holds_the_arm_up_and_says_so(panda):
    assert not panda.touches_table()
    panda.place_arm([0.0, 1.7, 0.0, -0.2, 0.0, 1.5, 0.0])
    assert panda.touches_table()


def test_links_that_touch_at_home_do_not_disturb_a_world_with_self_collision():
    world = ArmWorld(load_robot('panda'), WorldConfig(self_collision=True))
    assert np.abs(world.joint_positions(world.robot.joints) - world.robot.home_rad).max() < 1e-4
    world.close()


def test_a_world_without_a_cube_has_no_cube():
    world = ArmWorld(load_robot('iiwa'), WorldConfig(cube=False))
    assert world.ground_truth(0, 'object').names == world.robot.joints
    with pytest.raises(ConfigError, match='no cube'):
        world.cube_pose()
    with pytest.raises(ConfigError, match='iiwa has no gripper'):
        world.drive_gripper(0.0)
    world.close()


def test_motors_refuse_wrong_lengths_and_numbers_that_are_not_finite(panda):
    for command in (np.zeros(6), np.array([0.0] * 6 + [np.nan])):
        with pytest.raises(ShapeError, match='need 7 finite numbers'):
            panda.drive_velocity(command)


def test_physics_slower_than_240_hz_or_uneven_is_refused():
    for rate in (120, 250):
        with pytest.raises(ConfigError, match='physics_hz'):
            WorldConfig(physics_hz=rate)


def test_a_closed_world_can_be_closed_again_without_closing_another():
    first = ArmWorld(load_robot('iiwa'))
    first.close()
    second = ArmWorld(load_robot('iiwa'))
    first.close()
    second.step()
    second.close()


def test_a_profile_that_does_not_fit_its_urdf_is_named():
    robot = load_robot('iiwa')
    with pytest.raises(ConfigError, match='has no link \'hand\'; it has lbr_iiwa_link_1'):
        ArmWorld(dataclasses.replace(robot, tool_link='hand'))
    with pytest.raises(ConfigError, match='has no joint elbow; it has lbr_iiwa_joint_1'):
        ArmWorld(dataclasses.replace(robot, joints=('elbow', *robot.joints[1:])))


def test_a_cube_that_the_arm_cannot_reach_down_to_is_an_error_and_no_endless_search():
    panda = load_robot('panda')
    above = dataclasses.replace(panda.workspace, shoulder_m=(0.0, 0.0, 1.5), max_reach_m=1.2, lower_m=(0.25, -0.5, 0.0))
    robot = dataclasses.replace(panda, workspace=above)
    with pytest.raises(ConfigError, match='no place for the cube; set world.cube to false'):
        ArmWorld(robot)
    ArmWorld(robot, WorldConfig(cube=False)).close()


@pytest.mark.parametrize('joint', [
    Made('continuous', None), Made('continuous', {'effort': 80, 'velocity': 3}), Made(limit=None),
    Made(limit={**FULL, 'velocity': 0}), Made(limit={**FULL, 'effort': 0}), Made(limit={**FULL, 'lower': 0, 'upper': 0}),
    Made(limit={**FULL, 'lower': 1, 'upper': -1}),
])
def test_a_joint_with_limits_left_out_starts_at_home_moves_as_told_and_is_held(tmp_path, joint):
    robot = load_robot(write_profile(tmp_path, [joint, *[Made()] * 4]))
    world = ArmWorld(robot, WorldConfig(cube=False))
    np.testing.assert_allclose(world.joint_positions(), robot.home_rad, atol=0.05)
    world.drive_velocity(np.array([0.5, 0.0, 0.0, 0.0, 0.0]))
    for _ in range(240):
        world.step()
    moved = world.joint_positions()
    assert moved[0] - robot.home_rad[0] == pytest.approx(0.5, abs=0.02)
    world.hold()
    for _ in range(240):
        world.step()
    assert world.joint_positions()[0] == pytest.approx(moved[0], abs=0.02)
    world.close()


@pytest.mark.parametrize(('place', 'url'), [
    ('urdf/box.obj', 'box.obj'), ('meshes/box.obj', 'package://meshes/box.obj'),
    ('elsewhere/share/boxes/box.obj', 'package://boxes/box.obj'), ('elsewhere/box.obj', 'file://{}/elsewhere/box.obj'),
])
def test_meshes_are_found_beside_the_urdf_in_their_package_and_by_path(tmp_path, monkeypatch, place, url):
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path}/elsewhere')
    (tmp_path / 'urdf').mkdir()
    robot = load_robot(write_profile(tmp_path / 'urdf', [Made()] * 5))
    urdf = tmp_path / 'urdf' / 'made.urdf'
    mesh = f'<collision><geometry><mesh filename="{url.format(tmp_path)}"/></geometry></collision>'
    urdf.write_text(urdf.read_text().replace('<link name="l1">', f'<link name="l1">{mesh}'))
    with pytest.raises(ConfigError, match='which does not exist|neither a ROS package nor'):
        ArmWorld(robot, WorldConfig(cube=False))
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text('v 0 0 0\nv 0.1 0 0\nv 0 0.1 0\nv 0 0 0.1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n')
    world = ArmWorld(robot, WorldConfig(cube=False))
    assert len(world._bullet.getCollisionShapeData(world._arm.body, 0)) == 1
    world.close()


def test_contacts_with_boxes_are_counted_until_the_next_reset():
    world = ArmWorld(load_robot('panda'), WorldConfig(cube=False, boxes_m=(0.25, -0.1, 0.2, 0.5, 0.1, 0.44)))
    assert world.box_contact_steps == 0  # The fingertips are 4 cm above it.
    for _ in range(120):
        world.drive_velocity(np.array([0.0, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0]))
        world.step()
    assert world.box_contact_steps > 5
    tool, touched = world.tool_pose()[0], world.box_contact_steps
    world.reset()
    assert world.box_contact_steps == 0 < touched and tool[2] > 0.44
    world.close()


@pytest.mark.parametrize('boxes_m', [(0.0,) * 5, (0.0, 0.0, 0.0, 0.1, 0.1, 0.0)])
def test_boxes_are_lower_and_upper_corners(boxes_m):
    with pytest.raises(ConfigError, match='WorldConfig.boxes_m needs 6 numbers for each box'):
        WorldConfig(boxes_m=boxes_m)
