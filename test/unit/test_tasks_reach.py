"""The reach task: what it rewards, and when it counts as done."""

import dataclasses

import numpy as np
import pytest
import torch
from support.asserts import some

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.reach import ReachWeights
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.tasks.task import SuccessCounter

ROBOT = load_robot('panda')
TASK = make_task('reach', ROBOT)
HOME = torch.tensor([*ROBOT.home_rad, *[0.0] * 7], dtype=torch.float64)
ACTION = torch.zeros(7, dtype=torch.float64)
TOOL = TASK.achieved(HOME)


def moved(index, value):
    obs = HOME.clone()
    obs[index] = value
    return obs


def test_layout_is_the_arm_joints_positions_then_velocities():
    assert TASK.state_names == TASK.action_names == ROBOT.joints
    assert (TASK.obs_size, TASK.action_size) == (14, 7)


def test_reward_is_the_sum_of_its_terms():
    obs = torch.randn(4, 3, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    action = torch.rand(3, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    terms = TASK.terms(obs, action, TOOL)
    assert set(terms) == {field.name for field in dataclasses.fields(ReachWeights)}
    assert torch.allclose(sum(terms.values()), TASK.reward(obs, action, TOOL))
    assert TASK.reward(obs, action, TOOL).shape == (4, 3)


def test_batched_rewards_equal_rewards_one_by_one():
    obs = torch.randn(5, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    action = torch.rand(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    singles = torch.stack([TASK.reward(*pair, TOOL) for pair in zip(obs, action)])
    assert torch.allclose(TASK.reward(obs, action, TOOL), singles)


@pytest.mark.parametrize('name', [field.name for field in dataclasses.fields(ReachWeights)])
def test_each_weight_scales_its_own_term_only(name):
    obs = moved(3, -0.1).index_fill(0, torch.tensor([8]), 1.0)
    goal = TASK.achieved(obs) + torch.tensor([0.01, 0.0, 0.0])
    low = dataclasses.replace(ROBOT, workspace=dataclasses.replace(ROBOT.workspace, lowest_link_m=float(goal[2])))
    task, weights = make_task('reach', low), ReachWeights()
    before = task.terms(obs, ACTION + 0.5, goal, weights)
    after = task.terms(obs, ACTION + 0.5, goal, dataclasses.replace(weights, **{name: 2.0 * getattr(weights, name)}))
    assert float(before[name]) != 0.0
    assert all(torch.allclose(after[term], before[term] * (2.0 if term == name else 1.0)) for term in some(before))


def test_nearer_is_better():
    rewards = [float(TASK.reward(HOME, ACTION, TOOL + torch.tensor([shift, 0.0, 0.0]))) for shift in (0.0, 0.01, 0.05, 0.3, 0.6)]
    assert rewards == sorted(rewards, reverse=True)


def test_speed_costs_at_the_goal_and_little_away_from_it():
    at_goal, away = (float(TASK.terms(moved(9, 1.0), ACTION, TOOL + shift)['speed']) for shift in (0.0, 0.3))
    assert at_goal < 100.0 * away < 0.0


def test_joint_limits_cost_within_their_margin_only():
    lower = ROBOT.position_lower_rad[1]
    costs = [float(TASK.terms(moved(1, lower + room), ACTION, TOOL)['limits']) for room in (-0.1, 0.0, 0.1, 0.2, 0.3)]
    assert costs[0] < costs[1] < costs[2] < 0.0
    assert costs[3] == pytest.approx(0.0, abs=1e-9)
    assert costs[4] == 0.0


def test_the_tool_may_stand_at_the_lowest_goal_for_free_but_not_at_the_floor():
    def clearance(height):
        low = dataclasses.replace(ROBOT, workspace=dataclasses.replace(ROBOT.workspace, lowest_link_m=float(TOOL[2]) - height))
        return float(make_task('reach', low).terms(HOME, ACTION, TOOL)['clearance'])

    assert clearance(ROBOT.workspace.lower_m[2] - ROBOT.workspace.lowest_link_m + 1e-6) == 0.0
    assert clearance(0.0) < -1.0


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('weights', [None, ReachWeights(distance=7.0, speed=0.3, clearance=0.1)])
def test_objective_is_the_reward_bound_to_goal_and_weights(dtype, weights):
    obs = torch.randn(4, 3, 14, generator=torch.Generator().manual_seed(0), dtype=dtype)
    action = torch.rand(4, 1, 7, generator=torch.Generator().manual_seed(1), dtype=dtype)
    wanted = TASK.reward(obs, action, (0.5, 0.1, 0.3), weights)
    assert torch.equal(TASK.objective((0.5, 0.1, 0.3), weights)(obs, action), wanted)


def test_objectives_of_one_task_differ_in_their_parameters_alone():
    obs, action = HOME.float(), ACTION.float()
    one, other = TASK.objective((0.5, 0.1, 0.3)), TASK.objective(TOOL, ReachWeights(effort=3.0, precision=4.0))
    assert one.kind == other.kind != make_task('reach', ROBOT).objective(TOOL).kind
    static = torch.zeros(len(one.parameters))
    bound = one.at(static)
    for objective in (one, other):
        static.copy_(objective.parameters)
        assert bound(obs, action) == objective(obs, action)
    assert one(obs, action) != other(obs, action)


def test_within_means_at_most_two_centimetres():
    goals = [TOOL + torch.tensor([0.0, shift, 0.0]) for shift in (0.0199, 0.0201)]
    assert [bool(TASK.is_within(HOME, goal)) for goal in goals] == [True, False]
    assert float(TASK.distance(HOME, goals[0])) == pytest.approx(0.0199)


def test_observations_as_numpy_states_give_them_will_do():
    obs = torch.from_numpy(np.concatenate([ROBOT.home_rad, np.zeros(7)]))
    assert float(TASK.distance(obs, TOOL.numpy())) == pytest.approx(0.0)


def test_success_needs_consecutive_steps_and_then_stays():
    counter = SuccessCounter(0.3, 0.1)
    assert [counter.update(within) for within in (True, True, False, True, True, True, False)] == [False] * 5 + [True] * 2
    counter.reset()
    assert not counter.update(True)


@pytest.mark.parametrize(('settle_s', 'period_s', 'steps'), [(1.0, 0.05, 20), (1.0, 0.1, 10), (0.25, 0.1, 2), (0.0, 0.1, 1)])
def test_a_goal_is_held_as_long_at_every_control_rate(settle_s, period_s, steps):
    counter = SuccessCounter(settle_s, period_s)
    assert [counter.update(True) for _ in range(steps + 1)].index(True) == steps - 1


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match='there is no task \'pull\'; known: lift, pick_place, push, reach'):
        make_task('pull', ROBOT)


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match=r'ReachWeights.speed needs a value in \[0.0, inf\], got -1.0'):
        ReachWeights(speed=-1.0)
