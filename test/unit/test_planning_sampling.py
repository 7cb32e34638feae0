"""The planner around the optimiser: deadlines, what it refuses, and what a plan needs."""

import dataclasses

import numpy as np
import pytest
import torch
from support.asserts import some
from support.planning_problems import CONFIG, MODEL, OBS, OPTIMISERS, TickingClock, planner, reward

from mbrl_ros.errors import ConfigError, PlanningError, ShapeError
from mbrl_ros.models.toys import LinearModel, VelocityArm
from mbrl_ros.planning.planner import PlannerConfig, plan_bytes
from mbrl_ros.planning.sampling import make_planner


@pytest.mark.parametrize('optimiser', OPTIMISERS)
@pytest.mark.parametrize(('deadline_s', 'iterations'), [(0.0, 1), (1.5, 1), (2.0, 2), (3.9, 3), (100.0, 8)])
def test_iterations_stop_where_the_next_would_end_after_the_deadline(optimiser, deadline_s, iterations):
    planning = planner(optimiser=optimiser, num_iterations=8, clock=TickingClock())  # Read once an iteration: each lasts 1 s.
    plan = planning.plan(MODEL, OBS, reward, deadline_s=deadline_s)
    assert plan.iterations == iterations
    assert np.isfinite(plan.actions).all()


def test_what_the_end_of_a_plan_takes_is_left_for_it():
    readings = iter([0.0, 1.0, 2.0, 4.0, 10.0, 11.0, 12.0, 14.0])  # Two iterations of 1 s each, then 2 s to put it together.
    planning = planner(num_iterations=8, clock=lambda: next(readings))
    assert planning.plan(MODEL, OBS, reward, deadline_s=2.5).iterations == 2
    assert planning.plan(MODEL, OBS, reward, deadline_s=4.5).iterations == 2


def test_a_deadline_that_is_no_number_is_refused():
    with pytest.raises(PlanningError, match='deadline_s needs a number of seconds, or None for no deadline, got nan'):
        planner().plan(MODEL, OBS, reward, deadline_s=float('nan'))


def test_a_model_that_predicts_another_shape_is_refused():
    class Flat(LinearModel):
        def predict(self, obs, action):
            return tuple(part[..., :1] for part in super().predict(obs, action))

    flat = Flat(MODEL.transition, MODEL.control)
    with pytest.raises(ShapeError, match='the model needs to predict mean and deviation of shape'):
        planner().plan(flat, OBS, reward)


def test_the_clock_does_not_matter_without_a_deadline():
    slow = planner(clock=TickingClock(1000.0)).plan(MODEL, OBS, reward)
    assert slow.iterations == CONFIG.num_iterations
    assert np.array_equal(slow.actions, planner().plan(MODEL, OBS, reward).actions)


def test_more_iterations_never_find_worse():
    values = [planner(num_iterations=8, clock=TickingClock(), num_particles=1).plan(
        MODEL, OBS, reward, deadline_s=float(limit)).value for limit in range(1, 6)]
    assert all(later >= earlier - 0.05 for earlier, later in some(zip(values, values[1:])))
    assert values[-1] > values[0]


@pytest.mark.parametrize('optimiser', ['icem', 'random_shooting'])
def test_no_elite_beats_a_plan_that_is_the_best_candidate(optimiser):
    plan = planner(optimiser=optimiser, num_particles=1).plan(MODEL, OBS, reward)
    assert plan.value >= plan.elite_values[0]


@pytest.mark.parametrize('optimiser', ['cem', 'mppi'])
def test_a_mean_that_diverges_gives_way_to_the_best_elite(optimiser):
    class TwoValleys(LinearModel):
        """Finite only for first actions well away from zero, where their mean is."""

        def predict(self, obs, action):
            mean, std = super().predict(obs, action)
            return torch.where(action.abs() < 0.05, torch.nan, mean), std

    model = TwoValleys(torch.eye(1), torch.zeros(1, 1))
    planning = planner(optimiser=optimiser, horizon=1, population_size=2000, num_elites=1000, num_iterations=1,
                       temperature=1e6, momentum=0.0)
    plan = planning.plan(model, np.zeros(1), lambda obs, action: action[..., 0].abs().clamp(max=0.06))
    assert np.isfinite(plan.value)
    assert abs(plan.actions[0, 0]) >= 0.05
    assert plan.value == pytest.approx(plan.elite_values[0])
    assert np.array_equal(plan.actions, plan.elites[0])


@pytest.mark.parametrize('optimiser', ['cem', 'mppi'])
def test_an_elite_of_the_last_plan_is_no_way_out(optimiser):
    class OnlyLater(LinearModel):
        """Finite for the second of a few sequences alone, which is the best elite beside the mean."""

        def predict(self, obs, action):
            mean, std = super().predict(obs, action)
            is_broken = torch.arange(mean.shape[1]).view(-1, 1) != (1 if mean.shape[1] == 2 else -1)
            return torch.where(is_broken, torch.nan, mean), std

    planning = planner(optimiser=optimiser, num_particles=1)
    planning.plan(MODEL, OBS, reward)
    with pytest.raises(PlanningError, match=r'none of \d+ candidates has a finite return'):
        planning.plan(OnlyLater(MODEL.transition, MODEL.control), OBS, reward)


@pytest.mark.parametrize(('obs', 'previous', 'message'), [
    (np.zeros(3), None, r'obs needs shape \(2,\), got \(3,\)'),
    (np.zeros((2, 1)), None, r'obs needs shape \(2,\), got \(2, 1\)'),
    (OBS, np.zeros(2), r'previous_action needs shape \(1,\), got \(2,\)'),
    ([[1.0], 2.0], None, r'obs needs shape \(2,\)'),
    (np.array(['a', 'b']), None, 'obs needs real numbers, got dtype <U1'),
    (np.array([1j, 0.0]), None, 'obs needs real numbers, got dtype complex128'),
    (OBS, np.array([None]), 'previous_action needs real numbers, got dtype object')])
def test_arrays_that_do_not_fit_are_refused(obs, previous, message):
    with pytest.raises(ShapeError, match=message):
        planner().plan(MODEL, obs, reward, previous_action=previous)


@pytest.mark.parametrize(('obs', 'previous', 'message'), [
    (np.array([np.nan, 0.0]), None, r'obs needs finite numbers, got others in entries 0 \(nan\)'),
    (np.array([1e300, -np.inf]), None, r'obs needs .* entries 0 \(inf\), 1 \(-inf\)'),
    (OBS, np.array([np.nan]), r'previous_action needs finite numbers, got others in entries 0 \(nan\)')])
def test_a_state_that_is_not_finite_gives_no_plan(obs, previous, message):
    with pytest.raises(PlanningError, match=message):
        planner().plan(MODEL, obs, reward, previous_action=previous)


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int64])
def test_observations_of_any_real_type_will_do(dtype):
    wanted = planner().plan(MODEL, np.array([2.0, -1.0]), reward)
    assert np.array_equal(planner().plan(MODEL, np.array([2, -1], dtype=dtype), reward).actions, wanted.actions)


def test_a_model_for_other_actions_is_refused():
    with pytest.raises(ShapeError, match='plans 1 actions, the model takes 2'):
        planner().plan(VelocityArm(torch.ones(2), 0.1), np.zeros(4), reward)


def test_a_model_elsewhere_is_refused():
    class Elsewhere(LinearModel):
        @property
        def output_scale(self):
            return torch.ones(2, device='meta')

    with pytest.raises(ShapeError, match='plans on cpu, the model is on meta'):
        planner().plan(Elsewhere(MODEL.transition, MODEL.control), OBS, reward)


@pytest.mark.parametrize(('objective', 'message'), [
    (lambda obs, action: obs, r'needs to return shape \(6, 2, 44\) for obs of shape \(6, 2, 44, 2\), got \(6, 2, 44, 2\)'),
    (lambda obs, action: obs.sum(), r'needs to return shape \(6, 2, 44\) .* got \(\)'),
    (lambda obs, action: action[:, 0, :, 0], r'needs to return shape \(6, 2, 44\) .* got \(6, 44\)'),
    (lambda obs, action: (obs > 0.0).any(dim=-1), 'floating-point tensor on cpu, got torch.bool on cpu'),
    (lambda obs, action: 1.0, 'floating-point tensor on cpu, got float')])
def test_an_objective_of_the_wrong_shape_or_type_is_refused(objective, message):
    with pytest.raises(ShapeError, match=message):
        planner().plan(MODEL, OBS, objective)


def test_an_objective_that_is_never_finite_gives_no_plan():
    with pytest.raises(PlanningError, match=r'none of \d+ candidates has a finite return'):
        planner().plan(MODEL, OBS, lambda obs, action: torch.full_like(obs[..., 0], torch.nan))


@pytest.mark.parametrize(('change', 'error', 'message'), [
    (np.zeros(2), ShapeError, r'max_action_change needs shape \(1,\), got \(2,\)'),
    (np.array([-0.1]), ConfigError, r'at least 0, got \[-0.1\]'),
    (np.array([np.nan]), ConfigError, r'at least 0, got \[nan\]')])
def test_a_change_limit_that_does_not_fit_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        planner(max_change=change)


@pytest.mark.parametrize('directions', [np.eye(3), np.ones(2), np.ones((2, 2)), np.array([[1.0, 0.0], [0.0, np.nan]])])
def test_directions_that_do_not_fit_are_refused(directions):
    with pytest.raises(ShapeError, match=r'directions needs an invertible matrix of shape \(2, 2\), got \['):
        make_planner(CONFIG, 2, is_directed=True).plan(MODEL, OBS, reward, directions=directions)


def test_a_planner_that_is_not_directed_takes_no_directions():
    with pytest.raises(ShapeError, match='tries each action by itself'):
        planner().plan(MODEL, OBS, reward, directions=np.eye(1))


@pytest.mark.parametrize('settings', [{'horizon': 0}, {'population_size': 0}, {'num_particles': 0}, {'num_iterations': 0},
                                      {'temperature': float('nan')}, {'disagreement_penalty': float('inf')},
                                      {'optimiser': 'gradient'}, {'aggregation': 'median'}])
def test_settings_out_of_range_are_refused(settings):
    (name, value), = settings.items()
    with pytest.raises(ConfigError, match=rf'PlannerConfig.{name} needs .*, got {value!r}'):
        PlannerConfig(**settings)


def test_more_elites_than_candidates_are_refused():
    with pytest.raises(ConfigError, match='num_elites needs at most population_size 4, got 5'):
        PlannerConfig(population_size=4, num_elites=5)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU here')
def test_a_missing_gpu_is_named():
    with pytest.raises(ConfigError, match='\'cuda\' needs a GPU'):
        planner(device='cuda')


def test_an_oversized_request_is_refused_with_the_figure():
    config = dataclasses.replace(CONFIG, horizon=200, population_size=100_000, num_particles=1000)
    needed_mb = plan_bytes(config, 2, 1, 1) / 1e6
    with pytest.raises(ConfigError, match=rf'size 100000 .* needs about {needed_mb:.0f} MB, max_memory_mb allows 2048'):
        make_planner(config, 1).plan(MODEL, OBS, reward)


def test_memory_is_at_least_the_path_and_grows_in_proportion():
    base = plan_bytes(CONFIG, 25, 8, 5)
    assert base > 4 * 6 * 5 * 40 * 25
    for name, value in (('horizon', 200), ('population_size', 4000), ('num_particles', 500)):
        once, twice = (plan_bytes(dataclasses.replace(CONFIG, **{name: size}), 25, 8, 5) for size in (value // 2, value))
        assert base < once
        assert twice / once == pytest.approx(2.0, rel=0.02)


def test_the_memory_of_one_mean_future_does_not_depend_on_particles():
    small, large = (plan_bytes(dataclasses.replace(CONFIG, propagation='expectation', num_particles=count), 25, 8, 5)
                    for count in (1, 1000))
    assert small == large
