"""Whatever arrives, the driver answers in words or obeys, and the arm stays finite and within its limits."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbrl_ros.robots.profile import load_robot
from mbrl_sim.command_interfaces import TrajectoryCommand, TrajectoryPoint
from mbrl_sim.engines import make_world
from mbrl_sim.simulated_driver import DriverConfig, SimulatedDriver

ROBOT = load_robot('panda')  # Its URDF has the speeds of a real arm: from faster ones no limit stops a joint at once.
NUMBERS = st.lists(st.floats(width=64), min_size=6, max_size=8)
SEVEN = st.lists(st.floats(-1e308, 1e308), min_size=7, max_size=7)
POINTS = st.builds(TrajectoryPoint, st.floats(-1e9, 1e9), NUMBERS | SEVEN, st.just([]) | NUMBERS | SEVEN,
                   st.just([]) | st.lists(st.floats(-1e6, 1e6), min_size=7, max_size=7))
TRAJECTORIES = st.builds(TrajectoryCommand, st.just(ROBOT.joints) | st.permutations(ROBOT.joints) | st.lists(st.text()),
                         st.lists(POINTS, max_size=3), st.none() | st.floats(-1e9, 1e9))


@pytest.fixture(params=itertools.product(['velocity', 'position', 'trajectory'], ['pybullet', 'mujoco']), ids='-'.join)
def driver(request):
    command_type, simulator = request.param
    pytest.importorskip(simulator)
    config = DriverConfig(simulator=simulator, allow_nonzero_velocity_at_trajectory_end=True)
    driver = SimulatedDriver(make_world(ROBOT, config), config, command_type=command_type)
    yield command_type, driver
    driver.close()


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=NUMBERS | SEVEN, trajectory=TRAJECTORIES, gripper=NUMBERS)
def test_no_command_breaks_the_driver(driver, numbers, trajectory, gripper):
    command_type, driver = driver
    assert isinstance(driver.command(trajectory if command_type == 'trajectory' else numbers), str)
    assert isinstance(driver.command_gripper(gripper), str)
    for _ in range(12):
        driver.step(driver.next_stamp_ns)
    position = driver.world.joint_positions(ROBOT.joints)
    assert np.isfinite(position).all()
    # The stops of the engines are springs; an arm that is thrown against one goes a little beyond.
    assert (position > driver.world.limits.lower - 0.15).all() and (position < driver.world.limits.upper + 0.15).all()
