"""A plan is the best of a policy's rollouts, within bounds and limits of change, and never one that diverges."""

import numpy as np
import pytest
import torch
from support.planning_problems import MODEL, OBS, reward

from mbrl_ros.errors import PlanningError
from mbrl_ros.planning.policy_rollouts import PolicyRollouts, PolicyRolloutsConfig
from mbrl_ros.planning.propagation import ParticleDraws, rollout
from mbrl_ros.planning.returns import particle_returns


def planned(policy, model=MODEL, **arguments):
    rollouts = PolicyRollouts(PolicyRolloutsConfig(num_rollouts=6, horizon=4), **arguments)
    rollouts.reset(3)
    return rollouts.plan(model, policy, OBS, reward, np.zeros(1))


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
