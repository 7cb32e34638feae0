"""Goals are goals: what the workspace samples, the arm reaches, within its limits and clear of the table."""

import numpy as np
import pytest
import torch

from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_sim.world import ArmWorld, WorldConfig

NUM_GOALS = 300
NUM_STARTS = 12
MARGIN_RAD = 0.1


def solve(chain, robot, goals):
    """Damped least squares from random starts: joint positions (G, starts, J) and errors (G, starts), m."""
    lower = torch.tensor(robot.position_lower_rad, dtype=torch.float64) + MARGIN_RAD
    upper = torch.tensor(robot.position_upper_rad, dtype=torch.float64) - MARGIN_RAD
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor(goals).repeat_interleave(NUM_STARTS, dim=0)
    start = torch.rand(len(target), chain.num_joints, generator=generator, dtype=torch.float64)
    q = lower + (upper - lower) * start
    damping = 1e-3 * torch.eye(3, dtype=torch.float64)
    for _ in range(60):
        q = q.detach().requires_grad_()
        point = chain.position(q)
        rows = [torch.autograd.grad(point[:, axis].sum(), q, retain_graph=True)[0] for axis in range(3)]
        jacobian = torch.stack(rows, dim=1)  # (B, 3, J)
        error = (target - point.detach()).unsqueeze(-1)
        change = jacobian.mT @ torch.linalg.solve(jacobian @ jacobian.mT + damping, error)
        q = torch.clamp(q.detach() + change.squeeze(-1).clamp(-0.4, 0.4), lower, upper)
    errors = (chain.position(q) - target).norm(dim=-1)
    return q.reshape(len(goals), NUM_STARTS, -1), errors.reshape(len(goals), NUM_STARTS)


@pytest.mark.parametrize('name', ['panda', 'iiwa'])
def test_every_sampled_goal_is_reached_within_limits_and_clear_of_the_table(name):
    robot, rng = load_robot(name), np.random.default_rng(11)
    chain = KinematicChain.of_robot(robot)
    goals = np.array([robot.workspace.sample(rng) for _ in range(NUM_GOALS)])
    solutions, errors = solve(chain, robot, goals)
    heights = chain.points(solutions)[..., 2:, 2].amin(dim=-1)
    fits = (errors < 0.005) & (heights >= robot.workspace.lowest_link_m)
    world = ArmWorld(robot, WorldConfig(cube=False))

    def is_clear(q):
        world.place_arm(q.numpy())
        return not world.touches_table()

    missed = [goal for goal, candidates, fit in zip(goals, solutions, fits) if not any(map(is_clear, candidates[fit]))]
    world.close()
    assert not missed, f'{len(missed)} of {NUM_GOALS} goals are out of reach, such as {missed[0]}'


@pytest.mark.parametrize('name', ['panda', 'iiwa'])
def test_goals_fill_more_than_two_hundred_litres(name):
    workspace, rng = load_robot(name).workspace, np.random.default_rng(0)
    points = rng.uniform(workspace.lower_m, workspace.upper_m, (5000, 3))
    share = np.mean([not workspace.refusal(point) for point in points])
    assert share * np.prod(np.subtract(workspace.upper_m, workspace.lower_m)) > 0.2
