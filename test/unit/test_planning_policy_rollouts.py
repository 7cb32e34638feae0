"""A plan is the best of a policy's rollouts, in time, within bounds and limits of change, and never one that diverges."""

import numpy as np
import pytest
import torch
from support.planning_problems import MODEL, OBS, TickingClock, reward

from mbrl_ros.errors import PlanningError
from mbrl_ros.planning.policy_rollouts import PolicyRollouts, PolicyRolloutsConfig
from mbrl_ros.planning.propagation import ParticleDraws, rollout
from mbrl_ros.planning.returns import particle_returns


def planned(policy, model=MODEL, deadline_s=None, **arguments):
    rollouts = PolicyRollouts(PolicyRolloutsConfig(num_rollouts=6, horizon=4), **arguments)
    rollouts.reset(3)
    return rollouts.plan(model, policy, OBS, reward, np.zeros(1), deadline_s)


class Constant:
    """Members that always do the same, one by one."""

    def __init__(self, *actions):
        self._actions = torch.tensor(actions).view(-1, 1, 1)

    def actions(self, obs):
        return self._actions.expand(-1, len(obs), 1)


def test_a_plan_is_the_best_of_the_rollouts():
    plan = planned(Constant(-0.5, 0.7))
    draws = ParticleDraws.undrawn(MODEL, 4, 1, 'expectation')
    actions = torch.as_tensor(plan.elites, dtype=torch.float32)
    path = rollout(MODEL, torch.as_tensor(OBS, dtype=torch.float32), actions, draws)
    values = particle_returns(reward, path, actions)[0].numpy()
    np.testing.assert_allclose(plan.elite_values, values, atol=1e-5)
    assert len(values) == 6 and plan.value == plan.elite_values[0] == plan.elite_values.max()
    np.testing.assert_array_equal(plan.actions, plan.elites[0])
    np.testing.assert_allclose(plan.mean_obs[1:], path[:, 0, 0], atol=1e-6)
    # The mean of the members, and each of them, are among the rollouts without noise.
    firsts = plan.elites[:, 0, 0]
    assert all(np.isclose(firsts, action).any() for action in (0.1, -0.5, 0.7))


def test_equal_seeds_give_equal_plans_within_bounds_and_limits_of_change():
    plans = [planned(Constant(0.9, -0.9), max_change=np.array([0.25])) for _ in range(2)]
    np.testing.assert_array_equal(plans[0].elites, plans[1].elites)
    steps = np.diff(plans[0].elites[..., 0], axis=1, prepend=0.0)
    assert np.abs(steps).max() <= 0.25 + 1e-6 and np.abs(plans[0].elites).max() <= 1.0


def test_rollouts_that_diverge_are_never_chosen():
    class Cliff:
        def __getattr__(self, name):
            return getattr(MODEL, name)

        def predict(self, obs, action):
            mean, std = MODEL.predict(obs, action)
            return torch.where(action[..., :1] > self.bound, torch.nan, mean), std

    model = Cliff()
    model.bound = 0.3
    plan = planned(Constant(-0.5, 0.7), model)
    assert plan.num_nonfinite >= 1 and np.isfinite(plan.mean_obs).all() and plan.actions.max() <= 0.3
    model.bound = -2.0
    with pytest.raises(PlanningError, match='none of 6 rollouts'):
        planned(Constant(0.0), model)


@pytest.mark.parametrize(('deadline_s', 'steps'), [(0.0, 1), (1.5, 1), (2.0, 2), (3.9, 3), (100.0, 4)])
def test_rollouts_stop_where_the_next_step_would_end_after_the_deadline(deadline_s, steps):
    plan = planned(Constant(-0.5, 0.7), deadline_s=deadline_s, clock=TickingClock())  # Read once a step: each lasts 1 s.
    whole = planned(Constant(-0.5, 0.7))
    assert plan.actions.shape == (steps, 1) and plan.mean_obs.shape == (steps + 1, 2)
    assert plan.elites.shape == (6, steps, 1) and plan.value == plan.elite_values.max()
    # The rollouts are those of a whole plan, as far as they have come.
    np.testing.assert_array_equal(np.sort(plan.elites[:, 0, 0]), np.sort(whole.elites[:, 0, 0]))


def test_what_the_end_of_a_plan_takes_is_left_for_it():
    readings = iter([0.0, 1.0, 2.0, 4.0, 10.0, 11.0, 12.0, 14.0])  # Two steps of 1 s each, then 2 s to put the plan together.
    rollouts = PolicyRollouts(PolicyRolloutsConfig(num_rollouts=6, horizon=4), clock=lambda: next(readings))
    for deadline_s in (2.5, 4.5):
        plan = rollouts.plan(MODEL, Constant(0.2), OBS, reward, np.zeros(1), deadline_s)
        assert len(plan.actions) == 2 and plan.elapsed_s == 4.0


def test_the_clock_does_not_matter_without_a_deadline():
    slow = planned(Constant(-0.5, 0.7), clock=TickingClock(1000.0))
    np.testing.assert_array_equal(slow.elites, planned(Constant(-0.5, 0.7)).elites)


def test_a_deadline_that_is_no_number_is_refused():
    with pytest.raises(PlanningError, match='deadline_s needs a number of seconds, or None for no deadline, got nan'):
        planned(Constant(0.2), deadline_s=float('nan'))
