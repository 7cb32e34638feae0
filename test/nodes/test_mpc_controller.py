"""The controller node over real DDS: its parameters, its life cycle, and the command interfaces of a driver that it commands."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_msgs.msg import Float64MultiArray
from support.controller_bench import HOME, ROBOT, Driver
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.errors import ConfigError
from mbrl_ros.ros import qos


def test_reward_weights_change_while_the_node_runs_and_fixed_settings_do_not(make_bench):
    bench = make_bench()
    values = {'reach.weights.distance': 2.5, 'rate_hz': 10.0}
    request = SetParameters.Request()
    request.parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    results = bench.call(SetParameters, 'mpc_controller/set_parameters', request).results
    assert [result.successful for result in results] == [True, False]
    assert bench.controller.get_parameter('reach.weights.distance').value == 2.5


def test_positions_are_integrated_for_a_position_driver(make_bench):
    bench = make_bench(driver='forward_position')
    received: list[np.ndarray] = []
    bench.node.create_subscription(Float64MultiArray, 'forward_position_controller/commands',
                                   lambda message: received.append(np.array(message.data)), qos.RECORD)
    assert bench.spin_until(lambda: len(received) > 10)
    steps = np.diff([HOME, *received], axis=0)
    assert (np.abs(steps) <= np.array(ROBOT.max_velocity_rad_s) * 0.05 + 1e-9).all()
    assert np.abs(steps).max() > 0.01


def test_deactivating_leaves_the_arm_stopped_and_activating_moves_it_again(moving):
    for transition, done in ((4, lambda: moving.rests), (3, lambda: moving.moves)):
        request = ChangeState.Request()
        request.transition.id = transition
        assert moving.call(ChangeState, 'mpc_controller/change_state', request).success
        assert moving.spin_until(done)
    moving.assert_bounded()


def test_without_autostart_nothing_moves(make_bench):
    bench = make_bench(autostart=False)
    bench.spin_for(1.0)
    assert not bench.commands and not bench.statuses


def test_a_robot_that_does_not_exist_fails_to_configure_with_a_sentence(make_bench, said):
    bench = make_bench(robot='pandda')
    assert bench.controller.exit_code == 2
    assert said("there is no 'pandda' in config/robots")


def test_a_plan_without_memory_fails_to_configure_before_anything_is_measured(make_bench, said):
    bench = make_bench(planner__horizon=200, planner__population_size=100_000, planner__num_particles=200)
    assert bench.controller.exit_code == 2
    assert said('cannot be configured: a plan of horizon 200, population_size 100000 and num_particles 200')


def test_an_unknown_parameter_is_an_error(make_bench):
    with pytest.raises(ConfigError, match="unknown parameter 'rate'; did you mean 'rate_hz'"):
        make_bench(rate=20.0)


def test_trajectories_reach_a_trajectory_driver_and_end_standing(make_bench):
    bench = make_bench(driver='joint_trajectory')
    received: list[JointTrajectory] = []
    bench.node.create_subscription(JointTrajectory, 'joint_trajectory_controller/joint_trajectory', received.append, qos.RECORD)
    assert bench.spin_until(lambda: len(received) > 5)
    for message in received:
        assert message.joint_names == list(ROBOT.joints)
        assert len(message.points) >= 3
        assert not np.array(message.points[-1].velocities).any()


def test_sigterm_stops_the_arm_before_the_process_ends():
    driver = Driver()
    process = subprocess.Popen([sys.executable, '-m', 'mbrl_ros.cli.node', 'mpc_controller'], env=os.environ)
    try:
        assert driver.spin_until(lambda: driver.moves)
        process.send_signal(signal.SIGTERM)
        assert driver.spin_until(lambda: process.poll() is not None)
        driver.spin_for(0.2)
        assert process.returncode == 0
        assert not np.array(driver.commands[-5:]).any()
        driver.assert_bounded()
    finally:
        process.kill()
        process.wait()
        driver.close()
