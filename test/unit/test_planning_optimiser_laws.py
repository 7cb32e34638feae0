"""Laws that every optimiser obeys when it plans: the known optimum, the bounds, its seed, and rollouts that diverge."""

import dataclasses

import numpy as np
import pytest
import torch
from support.asserts import some
from support.planning_problems import (
    MODEL,
    OBS,
    OPTIMISERS,
    TWIN_MODEL,
    TWIN_OBS,
    HopelessModel,
    Poisoned,
    linear_quadratic_optimum,
    planner,
    reward,
)

from mbrl_ros.errors import PlanningError
from mbrl_ros.models.toys import VelocityArm

#: How far below the optimum a plan of 8 iterations with 1000 candidates may stay, as a share of the optimal cost.
TOLERANCE = {'icem': 0.003, 'cem': 0.003, 'mppi': 0.005, 'random_shooting': 0.03}
#: The same with two actions, twelve numbers to find, where shooting at random finds little.
TWIN_TOLERANCE = {'icem': 0.004, 'cem': 0.004, 'mppi': 0.01, 'random_shooting': 0.08}
#: Noise with less of a preference for slow changes than the default's, as the optimum is not one of them.
SEARCH = {'num_iterations': 8, 'num_particles': 1, 'min_std': 0.0, 'noise_beta': 0.5, 'temperature': 0.02}
every_optimiser = pytest.mark.parametrize('optimiser', OPTIMISERS)


def gaps(optimiser, population, model=MODEL, obs=OBS, seeds=range(5), **changes):
    """How far plans stay below the optimum, as a share of the optimal cost, one for each seed."""
    _, best = linear_quadratic_optimum(model, obs)
    settings = {**SEARCH, 'population_size': population, 'num_elites': max(5, population // 20), **changes}
    plans = [planner(seed, optimiser=optimiser, action_size=model.action_size, **settings).plan(model, obs, reward)
             for seed in seeds]
    return np.array([(best - plan.value) / -best for plan in plans])


@every_optimiser
@pytest.mark.parametrize(('model', 'obs', 'tolerance'), [(MODEL, OBS, TOLERANCE), (TWIN_MODEL, TWIN_OBS, TWIN_TOLERANCE)])
def test_the_known_optimum_of_a_linear_quadratic_problem_is_reached(optimiser, model, obs, tolerance):
    found = gaps(optimiser, 1000, model, obs)
    assert found.max() <= tolerance[optimiser]
    assert found.min() > -1e-6


@every_optimiser
def test_the_optimum_at_the_bounds_is_reached(optimiser):
    obs = np.array([4.0, 1.0])
    actions, _ = linear_quadratic_optimum(obs=obs)
    assert actions.min() == pytest.approx(-1.0, abs=1e-6)
    assert gaps(optimiser, 1000, obs=obs).max() <= TOLERANCE[optimiser]


@every_optimiser
def test_more_samples_come_closer_to_the_optimum(optimiser):
    means = [gaps(optimiser, population, seeds=range(10)).mean() for population in (20, 100, 500)]
    assert means[0] > means[1] > means[2]


@every_optimiser
def test_further_iterations_come_closer_to_the_optimum(optimiser):
    once, often = (gaps(optimiser, 100, num_iterations=count, seeds=range(10)).mean() for count in (1, 8))
    assert often < once


@every_optimiser
def test_a_plan_describes_its_own_rollout(optimiser):
    plan = planner(optimiser=optimiser).plan(MODEL, OBS, reward)
    obs, value = OBS, 0.0
    for action, predicted in some(zip(plan.actions, plan.mean_obs[1:], strict=True)):
        obs = MODEL.transition.numpy() @ obs + MODEL.control.numpy() @ action
        assert predicted == pytest.approx(obs, abs=1e-5)
        value += float(reward(torch.tensor(obs), torch.tensor(action)))
    assert plan.mean_obs[0] == pytest.approx(OBS)
    assert plan.value == pytest.approx(value, rel=1e-5)
    assert plan.value_std == plan.disagreement == 0.0
    assert (plan.iterations, plan.num_nonfinite) == (4, 0)
    assert plan.elites.shape == (6, 6, 1)
    assert (np.diff(plan.elite_values) <= 0.0).all()


@every_optimiser
def test_an_uncertain_model_gives_a_spread_of_returns(optimiser):
    noisy = dataclasses.replace(MODEL, std=0.2)
    assert planner(optimiser=optimiser, num_particles=8).plan(noisy, OBS, reward).value_std > 0.1


@every_optimiser
def test_same_seed_gives_the_same_plans_and_reset_repeats_them(optimiser):
    one, other = planner(3, optimiser=optimiser), planner(3, optimiser=optimiser)
    first, second = (one.plan(MODEL, OBS, reward).actions for _ in range(2))
    assert np.array_equal(first, other.plan(MODEL, OBS, reward).actions)
    assert np.array_equal(second, other.plan(MODEL, OBS, reward).actions)
    one.reset(3)
    assert np.array_equal(first, one.plan(MODEL, OBS, reward).actions)
    assert not np.array_equal(first, planner(4, optimiser=optimiser).plan(MODEL, OBS, reward).actions)


@every_optimiser
def test_two_planners_that_share_a_model_plan_as_one_does_alone(optimiser):
    model = dataclasses.replace(MODEL, std=0.1, ensemble_size=2)
    before = [model.transition.clone(), model.control.clone()]
    alone = planner(1, optimiser=optimiser)
    wanted = [alone.plan(model, OBS, reward).actions for _ in range(3)]
    one, neighbour = planner(1, optimiser=optimiser), planner(2, optimiser=optimiser)
    for expected in wanted:
        neighbour.plan(model, -OBS, reward)
        assert np.array_equal(one.plan(model, OBS, reward).actions, expected)
    assert torch.equal(before[0], model.transition)
    assert torch.equal(before[1], model.control)


@every_optimiser
@pytest.mark.parametrize('seed', range(3))
def test_plan_and_elites_keep_to_bounds_and_rate_limits(optimiser, seed):
    arm, change, previous = VelocityArm(torch.tensor([1.5, 1.0]), 0.05), np.array([0.3, 0.1]), np.array([0.9, -1.0])
    planning = planner(seed, change, optimiser=optimiser, action_size=2, init_std=3.0, noise_beta=0.0)
    for _ in range(3):
        plan = planning.plan(arm, np.zeros(4), lambda obs, action: (obs[..., 0] * 5.0).sin(), previous_action=previous)
        for actions in (plan.actions, *plan.elites):
            assert np.abs(actions).max() <= 1.0
            assert (np.abs(np.diff(np.vstack([previous, actions]), axis=0)) <= change + 1e-6).all()
        previous = plan.actions[0]


@every_optimiser
def test_diverged_rollouts_are_counted_and_never_elite(optimiser):
    model = Poisoned(MODEL.transition, MODEL.control)
    plan = planner(optimiser=optimiser, horizon=3).plan(model, np.array([-1.0, -1.0]), reward)
    assert plan.num_nonfinite > 0
    assert plan.actions.max() <= 0.0
    assert plan.elites.max() <= 0.0
    assert np.isfinite(plan.elite_values).all()
    assert np.isfinite(plan.mean_obs).all()


@every_optimiser
def test_one_diverged_rollout_in_fifty_changes_nothing_but_the_count(optimiser):
    """The candidate that diverges would otherwise have been the worst."""
    class Diverging:
        ensemble_size, obs_size, action_size, output_scale = 1, 2, 1, torch.ones(2)

        def __init__(self, broken):
            self._broken = broken

        def predict(self, obs, action):
            mean, std = MODEL.predict(obs, action)
            if mean.shape[1] < 50:  # A single sequence, not a population.
                return mean, std
            mean[:, 7] = self._broken
            return mean, std

    settings = {'optimiser': optimiser, 'population_size': 50, 'population_decay': 1.0, 'num_particles': 1}
    sound = planner(**settings).plan(Diverging(1e6), OBS, reward)
    plan = planner(**settings).plan(Diverging(torch.nan), OBS, reward)
    assert (sound.num_nonfinite, plan.num_nonfinite) == (0, 4)
    assert np.array_equal(sound.actions, plan.actions)
    assert np.array_equal(sound.elites, plan.elites)
    assert sound.value == plan.value


@every_optimiser
def test_without_a_finite_candidate_there_is_no_plan_and_nothing_is_remembered(optimiser):
    hopeless = HopelessModel(MODEL.transition, MODEL.control)
    planning = planner(optimiser=optimiser)
    planning.plan(MODEL, OBS, reward)
    with pytest.raises(PlanningError, match=r'none of \d+ candidates has a finite return'):
        planning.plan(hopeless, OBS, reward)
    assert not planning.optimiser.mean.any()
    assert np.isfinite(planning.plan(MODEL, OBS, reward).actions).all()


@every_optimiser
def test_warm_start_continues_the_last_plan_one_step_later(optimiser):
    settings, gains = {'optimiser': optimiser, 'num_iterations': 8, 'temperature': 0.05}, []
    for seed in range(10):
        planning = planner(seed, **settings)
        plan = planning.plan(MODEL, OBS, reward)
        mean = planning.optimiser.mean.numpy()
        if optimiser != 'icem':  # Whose answer is not its mean.
            assert mean == pytest.approx(np.vstack([plan.actions[1:], plan.actions[-1:]]))
        following, cold = (one.plan(MODEL, plan.mean_obs[1], reward, previous_action=plan.actions[0], deadline_s=0.0)
                           for one in (planning, planner(seed + 10, **settings)))
        assert following.iterations == cold.iterations == 1
        gains.append(following.value - cold.value)
    assert np.mean(gains) > 0.0


def test_without_deviation_the_plan_is_the_warm_start():
    for optimiser in ('icem', 'cem', 'mppi'):
        plan = planner(optimiser=optimiser, init_std=1e-3, min_std=0.0).plan(MODEL, OBS, reward)
        assert np.abs(plan.actions).max() < 0.02
