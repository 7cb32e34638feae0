"""What can lie on the table: each thing stands there by itself, and fits between the fingers."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.robots.profile import load_robot
from mbrl_sim.objects import KINDS, height_m
from mbrl_sim.scene import tabletop_config
from mbrl_sim.world import ArmWorld


@pytest.fixture(scope='module', params=KINDS)
def world(request):
    config = dataclasses.replace(tabletop_config(), object_kind=request.param)
    world = ArmWorld(load_robot('panda'), config, seed=3)
    yield world
    world.close()


def test_it_stands_where_it_was_put(world):
    place, _ = world.cube_pose()
    assert world.cube.position_m[2] == pytest.approx(height_m(world.cube.kind, world.cube.size_m) / 2)
    np.testing.assert_allclose(place, world.cube.position_m, atol=4e-3)
    for _ in range(240):
        world.step()
    linear, angular = world.cube_velocity()
    assert np.abs(linear).max() < 5e-3 and np.abs(angular).max() < 0.1
    np.testing.assert_allclose(world.cube_pose()[0], place, atol=4e-3)


def test_it_has_the_mass_and_friction_that_were_drawn(world):
    mass, friction = world._bullet.getDynamicsInfo(world._cube, -1)[:2]
    assert (mass, friction) == pytest.approx((world.cube.mass_kg, world.cube.friction))


def test_it_is_as_wide_as_its_size_says(world):
    world.reset(3)
    low, high = map(np.array, world._bullet.getAABB(world._cube))
    assert world.cube.size_m <= (high - low)[:2].min() + 1e-3
    assert (high - low)[2] == pytest.approx(height_m(world.cube.kind, world.cube.size_m), abs=8e-3)


def test_places_sizes_and_masses_are_those_of_the_cube(world):
    world.reset(7)
    cube = ArmWorld(world.robot, tabletop_config(), seed=7)
    drawn = [(thing.size_m, thing.mass_kg, thing.friction, thing.yaw_rad, *thing.position_m[:2])
             for thing in (world.cube, cube.cube)]
    cube.close()
    assert drawn[0] == drawn[1]
