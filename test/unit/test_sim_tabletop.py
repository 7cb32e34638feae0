"""The table in one process: one control period at a time, repeatable to the bit."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.robots.profile import load_robot
from mbrl_sim.scene import tabletop_config
from mbrl_sim.tabletop import TabletopWorld
from mbrl_sim.world import ArmWorld, WorldConfig

PERIOD_NS = 50_000_000
STILL = np.zeros(7)


@pytest.fixture(scope='module')
def world():
    world = TabletopWorld()
    yield world
    world.close()


def trace(world, seed):
    """Exact states of a seeded reset and of a fixed sequence of commands after it."""
    rng, states = np.random.default_rng(0), [world.reset(seed)]
    states += [world.step(rng.uniform(-1.0, 1.0, 7), float(rng.uniform(0.0, 0.08))) for _ in range(10)]
    return np.array([[*state.position, *state.velocity] for state in states])


def test_equal_seeds_and_commands_give_bit_identical_states_whatever_happened_before(world):
    first = trace(world, 7)
    assert not np.array_equal(trace(world, 8), first)
    assert np.array_equal(trace(world, 7), first)
    other = TabletopWorld(seed=99)
    assert np.array_equal(trace(other, 7), first)
    other.close()


def test_stamps_are_multiples_of_the_control_period_from_the_reset_on(world):
    for _ in range(2):
        stamps = [world.reset(0).stamp_ns, *(world.step(STILL).stamp_ns for _ in range(3))]
        assert stamps == [0, PERIOD_NS, 2 * PERIOD_NS, 3 * PERIOD_NS]
    assert world.period_s == pytest.approx(0.05)


def test_a_step_is_one_control_period_of_the_arms_world(world):
    velocity = np.linspace(-0.3, 0.3, 7)
    world.reset(5)
    state = world.step(velocity, 0.03)
    arm = ArmWorld(world.robot, tabletop_config(), seed=5)
    arm.drive_velocity(velocity)
    arm.drive_gripper(0.03)
    for _ in range(12):
        arm.step()
    truth = arm.ground_truth(PERIOD_NS, 'object')
    arm.close()
    assert (state.names, state.stamp_ns) == (truth.names, truth.stamp_ns)
    assert np.array_equal(state.position, truth.position) and np.array_equal(state.velocity, truth.velocity)
    assert set(world.space.raw_names) == set(state.names)


def test_joints_move_as_they_are_told(world):
    before, velocity = world.reset(0), np.linspace(-0.3, 0.3, 7)
    for _ in range(4):
        after = world.step(velocity)
    moved = after.positions(world.robot.joints) - before.positions(world.robot.joints)
    np.testing.assert_allclose(moved, 4 * world.period_s * velocity, atol=2e-3)


def test_the_gripper_keeps_moving_to_the_opening_it_was_told_last(world):
    world.reset(0)
    openings = [world.step(STILL, opening).positions(['gripper'])[0] for opening in (0.02, *[None] * 15)]
    assert 0.07 < openings[0] < 0.079
    assert openings[-1] == pytest.approx(0.02, abs=1e-3)
    assert world.reset(0).positions(['gripper'])[0] == pytest.approx(0.08, abs=1e-3)


def test_cubes_differ_and_stay_within_their_ranges(world):
    cubes = []
    for seed in range(5):
        place = world.reset(seed).positions(['object_x', 'object_y', 'object_z'])
        cubes.append(world.cube)
        assert 0.04 <= world.cube.size_m <= 0.06 and 0.05 <= world.cube.mass_kg <= 0.2 and 0.5 <= world.cube.friction <= 1.0
        assert 0.35 <= place[0] <= 0.65 and -0.25 <= place[1] <= 0.25
        assert place[2] == pytest.approx(world.cube.size_m / 2, abs=1e-3)
    assert len({cube.size_m for cube in cubes}) == len({cube.yaw_rad for cube in cubes}) == 5


def test_after_so_many_resets_the_cube_is_another():
    config = dataclasses.replace(tabletop_config(), change_after=2, changed_mass_range_kg=(1.0, 2.0),
                                 changed_friction_range=(0.1, 0.2))
    world, cubes = TabletopWorld(config=config), []
    for seed in range(4):
        world.reset(seed)
        cubes.append(world.cube)
    world.close()
    assert [cube.mass_kg > 0.5 for cube in cubes] == [cube.friction < 0.3 for cube in cubes] == [False, False, True, True]
    assert all(1.0 <= cube.mass_kg <= 2.0 and 0.1 <= cube.friction <= 0.2 for cube in cubes[2:])


def test_a_reset_without_a_seed_draws_the_next_world(world):
    world.reset(0)
    again, other = world.reset(), world.reset()
    assert not np.array_equal(again.position, other.position)
    world.reset(0)
    assert np.array_equal(world.reset().position, again.position)


def test_other_rates_cubes_and_names_are_taken():
    config = dataclasses.replace(tabletop_config(), randomise_cube=False, cube_size_m=0.045)
    world = TabletopWorld(config=config, control_hz=40.0, body='box')
    assert world.reset(0).positions(['box_z'])[0] == pytest.approx(0.0225, abs=1e-3)
    assert [world.step(STILL).stamp_ns for _ in range(2)] == [25_000_000, 50_000_000]
    assert world.space.observe(world.step(STILL)).shape == (18,)
    world.close()


def test_an_arm_without_a_gripper_moves_but_has_no_tool_space():
    world = TabletopWorld(load_robot('iiwa'), WorldConfig(cube=False))
    assert world.step(STILL).names == world.robot.joints and world.cube is None
    with pytest.raises(ConfigError, match='has no gripper'):
        _ = world.space
    with pytest.raises(ConfigError, match='has no gripper'):
        world.step(STILL, 0.04)
    world.close()


def test_pictures_show_the_goal(world):
    world.reset(0)
    world.show_goal(np.array([0.5, 0.0, 0.3]))
    first = world.render(64, 48)
    world.show_goal(np.array([0.4, 0.2, 0.1]))
    second = world.render(64, 48)
    assert first.shape == (48, 64, 3) and first.dtype == np.uint8
    assert not np.array_equal(first, second)


@pytest.mark.parametrize('control_hz', [0.0, -20.0, 7.0, 480.0, float('nan'), float('inf')])
def test_a_rate_that_does_not_divide_the_physics_rate_is_refused(control_hz):
    with pytest.raises(ConfigError, match='control_hz needs a divisor of the physics rate, 240 Hz'):
        TabletopWorld(control_hz=control_hz)


@pytest.mark.parametrize('velocity', [np.zeros(6), np.full(7, np.nan)])
def test_a_command_that_the_motors_cannot_take_is_refused(world, velocity):
    world.reset(0)
    with pytest.raises(ShapeError, match='need 7 finite numbers'):
        world.step(velocity)
