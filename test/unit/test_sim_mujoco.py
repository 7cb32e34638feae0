"""The world in MuJoCo: the same arm as in PyBullet, with servos that lag and sag as they are told to."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mujoco')

from mbrl_ros.agents.experts.demonstrator import Demonstrator  # noqa: E402
from mbrl_ros.errors import ConfigError  # noqa: E402
from mbrl_ros.robots.profile import load_robot  # noqa: E402
from mbrl_ros.tasks.registry import make_task  # noqa: E402
from mbrl_sim.engines import engine_defaults, make_world  # noqa: E402
from mbrl_sim.mujoco_world import MujocoWorld  # noqa: E402
from mbrl_sim.scene import WorldConfig, tabletop_config  # noqa: E402
from mbrl_sim.servo import ServoConfig  # noqa: E402
from mbrl_sim.simulated_driver import DriverConfig, SimulatedDriver  # noqa: E402
from mbrl_sim.world import ArmWorld  # noqa: E402

ROBOTS = ('panda', 'iiwa')
FAST = WorldConfig(physics_hz=960, cube=False)
#: A pose in which gravity pulls at most joints.
STRETCHED = [0.3, 0.6, 0.2, -1.0, 0.4, 1.2, 0.3]


def make(robot='panda', world=FAST, seed=1, **servo):
    return MujocoWorld(load_robot(robot), world, seed, ServoConfig(**servo))


def arm(world):
    return world.joint_positions(world.robot.joints)


def run(world, duration_s):
    for _ in range(round(duration_s / world.dt_s)):
        world.step()


@pytest.mark.parametrize('robot', ROBOTS)
def test_every_link_is_where_it_is_in_pybullet(robot):
    mujoco, bullet, rng = make(robot), ArmWorld(load_robot(robot), FAST), np.random.default_rng(0)
    links = [bullet._bullet.getJointInfo(bullet._arm.body, index)[12].decode()
             for index in range(bullet._bullet.getNumJoints(bullet._arm.body))]
    for _ in range(20):
        q = rng.uniform(mujoco.robot.position_lower_rad, mujoco.robot.position_upper_rad)
        for world in (mujoco, bullet):
            world.place_arm(q)
        for index, link in enumerate(links):
            state = bullet._bullet.getLinkState(bullet._arm.body, index, computeForwardKinematics=1)
            body = mujoco._data.body(link)
            np.testing.assert_allclose(body.xpos, state[4], atol=1e-3, err_msg=link)
            assert abs(np.dot(np.roll(body.xquat, -1), state[5])) > 1.0 - 1e-6, link
        np.testing.assert_allclose(mujoco.tool_pose()[0], bullet.tool_pose()[0], atol=1e-3)
    bullet.close()


def trace(world, seed):
    """Exact states along a fixed sequence of motor commands after a seeded reset."""
    world.reset(seed)
    rng, states = np.random.default_rng(0), []
    for _ in range(10):
        world.drive_velocity(rng.uniform(-1.0, 1.0, 7))
        run(world, 0.05)
        states.append(np.concatenate(dataclasses.astuple(world.ground_truth(0, 'object'))[2:4]))
    return np.array(states)


def test_equal_seeds_give_bit_identical_worlds_whatever_happened_before():
    config = dataclasses.replace(tabletop_config(), physics_hz=960)
    world = make(world=config)
    first = trace(world, 7)
    world.drive_velocity(np.full(7, 1.0))
    run(world, 0.5)
    world.reset()
    assert np.array_equal(trace(world, 7), first)
    assert np.array_equal(trace(make(world=config, seed=99), 7), first)
    assert not np.array_equal(trace(world, 8), first)


def test_the_same_seed_puts_the_same_cube_in_both_engines():
    mujoco, bullet = (kind(load_robot('panda'), tabletop_config(), 5) for kind in (MujocoWorld, ArmWorld))
    assert mujoco.cube.size_m == bullet.cube.size_m
    np.testing.assert_allclose(np.concatenate(mujoco.cube_pose())[:3], bullet.cube_pose()[0], atol=2e-3)
    bullet.close()


def test_each_joint_draws_its_lag_from_the_range_and_keeps_it():
    world = make(lag_s=(0.03, 0.045), seed=4)
    lag_s = world.lag_s
    assert lag_s.min() >= 0.03 and lag_s.max() <= 0.045 and len(set(lag_s)) == 7
    world.reset()
    assert np.array_equal(world.lag_s, lag_s)
    assert np.array_equal(make(seed=4).lag_s, lag_s) and not np.array_equal(make(seed=5).lag_s, lag_s)


@pytest.mark.parametrize('robot', ROBOTS)
@pytest.mark.parametrize('lag_s', [(0.0, 0.0), (0.03, 0.045), (0.1, 0.1)])
def test_a_step_of_velocity_is_late_by_the_time_constant(robot, lag_s):
    world = make(robot, lag_s=lag_s, gravity_error=0.0)
    world.place_arm(STRETCHED)
    start, told = arm(world), np.full(7, 0.3)
    world.drive_velocity(told)
    run(world, 1.0)
    # The integral of what a first-order lag holds back is its time constant.
    np.testing.assert_allclose(1.0 - (arm(world) - start) / told, world.lag_s, atol=2e-3)


def test_a_step_of_position_is_followed_as_a_first_order_lag_does():
    world = make(lag_s=(0.1, 0.1), gravity_error=0.0, stiffness=1e5)
    start = arm(world)
    world.drive_position(start + 0.02)
    for elapsed_s in (0.1, 0.2, 0.3):
        run(world, 0.1)
        np.testing.assert_allclose((arm(world) - start) / 0.02, 1.0 - np.exp(-elapsed_s / 0.1), atol=0.06)


def sag(**servo):
    """How far each joint comes to rest from what it is told, shape (7,), rad."""
    world = make(**servo)
    world.place_arm(STRETCHED)
    run(world, 2.0)
    return arm(world) - STRETCHED


def test_joints_sag_by_the_gravity_that_is_not_compensated_over_their_stiffness():
    assert np.abs(sag(gravity_error=0.0)).max() < 1e-6
    little, twice, soft = sag(gravity_error=0.05), sag(gravity_error=0.1), sag(gravity_error=0.05, stiffness=1250.0)
    assert 2e-4 < np.abs(little).max() < 5e-3
    for more in (twice, soft):
        np.testing.assert_allclose(more, 2.0 * little, rtol=0.02, atol=1e-6)
    bullet = ArmWorld(load_robot('panda'), FAST)
    degrees = [*STRETCHED, *bullet.joint_positions(bullet.fingers)]
    pull = -np.array(bullet._bullet.calculateInverseDynamics(bullet._arm.body, degrees, [0.0] * 9, [0.0] * 9))[:7]
    np.testing.assert_allclose(little, 0.05 * pull / 2500.0, atol=1e-4)
    bullet.close()


def test_contact_with_the_table_is_counted_from_the_reset_on():
    world = make()
    world.place_arm([0.0, 1.3, 0.0, -0.6, 0.0, 1.5, 0.0])
    run(world, 0.5)
    assert world.table_contact_steps == 0
    world.drive_velocity(np.array([0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]))
    run(world, 1.0)
    assert 48 < world.table_contact_steps < 960 and world.touches_table()
    assert world.tool_pose()[0][2] > -0.05
    world.reset()
    assert world.table_contact_steps == 0 and not world.touches_table()


def test_a_servo_that_cannot_follow_does_not_run_away_and_comes_back_at_once():
    world = make()
    world.stick('panda_joint4')
    world.drive_velocity(np.full(7, 0.5))
    run(world, 3.0)
    place = arm(world)[3]
    world.drive_velocity(np.full(7, -0.5))
    world.stick('')
    run(world, 0.5)
    assert arm(world)[3] < place


@pytest.mark.parametrize('robot', ROBOTS)
def test_no_link_has_more_inertia_than_its_mass_can_have_within_its_shapes(robot):
    model = make(robot)._model
    for body in range(1, model.nbody):
        shapes = np.flatnonzero(model.geom_bodyid == body)
        reach = np.linalg.norm(model.geom_pos[shapes] - model.body_ipos[body], axis=1) + model.geom_rbound[shapes]
        if len(shapes) or not model.body_mass[body]:
            assert model.body_inertia[body].max() <= model.body_mass[body] * reach.max(initial=0.0)**2


def test_a_cube_is_grasped_and_lifted():
    world, robot = make(world=dataclasses.replace(tabletop_config(), physics_hz=960), seed=0), load_robot('panda')
    task, expert = make_task('lift', robot), Demonstrator('lift')
    truth = world.ground_truth(0, 'object')
    expert.reset(task.sample_goal(np.random.default_rng(0), truth), 0)
    for _ in range(80):
        command = task.space.command(expert.action(task.space.observe(truth)), truth)
        world.drive_velocity(command.velocity)
        world.drive_gripper(command.opening_m)
        run(world, 0.05)
        truth = world.ground_truth(0, 'object')
    assert world.cube_pose()[0][2] > 0.1


def test_fingers_that_the_profile_leaves_out_are_fixed():
    world = MujocoWorld(dataclasses.replace(load_robot('panda'), gripper=None), FAST)
    assert world._model.nv == len(world.joint_names) == 7


@pytest.mark.parametrize('setting', [{'gui': True}, {'self_collision': True}, {'object_kind': 'duck'},
                                     {'boxes_m': (0.0, 0.0, 0.0, 0.1, 0.1, 0.1)}])
def test_what_only_pybullet_has_is_refused(setting):
    with pytest.raises(ConfigError, match='the simulator mujoco has no window'):
        make(world=WorldConfig(**setting))


def test_there_are_no_pictures():
    with pytest.raises(ConfigError, match='mujoco draws no pictures'):
        make().render()


def test_a_mesh_that_mujoco_cannot_read_is_named(tmp_path):
    robot = load_robot('iiwa')
    text = Path(robot.urdf_path).read_text().replace('meshes/link_3.stl', str(tmp_path / 'link.dae'))
    (tmp_path / 'link.dae').touch()
    path = tmp_path / 'arm.urdf'
    path.write_text(text.replace('filename="meshes/', f'filename="{robot.urdf_path.removesuffix("model.urdf")}meshes/'))
    with pytest.raises(ConfigError, match=r'arm\.urdf: MuJoCo cannot load it \(.*link'):
        MujocoWorld(dataclasses.replace(robot, urdf_path=str(path)), FAST)


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mujoco', None)
    with pytest.raises(ConfigError, match=r"needs the package mujoco, which is not installed; `pip install '\.\[gym\]'`"):
        make_world(load_robot('panda'), DriverConfig(simulator='mujoco'))


def test_the_defaults_are_those_of_an_imperfect_arm():
    config = DriverConfig.from_mapping({'simulator': 'mujoco', **engine_defaults('mujoco')})
    assert config.world.physics_hz == 960 and 250 <= config.joint_state_hz <= 500
    assert config.servo == ServoConfig() and config.servo.lag_s == (0.03, 0.045)
    assert config.command_latency_s == (0.01, 0.02) and config.command_timeout_s == 0.0
    assert engine_defaults('pybullet') == {}
    driver = SimulatedDriver(make_world(load_robot('panda'), config), config)
    samples = [sample for _ in range(96) for sample in driver.step(driver.next_stamp_ns) if hasattr(sample, 'names')]
    assert len(samples) == 48 and len({sample.names for sample in samples}) > 40
