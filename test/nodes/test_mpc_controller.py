"""The controller node over real DDS: its parameters and its life cycle."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from support.controller_bench import Arm

from mbrl_ros.errors import ConfigError


def test_live_settings_change_while_the_node_runs_and_fixed_ones_do_not(make_bench):
    bench = make_bench()
    values = {'control.max_tail_steps': 5, 'rate_hz': 10.0}
    request = SetParameters.Request()
    request.parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    results = bench.call(SetParameters, 'mpc_controller/set_parameters', request).results
    assert [result.successful for result in results] == [True, False]
    assert bench.controller.get_parameter('control.max_tail_steps').value == 5


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


def test_sigterm_stops_the_arm_before_the_process_ends():
    arm = Arm()
    process = subprocess.Popen([sys.executable, '-m', 'mbrl_ros.cli.node', 'mpc_controller'], env=os.environ)
    try:
        assert arm.spin_until(lambda: arm.moves)
        process.send_signal(signal.SIGTERM)
        assert arm.spin_until(lambda: process.poll() is not None)
        arm.spin_for(0.2)
        assert process.returncode == 0
        assert not np.array(arm.commands[-5:]).any()
        arm.assert_bounded()
    finally:
        process.kill()
        process.wait()
        arm.close()
