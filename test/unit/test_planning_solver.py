"""The solver of the horizon against known answers: Riccati's gain, finite differences, distances by hand, ways around boxes."""

import dataclasses

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are
from support.ramp_arm import PERIOD_S, ramp_parameters

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble.mean import MeanModel
from mbrl_ros.planning.solver.clearance import Clearance, nearest_to_box
from mbrl_ros.planning.solver.cost import CostWeights
from mbrl_ros.planning.solver.guide import Guide
from mbrl_ros.planning.solver.horizon import HorizonProblem, SolverConfig, Start
from mbrl_ros.planning.solver.quadratic import LeastSquares, QuadraticSolver, condensed
from mbrl_ros.planning.solver.real_time import choose
from mbrl_ros.planning.solver.search import SearchConfig, WeightDistribution, next_generation
from mbrl_ros.robots.profile import load_robot

pytest.importorskip('casadi', reason='the extra solver is not installed')
ROBOT = load_robot('panda')
MODEL = MeanModel(ramp_parameters(ROBOT.max_velocity_rad_s))
HOME, STILL = np.array(ROBOT.home_rad), np.zeros(7)
#: A wall right below the tool at home.
WALL = (0.3, -0.06, 0.0, 0.7, 0.06, 0.4)


def at_rest(q=HOME):
    return Start(np.concatenate([q, STILL]), STILL, STILL)


@pytest.mark.parametrize('size', [1, 3])
def test_without_limits_it_is_the_linear_quadratic_regulator(size):
    one, zero, period = np.eye(size), np.zeros((size, size)), 0.1
    transition, control = np.block([[one, period * one], [zero, one]]), np.vstack([0.5 * period**2 * one, period * one])
    stage, effort = np.diag(np.r_[np.full(size, 2.0), np.full(size, 0.3)]), 0.5 * one
    value = solve_discrete_are(transition, control, stage, effort)
    gain = np.linalg.solve(effort + control.T @ value @ control, control.T @ value @ transition)
    start, horizon = np.random.default_rng(size).normal(size=2 * size), 15
    moves = condensed(*(np.broadcast_to(matrix, (horizon, *matrix.shape)) for matrix in (transition, control)))
    free = np.array([np.linalg.matrix_power(transition, step) @ start for step in range(1, horizon + 1)])
    cost = LeastSquares(horizon * size)
    for step in range(horizon):
        root = np.linalg.cholesky(value if step + 1 == horizon else stage).T
        cost.add(root @ free[step], root @ moves[step].reshape(2 * size, -1))
    cost.add(np.zeros(horizon * size), np.eye(horizon * size), np.tile(np.diag(effort), horizon))
    none = np.full(horizon * size, 1e3)
    actions = QuadraticSolver(horizon * size, 1).solve(cost, (-none, none), np.zeros((1, horizon * size)), (-none[:1], none[:1]))
    np.testing.assert_allclose(actions[:size], -gain @ start, atol=1e-5)
    total = 0.5 * actions @ cost.hessian @ actions + cost.gradient @ actions
    fixed = 0.5 * sum(free[step] @ (value if step + 1 == horizon else stage) @ free[step] for step in range(horizon))
    assert total + fixed + 0.5 * start @ stage @ start == pytest.approx(0.5 * start @ value @ start, rel=1e-5)


def test_a_programme_without_a_solution_has_none():
    solver, cost = QuadraticSolver(2, 1), LeastSquares(2)
    ones = np.ones(2)
    assert solver.solve(cost, (-ones, ones), np.ones((1, 2)), (3.0 * ones[:1], 4.0 * ones[:1])) is None
    np.testing.assert_allclose(solver.solve(cost, (-ones, ones), np.ones((1, 2)), (ones[:1], 4.0 * ones[:1])), 0.5, atol=1e-9)


@pytest.mark.parametrize('start, end, distance', [
    ((2.0, 0.5, 0.5), (4.0, 0.5, 0.5), 1.0), ((-2.0, 2.0, 0.5), (3.0, 2.0, 0.5), 1.0),
    ((2.0, 2.0, 2.0), (3.0, 3.0, 3.0), 3**0.5), ((2.0, 0.0, 0.5), (0.0, 2.0, 0.5), 0.0),
    ((1.5, 0.5, 0.5), (0.9, 0.5, 0.5), -0.1)])
def test_distances_of_a_segment_from_the_unit_cube(start, end, distance):
    points, normals, values = nearest_to_box(*map(np.array, (start, end)), np.zeros(3), np.ones(3))
    assert values.min() == pytest.approx(distance, abs=2e-3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1.0)
    np.testing.assert_array_equal(points[1:], [start, end])


def test_gradients_of_distances_and_tool_are_those_of_finite_differences():
    clearance, step = Clearance(ROBOT, WALL), 1e-6
    q = HOME + np.random.default_rng(1).uniform(-0.3, 0.3, (5, 7))
    seen = clearance.look(q)
    samples, pairs = np.nonzero(np.ones_like(seen.values))
    gradients, jacobian = clearance.gradients(seen, samples, pairs), clearance.tool_jacobian(seen)
    for joint in range(7):
        ahead, behind = (clearance.look(q + sign * np.eye(7)[joint]) for sign in (step, -step))
        change = (ahead.values - behind.values)[samples, pairs] / (2.0 * step)
        # Where the nearest point jumps from one end of a segment to the other, there is no derivative.
        assert np.mean(np.abs(change - gradients[:, joint]) < 1e-4) > 0.99
        np.testing.assert_allclose(jacobian[..., joint], (ahead.tool - behind.tool) / (2.0 * step), atol=1e-6)


def test_the_linearised_step_of_the_problem_is_that_of_finite_differences():
    q_moves = condensed(*MODEL.linearise(np.zeros((4, 14)), np.zeros((4, 7))))
    actions = np.random.default_rng(2).uniform(-0.5, 0.5, (4, 7))
    problem = HorizonProblem(ROBOT, PERIOD_S, SolverConfig(horizon=4))
    ahead, now = (problem.predict(MODEL, at_rest(), share * actions).obs[1:] for share in (1.0, 0.0))
    np.testing.assert_allclose(np.einsum('hotj,tj->ho', q_moves, actions), ahead - now, atol=1e-6)


@pytest.mark.parametrize('jerk_scale', [1.0, 0.02])
def test_plans_from_random_starts_keep_every_limit(jerk_scale):
    config = SolverConfig(boxes_m=WALL, jerk_scale=jerk_scale)
    problem, rng, limits = HorizonProblem(ROBOT, PERIOD_S, config), np.random.default_rng(3), np.array(ROBOT.max_velocity_rad_s)
    clearance, bends, iterations = Clearance(ROBOT, WALL), [], 0
    for _ in range(15):
        q = HOME + rng.uniform(-0.4, 0.4, 7)
        previous = rng.uniform(-0.15, 0.15, 7)
        start = Start(np.concatenate([q, previous * limits]), previous, previous)
        chosen = choose(problem, MODEL, start, problem.braking(start), ROBOT.workspace.sample(rng), CostWeights())
        if clearance.look(q[None]).values.min() < config.margin_m:
            continue
        iterations += chosen.iterations
        path = chosen.path
        commands = np.concatenate([[previous, previous], path.actions]) * limits
        acceleration = np.diff(commands, axis=0) / PERIOD_S
        bends.append(np.abs(np.diff(acceleration, axis=0) / PERIOD_S / ROBOT.max_jerk_rad_s3).max())
        assert (np.abs(path.actions) <= 1.0).all() and (np.abs(path.obs[:, 7:]) <= limits).all()
        assert (path.obs[:, :7] >= ROBOT.position_lower_rad).all() and (path.obs[:, :7] <= ROBOT.position_upper_rad).all()
        assert (np.abs(acceleration) <= np.array(ROBOT.max_acceleration_rad_s2) + 1e-6).all()
        between = (path.obs[:-1, None, :7] + np.linspace(0, 1, 9)[:, None] * np.diff(path.obs[:, :7], axis=0)[:, None])
        assert clearance.look(between.reshape(-1, 7)).values.min() > 0.0
        np.testing.assert_allclose(path.obs[-1, 7:], 0.0, atol=1e-6)
    assert len(bends) > 5 and iterations > 5 and max(bends) <= jerk_scale + 1e-6


def follow(problem, goal, steps):
    """Positions on the way in the model itself, and the notes."""
    start, actions, way, notes = at_rest(), np.zeros((SolverConfig.horizon, 7)), [HOME], []
    for _ in range(steps):
        chosen = choose(problem, MODEL, start, actions, np.array(goal), CostWeights())
        notes.append(chosen.note)
        start = Start(chosen.path.obs[1], chosen.path.actions[0], start.previous)
        actions = chosen.next_actions
        way.append(start.obs[:7])
    return np.array(way), notes


def test_a_box_between_start_and_goal_is_gone_round():
    aside, goal = (0.45, 0.3, 0.2), (0.45, -0.3, 0.2)
    way, _ = follow(HorizonProblem(ROBOT, PERIOD_S, SolverConfig()), aside, 40)
    boxed = Clearance(ROBOT, WALL)
    problem = HorizonProblem(ROBOT, PERIOD_S, SolverConfig(boxes_m=WALL))

    def across(problem):
        start, actions, seen = at_rest(way[-1]), np.zeros((SolverConfig.horizon, 7)), []
        for _ in range(80):
            chosen = choose(problem, MODEL, start, actions, np.array(goal), CostWeights())
            start, actions = Start(chosen.path.obs[1], chosen.path.actions[0], start.previous), chosen.next_actions
            seen.append(boxed.look(start.obs[None, :7]))
        return np.linalg.norm(seen[-1].tool[0] - goal), min(one.values.min() for one in seen)

    assert across(HorizonProblem(ROBOT, PERIOD_S, SolverConfig()))[1] < 0.0  # Straight on it would hit the wall.
    gap, nearest = across(problem)
    assert gap < 0.01 and nearest >= SolverConfig.least_margin_m - 1e-4


def test_a_start_within_a_box_falls_back_on_braking_and_says_so():
    problem = HorizonProblem(ROBOT, PERIOD_S, SolverConfig(boxes_m=(0.2, -0.1, 0.4, 0.6, 0.1, 0.6)))
    start = Start(np.concatenate([HOME, STILL]), np.full(7, 0.3), np.full(7, 0.3))
    chosen = choose(problem, MODEL, start, np.zeros((SolverConfig.horizon, 7)), np.array([0.5, 0.3, 0.3]), CostWeights())
    assert chosen.iterations == 0 and 'braking, beyond distance from a box or the floor' in chosen.note
    np.testing.assert_array_equal(chosen.path.actions, problem.braking(start))
    assert (np.diff(np.abs(chosen.path.actions), axis=0) <= 0.0).all() and not chosen.path.actions[-1].any()


def test_a_box_may_be_left_where_the_start_is_nearer_than_the_margin():
    below = (0.2, -0.1, 0.0, 0.6, 0.1, 0.466)
    assert 0.0 < Clearance(ROBOT, below).look(HOME[None]).values.min() < SolverConfig.least_margin_m
    problem = HorizonProblem(ROBOT, PERIOD_S, SolverConfig(boxes_m=below))
    _, notes = follow(problem, (0.4, 0.0, 0.7), 5)
    assert notes == [''] * 5


@pytest.mark.parametrize('joint, place', [(3, 'position_upper_rad'), (5, 'position_lower_rad')])
@pytest.mark.parametrize('beyond', [-0.01, 0.005])
def test_a_joint_may_leave_its_limit_and_goes_no_further(joint, place, beyond):
    limit = getattr(ROBOT, place)[joint]
    outwards = 1.0 if place == 'position_upper_rad' else -1.0
    q = HOME.copy()
    q[joint] = limit + outwards * beyond
    problem = HorizonProblem(ROBOT, PERIOD_S, SolverConfig())
    start, actions, notes, places = at_rest(q), np.zeros((SolverConfig.horizon, 7)), [], []
    for _ in range(15):
        chosen = choose(problem, MODEL, start, actions, np.array([0.4, 0.2, 0.4]), CostWeights())
        start, actions = Start(chosen.path.obs[1], chosen.path.actions[0], start.previous), chosen.next_actions
        notes.append(chosen.note)
        places.append(outwards * (start.obs[joint] - limit))
    assert notes == [''] * 15 and max(places) <= beyond + 1e-6 and places[-1] < -0.02


def test_without_time_the_last_plan_is_followed():
    problem = HorizonProblem(ROBOT, PERIOD_S, SolverConfig())
    arguments = problem, MODEL, at_rest()
    plan = choose(*arguments, np.zeros((SolverConfig.horizon, 7)), np.array([0.5, 0.3, 0.3]), CostWeights())
    late = choose(*arguments, plan.path.actions, np.array([0.5, -0.3, 0.3]), CostWeights(), lambda: True)
    assert (late.iterations, late.note) == (0, 'no time for a solve: following the last plan')
    np.testing.assert_array_equal(late.path.actions, plan.path.actions)


def test_the_guide_leads_around_and_its_way_is_clear():
    box = np.array([[[0.3, -0.1, 0.0], [0.7, 0.1, 0.4]]])
    guide, place, goal = Guide(box, 0.03), np.array([0.5, 0.25, 0.1]), np.array([0.5, -0.25, 0.1])
    np.testing.assert_array_equal(guide.target(place, np.array([0.2, 0.3, 0.3])), [0.2, 0.3, 0.3])
    way = [place]
    while (way[-1] != goal).any():
        way.append(guide.target(way[-1], goal))
        assert not ((way[-1] > box[0, 0] - 0.05) & (way[-1] < box[0, 1] + 0.05)).all() and len(way) < 10
    # Over the box it is 0.3 m up, 0.5 m along and 0.3 m down, along its end a little less.
    assert 0.6 < np.linalg.norm(np.diff(way, axis=0), axis=-1).sum() < 1.1
    np.testing.assert_array_equal(Guide(np.empty((0, 2, 3)), 0.0).target(place, -goal), -goal)


def test_the_search_finds_the_weights_that_earn_most():
    wanted, rng = CostWeights(terminal=20.0, change=0.3, speed=0.03), np.random.default_rng(0)
    found = WeightDistribution.around(CostWeights(), 1.0)
    config = SearchConfig(population=24, num_elites=6, min_std=0.02)
    for _ in range(40):
        found, before, after = next_generation(found, lambda weights: -np.square(weights.vector() - wanted.vector()), config, rng)
        assert after >= before
    np.testing.assert_allclose(found.weights.vector(), wanted.vector(), atol=0.15)


def test_weights_beyond_their_ranges_are_brought_back():
    assert CostWeights.of_vector(CostWeights().vector()).vector() == pytest.approx(CostWeights().vector())
    assert CostWeights.of_vector(np.full(5, 1e3)).softness_m == 1.0


@pytest.mark.parametrize('settings, text', [
    ({'boxes_m': (0.0, 0.0, 0.0, 1.0, 1.0)}, 'SolverConfig.boxes_m needs 6 numbers for each box'),
    ({'boxes_m': (0.0, 0.0, 0.0, 1.0, 1.0, -1.0)}, 'SolverConfig.boxes_m needs 6 numbers for each box'),
    ({'margin_m': 0.01}, 'least_margin_m needs at most margin_m 0.01, got 0.015')])
def test_settings_that_do_not_fit_are_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        SolverConfig(**settings)


def test_boxes_need_capsules():
    with pytest.raises(ConfigError, match='the profile of panda has none'):
        Clearance(dataclasses.replace(ROBOT, capsules=()), WALL)
