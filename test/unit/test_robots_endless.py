"""A joint without position limits turns on through half turns, wherever it is measured, commanded, or sent home."""

import dataclasses

import numpy as np
import pytest
import torch
from support.made_arms import Made, write_profile

from mbrl_ros.control.exploration import Exploration, homing_velocity
from mbrl_ros.control.safety.command_filter import CommandFilter, CommandFilterConfig
from mbrl_ros.control.safety.measured import MeasuredJoints
from mbrl_ros.estimation.estimator import StateEstimator, Status
from mbrl_ros.estimation.measurements import JointMeasurement
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.robots.turns import nearest_turn
from mbrl_ros.tasks.reach import ReachTask

MS = 1_000_000
TURN = 2.0 * np.pi
HOME = (3.0, 0.8, 1.0)


@pytest.fixture
def robot(tmp_path):
    """An arm whose first joint turns without end, with home near half a turn."""
    joints = [Made('continuous', {'effort': 80, 'velocity': 3}, axis='0 0 1'), Made(), Made()]
    return load_robot(write_profile(tmp_path, joints, position_lower_rad=[-np.inf, -2.2, -2.2],
                                    position_upper_rad=[np.inf, 2.2, 2.2], home_rad=list(HOME)))


def within_a_turn(angle):
    """An angle as most drivers report it."""
    return float(nearest_turn(np.array(angle), np.array(0.0)))


def test_an_angle_moves_by_whole_turns_to_the_nearest():
    reference = np.linspace(-20.0, 20.0, 81)
    nearest = nearest_turn(np.array(1.0), reference)
    np.testing.assert_allclose(np.exp(1j * nearest), np.exp(1j * 1.0))
    assert (np.abs(nearest - reference) <= np.pi + 1e-12).all()


def test_only_endless_joints_take_the_shorter_way(robot):
    assert robot.endless.tolist() == [True, False, False]
    np.testing.assert_allclose(robot.way_home(np.array([-3.1, -2.1, 1.0])), [6.1 - TURN, 2.9, 0.0])
    np.testing.assert_allclose(robot.way_home(np.array([3.0 + 3 * TURN, 0.8, 1.0])), np.zeros(3), atol=1e-12)


def test_homing_and_exploration_pull_the_shorter_way_home(robot):
    far = np.array([-3.1 - TURN, 0.8, 1.0])
    assert homing_velocity(robot, far, 2.0, 0.5)[0] == pytest.approx(2.0 * (6.1 - TURN))
    still = Exploration(robot, 0.0, 0.05)
    assert not still.velocity(far).any()
    assert still.velocity(np.array([3.0 + TURN + 1.0, 0.8, 1.0]))[0] == pytest.approx(-0.8)


def turn(estimator, angles, start_ms=0):
    """Feed an estimator an endless joint that turns, one angle every 10 ms; the last estimate."""
    for step, angle in enumerate(angles):
        stamp_ns = (start_ms + 10 * step) * MS
        estimator.on_joints(JointMeasurement(stamp_ns, ['j1', 'j2', 'j3'], [within_a_turn(angle), *HOME[1:]]), stamp_ns)
    return estimator.estimate(stamp_ns)


def test_the_estimated_angle_starts_nearest_to_home_and_is_continuous(robot):
    estimate = turn(StateEstimator(robot), 3.2 + 0.01 * np.arange(1000))
    assert estimate.status is Status.TRACKING
    np.testing.assert_allclose(estimate.state.position, [3.2 + 9.99, *HOME[1:]], atol=0.01)
    np.testing.assert_allclose(estimate.state.velocity, [1.0, 0.0, 0.0], atol=0.02)


def test_messages_of_some_joints_leave_the_turn_of_the_others(robot):
    estimator = StateEstimator(robot)
    turn(estimator, 3.2 + 0.01 * np.arange(500))
    for name, value in (('j3', 1.0), ('j1', within_a_turn(3.2 + 5.0)), ('j2', 0.8)):
        estimator.on_joints(JointMeasurement(5000 * MS, [name], [value]), 5000 * MS)
    np.testing.assert_allclose(estimator.estimate(5000 * MS).state.position, [8.2, *HOME[1:]], atol=0.01)


def test_after_a_jump_the_angle_is_nearest_to_home_again(robot):
    estimator = StateEstimator(robot)
    assert turn(estimator, 3.0 + 0.01 * np.arange(700)).state.position[0] == pytest.approx(10.0, abs=0.02)
    estimate = turn(estimator, [3.0] * 4, start_ms=7000)
    assert estimator.counts['jump'] == 1
    np.testing.assert_allclose(estimate.state.position, HOME, atol=0.01)


def test_an_angle_with_limits_is_what_the_driver_says(robot):
    limited = dataclasses.replace(robot, position_lower_rad=(-3.1,) * 3, position_upper_rad=(3.1,) * 3)
    estimate = turn(StateEstimator(limited), [-3.05] * 5)
    assert estimate.state.position[0] == pytest.approx(-3.05, abs=1e-3)


@pytest.mark.parametrize('start', [3.1, 3.1 - TURN, 3.1 + 2 * TURN])
def test_the_guards_angle_goes_on_from_what_the_driver_says_first(robot, start):
    measured, shown = MeasuredJoints(robot), lambda angle: angle if abs(start) > np.pi else within_a_turn(angle)
    states = [measured.state(step * 10 * MS, ['j3', 'j1', 'j2'], [1.0, shown(start + 0.01 * step), 0.8], [])
              for step in range(800)]
    np.testing.assert_allclose([state.position[0] for state in states], start + 0.01 * np.arange(800))
    np.testing.assert_allclose(states[-1].velocity, [1.0, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize('turns', [0, -5])
def test_the_filter_limits_the_speed_of_an_endless_joint_and_not_its_place(robot, turns):
    command_filter, q = CommandFilter(robot, CommandFilterConfig()), np.array([3.0 + turns * TURN, 0.8, 1.0])
    for _ in range(200):
        filtered = command_filter.apply(np.array([5.0, 0.0, 0.0]), q, 0.05)
        q = q + 0.05 * filtered.velocity
    assert filtered.velocity[0] == pytest.approx(1.0) and filtered.clamped == ('velocity',)
    assert q[0] > 3.0 + turns * TURN + 9.0


def test_the_reach_task_asks_nothing_of_where_an_endless_joint_is(robot):
    task = ReachTask.of_robot(robot)
    obs = torch.zeros(3, 6, dtype=torch.float64)
    obs[:, :3] = torch.tensor([[3.0, 0.8, 1.0], [3.0 + 3 * TURN, 0.8, 1.0], [3.0 - TURN, 0.8, 1.0]])
    reward = task.reward(obs, torch.zeros(3, 3, dtype=torch.float64), torch.tensor([0.4, 0.0, 0.4], dtype=torch.float64))
    assert torch.isfinite(reward).all()
    torch.testing.assert_close(reward, reward[:1].expand(3))
