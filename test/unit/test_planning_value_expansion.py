"""Short plans with a value at their end: the policy, unless something is surely better."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are
from support.planning_problems import MODEL, OBS, Poisoned, TickingClock, reward

from mbrl_ros.errors import PlanningError
from mbrl_ros.planning.value_expansion import ExpansionConfig, ValueExpansion

DISCOUNT = 0.9
CONFIG = ExpansionConfig(horizon=3, num_candidates=24, num_elites=4, num_iterations=3)
STEP = np.float64(MODEL.transition), np.float64(MODEL.control)


@dataclasses.dataclass
class Linear:
    """A linear policy with quadratic values by each critic; implements `Guide`."""

    gain: np.ndarray
    values: tuple
    discount: float = DISCOUNT

    def action(self, obs):
        return (-obs @ torch.as_tensor(self.gain, dtype=obs.dtype).T).clamp(-1.0, 1.0)

    def value(self, obs):
        return torch.stack([-(obs @ torch.as_tensor(matrix, dtype=obs.dtype) * obs).sum(dim=-1) for matrix in self.values])


def cost_after(gain):
    """Matrix P of the value -x' P x of a linear policy, from the sum of its costs."""
    transition, control = STEP
    closed, total, reached = transition - control @ gain, np.zeros((2, 2)), np.eye(2)
    for step in range(400):
        following = closed @ reached
        action = gain @ reached
        total += DISCOUNT**step * (following.T @ following + 0.1 * action.T @ action)
        reached = following
    return total


def optimal():
    """The gain that maximises the discounted return of `reward`, which is of the observation after an action."""
    transition, control = (np.sqrt(DISCOUNT) * part for part in STEP)
    riccati = solve_discrete_are(transition, control, np.eye(2), DISCOUNT * np.array([[0.1]]))
    return np.linalg.solve(DISCOUNT * np.array([[0.1]]) + control.T @ riccati @ control, control.T @ riccati @ transition)


def planned(guide, obs=OBS, model=MODEL, config=CONFIG, previous=0.0, deadline_s=None, seed=3, **arguments):
    expansion = ValueExpansion(config, **arguments)
    expansion.reset(seed)
    return expansion.plan(model, guide, obs, reward, np.array([previous]), deadline_s)


SMALL = 0.2 * OBS


def test_nothing_is_better_than_the_best_policy_and_its_value_is_that_of_the_closed_form():
    gain = optimal()
    matrix = cost_after(gain)
    plan = planned(Linear(gain, (matrix, matrix)), SMALL)
    np.testing.assert_allclose(plan.actions[0], -gain @ SMALL, atol=1e-6)
    assert plan.value == pytest.approx(-SMALL @ matrix @ SMALL, rel=1e-4)


def test_a_policy_that_rests_is_improved_on_and_the_value_is_the_return_step_by_step():
    rest = np.zeros((1, 2))
    matrix = cost_after(rest)
    plan = planned(Linear(rest, (matrix, matrix)), SMALL)
    assert plan.value > -SMALL @ matrix @ SMALL + 0.01
    obs, total = SMALL, 0.0
    for step, action in enumerate(plan.actions):
        obs = STEP[0] @ obs + STEP[1] @ action
        total += DISCOUNT**step * float(reward(torch.tensor(obs), torch.tensor(action)))
        np.testing.assert_allclose(plan.mean_obs[step + 1], obs, atol=1e-5)
    assert plan.value == pytest.approx(total - DISCOUNT**3 * obs @ matrix @ obs, rel=1e-4)


@pytest.mark.parametrize(('caution', 'is_policy'), [(1.0, True), (0.0, False)])
def test_where_the_critics_contradict_each_other_the_policy_acts(caution, is_policy):
    rest, agreed = np.zeros((1, 2)), cost_after(np.zeros((1, 2)))
    apart = 500.0 * np.array([[0.0, 0.0], [0.0, 1.0]])
    config = dataclasses.replace(CONFIG, caution=caution)
    plan = planned(Linear(rest, (agreed + apart, agreed - apart)), SMALL, config=config)
    assert (abs(plan.actions[0, 0]) < 1e-6) == is_policy


def test_equal_seeds_give_equal_plans_within_bounds_and_limits_of_change():
    guide = Linear(np.array([[-30.0, 0.0]]), (np.eye(2), np.eye(2)))
    first, second, other = (planned(guide, max_change=np.array([0.25]), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.actions, second.actions)
    assert (first.actions != other.actions).any()
    steps = np.diff(first.actions[:, 0], prepend=0.0)
    assert np.abs(steps).max() <= 0.25 + 1e-6 and np.abs(first.actions).max() <= 1.0


def test_candidates_that_diverge_are_never_chosen():
    guide = Linear(np.zeros((1, 2)), (cost_after(np.zeros((1, 2))),) * 2)
    model = Poisoned(MODEL.transition, MODEL.control)
    plan = planned(guide, SMALL, model)
    assert plan.num_nonfinite and np.isfinite(plan.mean_obs).all() and plan.actions.max() <= 0.0
    model.threshold = -2.0
    with pytest.raises(PlanningError, match="the policy's own path has no finite return"):
        planned(guide, SMALL, model)


@pytest.mark.parametrize(('deadline_s', 'iterations'), [(0.0, 1), (1.5, 1), (2.0, 2), (100.0, 3)])
def test_an_iteration_that_would_end_after_the_deadline_is_left_out(deadline_s, iterations):
    guide = Linear(np.zeros((1, 2)), (np.eye(2), np.eye(2)))
    assert planned(guide, deadline_s=deadline_s, clock=TickingClock()).iterations == iterations
