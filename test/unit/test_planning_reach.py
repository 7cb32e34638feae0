"""Planner and reach task together, in closed loop with an ideal arm."""

import numpy as np
import pytest
import torch

from mbrl_ros.models.toys import VelocityArm
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.planning.sampling import make_planner
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.tasks.task import SuccessCounter

PERIOD_S = 0.05


def episode(robot, goal, seed, **settings):
    """Steps until the goal is reached and held, or None within 50; and the joint positions on the way, shape (T, J)."""
    task, arm = make_task('reach', robot), VelocityArm.of_robot(robot, PERIOD_S)
    change = np.array(robot.max_acceleration_rad_s2) * PERIOD_S / np.array(robot.max_velocity_rad_s)
    planner = make_planner(PlannerConfig(num_particles=1, device='cpu', **settings), task.action_size, change, seed=seed)
    obs, action, counter, positions = np.concatenate([robot.home_rad, np.zeros(7)]), np.zeros(7), SuccessCounter(0.25, 0.05), []
    for step in range(50):
        action = planner.plan(arm, obs, task.objective(goal), previous_action=action).actions[0]
        obs = arm.step(obs, action)
        positions.append(obs[:7])
        if counter.update(bool(task.is_within(torch.tensor(obs), goal))):
            return step + 1, np.array(positions)
    return None, np.array(positions)


@pytest.mark.parametrize('name', ['panda', 'iiwa'])
def test_an_ideal_arm_settles_on_every_goal_within_its_joint_limits(name):
    robot = load_robot(name)
    rng = np.random.default_rng(11)
    for seed in range(6):
        steps, positions = episode(robot, robot.workspace.sample(rng), seed)
        assert steps is not None
        assert (positions >= robot.position_lower_rad).all()
        assert (positions <= robot.position_upper_rad).all()


@pytest.mark.parametrize('optimiser', ['cem', 'mppi', 'random_shooting'])
def test_every_optimiser_settles_on_goals(optimiser):
    robot = load_robot('panda')
    rng = np.random.default_rng(11)
    for seed in range(3):
        steps, _ = episode(robot, robot.workspace.sample(rng), seed, optimiser=optimiser)
        assert steps is not None
