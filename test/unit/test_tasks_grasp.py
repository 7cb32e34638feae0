"""Lift, pick and place, push: what they reward, when they count as done, and which goals they draw and refuse."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from support.asserts import some

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.tabletop import BODY, BODY_VELOCITY, BODY_YAW, OPENING, TOOL, TOOL_YAW
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.tasks.grasp import GraspWeights
from mbrl_ros.tasks.push import PushConfig, PushWeights
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.types import RobotState

ROBOT = load_robot('panda')
NAMES = ('lift', 'pick_place', 'push')
TASKS = {name: make_task(name, ROBOT) for name in NAMES}
LIFT, PICK_PLACE, PUSH = TASKS.values()
WEIGHTS = {'lift': GraspWeights, 'pick_place': GraspWeights, 'push': PushWeights}
#: Twists neither tilt the tool nor leave joints to themselves, so that two terms have nothing to scale here.
CASES = [(name, field.name) for name, kind in WEIGHTS.items() for field in dataclasses.fields(kind)
         if field.name not in ('upright', 'posture')]
ACTION = torch.zeros(5, dtype=torch.float64)
ON_TABLE_M = 0.02
GOAL = (0.55, 0.1, 0.14)
REGION = np.array(((0.35, -0.25), (0.65, 0.25)))
DRAWS = 200

every_task = pytest.mark.parametrize('task', TASKS.values(), ids=NAMES)


def scene(tool=(0.4, 0.0, 0.2), body=(0.45, 0.05, ON_TABLE_M), opening=0.08, tool_yaw=0.0, body_yaw=0.0, body_speed=0.0):
    """Observation of a gripper over a table, float64, shape (18,)."""
    obs = torch.zeros(18, dtype=torch.float64)
    obs[TOOL], obs[BODY] = torch.tensor(tool, dtype=torch.float64), torch.tensor(body, dtype=torch.float64)
    obs[OPENING], obs[TOOL_YAW], obs[BODY_YAW] = opening, tool_yaw, body_yaw
    obs[BODY_VELOCITY] = body_speed
    return obs


def random_steps(*leading, seed=0, dtype=torch.float64):
    """Observations, shape (*leading, 18), of bodies some centimetres around the goal, and actions, shape (*leading, 5)."""
    generator = torch.Generator().manual_seed(seed)
    obs = 0.1 * torch.randn(*leading, 18, generator=generator, dtype=dtype)
    for part in (TOOL, BODY):
        obs[..., part] += torch.tensor(GOAL, dtype=dtype)
    return obs, 2.0 * torch.rand(*leading, 5, generator=generator, dtype=dtype) - 1.0


def state(x=0.5, y=0.0, z=ON_TABLE_M):
    position = np.array([*ROBOT.home_rad, 0.08, x, y, z, 0.0, 0.0, 0.3])
    return RobotState(0, LIFT.space.raw_names, position, np.zeros(len(position)))


@functools.cache
def draws(task):
    """Places of bodies and a goal for each, both of shape (DRAWS, 3)."""
    places = [np.array([*place, ON_TABLE_M]) for place in np.random.default_rng(1).uniform(*REGION, (DRAWS, 2))]
    rng = np.random.default_rng(0)
    return np.array(places), np.array([task.sample_goal(rng, state(*place)) for place in places])


@every_task
def test_layout_is_that_of_the_space(task):
    assert isinstance(task.space, ToolSpace)
    assert (task.state_names, task.action_names) == (task.space.state_names, task.space.action_names)
    assert (task.obs_size, task.action_size) == (18, 5)


@every_task
def test_reward_is_the_sum_of_its_terms(task):
    obs, action = random_steps(4, 3)
    terms = task.terms(obs, action, GOAL)
    assert list(terms) == [field.name for field in dataclasses.fields(task.weights)]
    assert task.reward(obs, action, GOAL).shape == (4, 3)
    assert torch.allclose(sum(terms.values()), task.reward(obs, action, GOAL))


@every_task
def test_terms_are_rewards_above_zero_and_costs_below(task):
    for name, value in some(task.terms(*random_steps(50), GOAL).items()):
        # An opening wider than the gripper's, as random numbers may be, counts as less than closed.
        if name not in ('close', 'open'):
            assert (value * (1.0 if name in task.rewards else -1.0) >= 0.0).all(), name


@pytest.mark.parametrize(('name', 'term'), CASES)
def test_each_weight_scales_its_own_term_only(name, term):
    task, weights = TASKS[name], WEIGHTS[name]()
    low = ROBOT.workspace.lowest_tool_m + 0.002
    obs = scene(tool=(0.5, 0.08, low), opening=0.03, tool_yaw=0.2, body=(0.52, 0.09, 0.02), body_speed=0.1)
    before = task.terms(obs, ACTION + 0.5, GOAL, weights)
    after = task.terms(obs, ACTION + 0.5, GOAL, dataclasses.replace(weights, **{term: 3.0 * getattr(weights, term)}))
    assert float(before[term]) != 0.0
    assert all(torch.allclose(after[other], before[other] * (3.0 if other == term else 1.0)) for other in some(before))


@every_task
def test_weights_of_zero_leave_no_reward(task):
    nothing = type(task.weights)(**{field.name: 0.0 for field in dataclasses.fields(task.weights)})
    assert not task.reward(*random_steps(7), GOAL, nothing).any()


@every_task
def test_batched_rewards_equal_rewards_one_by_one(task):
    obs, action = random_steps(4, 3)
    singles = [task.reward(*pair, GOAL) for pair in zip(obs.view(12, 18), action.view(12, 5))]
    assert torch.allclose(task.reward(obs, action, GOAL), torch.stack(singles).view(4, 3))
    assert torch.allclose(task.distance(obs, GOAL).view(12), torch.stack([task.distance(row, GOAL) for row in obs.view(12, 18)]))
    assert torch.equal(task.is_within(obs, GOAL), task.distance(obs, GOAL) <= task.goal_tolerance_m)


@every_task
def test_leading_axes_broadcast(task):
    obs, action = random_steps(4, 3)
    wanted = task.reward(obs, action[0].expand(4, 3, 5), GOAL)
    assert torch.allclose(task.reward(obs, action[0], GOAL), wanted)


@every_task
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_objective_is_the_reward_bound_to_goal_and_weights(task, dtype):
    obs, action = random_steps(4, 3, dtype=dtype)
    for weights in (None, type(task.weights)(goal=7.0, effort=0.3, clearance=0.1)):
        assert torch.equal(task.objective(GOAL, weights)(obs, action), task.reward(obs, action, GOAL, weights))


@every_task
def test_objectives_of_one_task_differ_in_their_parameters_alone(task):
    obs, action = random_steps()
    one, other = task.objective(GOAL), task.objective((0.4, -0.1, 0.02), type(task.weights)(effort=3.0))
    assert one.kind == other.kind != make_task(task.name, ROBOT).objective(GOAL).kind
    static = torch.zeros(len(one.parameters), dtype=torch.float64)
    bound = one.at(static)
    for objective in (one, other):
        static.copy_(objective.parameters)
        assert bound(obs, action) == objective(obs, action)
    assert one(obs, action) != other(obs, action)


@every_task
def test_gradients_are_finite_where_tool_body_and_goal_coincide(task):
    obs = scene(tool=GOAL, body=GOAL).requires_grad_()
    action = ACTION.clone().requires_grad_()
    task.reward(obs, action, GOAL).backward()
    assert obs.grad.isfinite().all() and action.grad.isfinite().all()


@every_task
def test_a_body_that_rests_at_the_goal_is_worth_more_than_one_that_moves(task):
    rest, moving = (float(task.reward(scene(tool=GOAL, body=GOAL, body_speed=speed), ACTION, GOAL)) for speed in (0.0, 0.3))
    assert rest > moving


@every_task
def test_the_tool_may_stand_some_way_above_the_lowest_allowed_for_free_but_not_below(task):
    lowest, room = ROBOT.workspace.lowest_tool_m, task.config.clearance_m
    costs = [float(task.terms(scene(tool=(0.4, 0.0, lowest + height)), ACTION, GOAL)['clearance'])
             for height in (-room, 0.0, 0.5 * room, 1.001 * room)]
    assert costs[0] < costs[1] < costs[2] < costs[3] == 0.0


@pytest.mark.parametrize('task', [LIFT, PICK_PLACE], ids=['lift', 'pick_place'])
def test_where_between_the_fingers_a_body_is_makes_no_difference_to_being_at_it(task):
    beside = [scene(tool=(0.5, 0.1, 0.2), body=(0.5, 0.1 + away, 0.2)) for away in (0.0, 0.5 * task.config.held_m, 0.02, 0.04)]
    near = [float(task.terms(obs, ACTION, GOAL)['near']) for obs in beside]
    assert near[0] == near[1] == task.weights.near > near[2] > near[3]


@pytest.mark.parametrize('task', [LIFT, PICK_PLACE], ids=['lift', 'pick_place'])
def test_beside_the_body_the_tool_is_wanted_above_it_and_over_it_at_it(task):
    def approach(beside, above):
        return float(task.terms(scene(tool=(0.5 - beside, 0.1, 0.02 + above), body=(0.5, 0.1, 0.02)), ACTION, GOAL)['approach'])

    assert approach(0.06, 0.09) > approach(0.06, 0.0)
    assert approach(0.0, 0.0) > approach(0.0, 0.05) > approach(0.0, 0.1)
    assert approach(0.2, 0.1) > approach(0.2, 0.2)


@pytest.mark.parametrize('task', [LIFT, PICK_PLACE], ids=['lift', 'pick_place'])
def test_raising_the_body_in_the_gripper_towards_the_goal_raises_the_return(task):
    def total(reached):
        heights = np.linspace(ON_TABLE_M, reached, 12)
        held = torch.stack([scene(tool=(0.5, 0.1, height), body=(0.5, 0.1, height), opening=0.04) for height in heights])
        return float(task.reward(held, ACTION, (0.5, 0.1, 0.14)).sum())

    returns = [total(reached) for reached in (0.02, 0.05, 0.08, 0.11, 0.14)]
    assert returns == sorted(returns) and len(set(returns)) == len(returns)


@pytest.mark.parametrize('task', [LIFT, PICK_PLACE], ids=['lift', 'pick_place'])
def test_the_gripper_is_to_be_open_away_from_the_body_and_closed_at_it(task):
    def reward(opening, tool):
        return float(task.reward(scene(tool=tool, body=(0.5, 0.1, 0.02), opening=opening), ACTION, GOAL))

    assert reward(0.08, (0.5, 0.1, 0.2)) > reward(0.0, (0.5, 0.1, 0.2))
    assert reward(0.04, (0.5, 0.1, 0.02)) > reward(0.08, (0.5, 0.1, 0.02))


@pytest.mark.parametrize('task', [LIFT, PICK_PLACE], ids=['lift', 'pick_place'])
def test_fingers_along_the_sides_of_the_body_are_worth_most_and_any_quarter_turn_of_it_is_alike(task):
    rewards = [float(task.reward(scene(tool_yaw=0.4, body_yaw=0.4 + turn), ACTION, GOAL))
               for turn in (0.0, 0.2, 0.25 * np.pi, 0.5 * np.pi, -np.pi)]
    assert rewards[0] > rewards[1] > rewards[2]
    assert rewards[3] == pytest.approx(rewards[0]) and rewards[4] == pytest.approx(rewards[0])


@pytest.mark.parametrize('angle', [0.0, 0.7, 2.0, -2.5])
def test_standing_behind_the_body_on_the_line_to_the_goal_is_worth_more_to_push_than_elsewhere_around_it(angle):
    body, way = np.array([0.5, 0.0, ON_TABLE_M]), np.array([np.cos(angle), np.sin(angle), 0.0])
    aside = np.array([-way[1], way[0], 0.0])

    def reward(offset):
        return float(PUSH.reward(scene(tool=tuple(body + 0.045 * offset), body=tuple(body)), ACTION, body + 0.2 * way))

    assert reward(-way) > max(reward(aside), reward(-aside)) > reward(way)


@pytest.mark.parametrize('angle', [0.0, 0.7, 2.0, -2.5])
def test_to_push_the_tool_is_wanted_above_the_body_until_it_is_behind_it(angle):
    body, way = np.array([0.5, 0.0, ON_TABLE_M]), np.array([np.cos(angle), np.sin(angle), 0.0])

    def height(behind, above):
        tool = body - behind * way + np.array([0.0, 0.0, above])
        return float(PUSH.terms(scene(tool=tuple(tool), body=tuple(body)), ACTION, body + 0.2 * way)['height'])

    for behind in (PUSH.config.nearest_m, PUSH.config.farthest_m):
        assert height(behind, 0.0) > height(behind, 0.05)
    assert height(-0.06, 0.09) > height(-0.06, 0.0)


def test_places_to_push_from_that_end_before_they_begin_are_refused():
    with pytest.raises(ConfigError, match='nearest_m 0.1 needs to be at most farthest_m 0.08'):
        PushConfig(nearest_m=0.1)


def test_pushing_the_body_towards_the_goal_raises_the_return_of_push():
    rewards = [float(PUSH.reward(scene(tool=(x - 0.045, 0.0, 0.02), body=(x, 0.0, 0.02)), ACTION, (0.6, 0.0, 0.02)))
               for x in (0.4, 0.45, 0.5, 0.55, 0.6)]
    assert rewards == sorted(rewards)


def test_lift_counts_the_height_that_is_missing_and_nothing_else():
    heights = (0.02, 0.1199, 0.1201, 0.17, 0.3)
    lifted = torch.stack([scene(body=(0.6, -0.2, height)) for height in heights])
    torch.testing.assert_close(LIFT.distance(lifted, (0.4, 0.2, 0.17)), torch.tensor([0.15, 0.0501, 0.0499, 0.0, 0.0]).double())
    assert LIFT.is_within(lifted, (0.4, 0.2, 0.17)).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize('way', np.eye(3), ids=list('xyz'))
def test_pick_and_place_ends_within_four_centimetres_in_any_direction(way):
    placed = torch.stack([scene(body=tuple(np.array(GOAL) + away * way)) for away in (0.0, 0.0398, -0.0398, 0.0401, -0.0401)])
    assert PICK_PLACE.is_within(placed, GOAL).tolist() == [True, True, True, False, False]
    torch.testing.assert_close(PICK_PLACE.distance(placed, GOAL), torch.tensor([0.0, 0.0398, 0.0398, 0.0401, 0.0401]).double(),
                               atol=1.1e-3, rtol=0.0)


def test_push_ends_within_four_centimetres_over_the_table_at_whatever_height():
    pushed = torch.stack([scene(body=(0.55 + away, 0.1, height))
                          for away, height in ((0.0398, 0.02), (0.0398, 0.3), (0.0401, 0.02))])
    assert PUSH.is_within(pushed, GOAL).tolist() == [True, True, False]
    assert float(PUSH.distance(pushed[0], GOAL)) == float(PUSH.distance(pushed[1], GOAL))


@pytest.mark.parametrize(('task', 'seconds'), [(LIFT, 1.0), (PICK_PLACE, 0.5), (PUSH, 0.5)], ids=NAMES)
def test_the_goal_has_to_be_held_as_long_as_the_task_says(task, seconds):
    assert task.settle_s == seconds


@every_task
def test_goals_that_are_drawn_are_never_refused(task):
    assert not any(task.goal_refusal(goal) for goal in draws(task)[1])


@every_task
def test_no_goal_that_is_drawn_is_reached_already(task):
    assert not any(task.is_within(scene(body=tuple(place)), goal) for place, goal in zip(*draws(task)))


@every_task
def test_equal_generators_draw_equal_goals(task):
    one, same, other = (task.sample_goal(np.random.default_rng(seed), state()) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    # Lift has one goal for each place of the body.
    assert task is LIFT or (one != other).any()


def test_the_goal_of_lift_is_fifteen_centimetres_above_the_body():
    places, goals = draws(LIFT)
    np.testing.assert_allclose(goals - places, np.broadcast_to([0.0, 0.0, 0.15], goals.shape))


def test_goals_of_push_are_on_the_table_in_the_region_and_some_way_off():
    places, goals = draws(PUSH)
    ways = np.linalg.norm(goals[:, :2] - places[:, :2], axis=1)
    assert ((ways >= 0.1) & (ways <= 0.25)).all() and np.ptp(ways) > 0.1
    assert (goals[:, 2] == ON_TABLE_M).all()
    assert ((goals[:, :2] >= REGION[0]) & (goals[:, :2] <= REGION[1])).all()


def test_goals_of_pick_and_place_are_in_the_region_away_from_the_body_and_half_of_them_on_the_table():
    places, goals = draws(PICK_PLACE)
    assert (np.linalg.norm(goals[:, :2] - places[:, :2], axis=1) >= 0.08).all()
    assert ((goals[:, :2] >= REGION[0]) & (goals[:, :2] <= REGION[1])).all()
    on_table = goals[:, 2] == ON_TABLE_M
    assert 0.4 < on_table.mean() < 0.6
    assert ((goals[~on_table, 2] >= 0.1) & (goals[~on_table, 2] <= 0.3)).all()


@every_task
@pytest.mark.parametrize(('goal', 'reason'), [
    ((0.9, 0.0, 0.02), 'outside the workspace box'), ((0.5, 0.6, 0.02), 'outside the workspace box'),
    ((0.74, 0.4, 0.02), 'from the shoulder; the arm reaches'), ((np.nan, 0.0, 0.02), 'three finite coordinates'),
    ((0.5, 0.0), 'three finite coordinates')])
def test_goals_out_of_reach_are_refused_with_the_reason(task, goal, reason):
    assert reason in task.goal_refusal(np.array(goal))


@every_task
def test_a_goal_where_a_body_lies_on_the_table_is_none_out_of_reach(task):
    assert ROBOT.workspace.lower_m[2] > ON_TABLE_M
    assert task.goal_refusal(np.array([0.5, 0.0, ON_TABLE_M])) == ''


@pytest.mark.parametrize('task', [LIFT, PICK_PLACE], ids=['lift', 'pick_place'])
@pytest.mark.parametrize('height', [-0.1, 0.0, 1.2])
def test_goals_below_what_the_tool_may_reach_or_above_the_workspace_are_refused(task, height):
    assert 'outside the workspace box' in task.goal_refusal(np.array([0.5, 0.0, height]))


def test_the_height_of_a_goal_is_nothing_to_push():
    assert PUSH.goal_refusal(np.array([0.5, 0.0, 1.2])) == ''


@pytest.mark.parametrize('name', NAMES)
def test_a_robot_without_gripper_has_no_such_task(name):
    with pytest.raises(ConfigError, match='iiwa has no gripper'):
        make_task(name, load_robot('iiwa'))


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="there is no task 'pull'; known: lift, pick_place, push, reach"):
        make_task('pull', ROBOT)


@pytest.mark.parametrize('kind', [GraspWeights, PushWeights])
def test_a_negative_weight_is_refused(kind):
    with pytest.raises(ConfigError, match=rf'{kind.__name__}.still needs a value in \[0.0, inf\], got -1.0'):
        kind(still=-1.0)


@pytest.mark.parametrize('task', [LIFT, PICK_PLACE])
def test_at_the_body_a_gripper_that_is_told_to_open_is_worth_less(task):
    """The opening itself hardly says so within one step; a planner that need not care lets go of what it holds."""
    obs = torch.zeros(18, dtype=torch.float64)
    told = torch.zeros(2, 5, dtype=torch.float64)
    told[0, 4], told[1, 4] = -1.0, 1.0
    closing, opening = task.terms(obs, told, GOAL)['close']
    assert closing > opening + 0.4
    away = obs.clone()
    away[0] = 0.5
    closing, opening = task.terms(away, told, GOAL)['close']
    assert abs(closing - opening) < 1e-6
