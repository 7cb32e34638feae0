"""From particles to values, against formulas."""

import dataclasses

import numpy as np
import pytest
import torch
from support.planning_problems import CONFIG, MODEL, OBS, planner, reward

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.toys import LinearModel, NamingModel
from mbrl_ros.planning.aggregation import Aggregation, cvar, mean, mean_minus_std, path_disagreement, worst_case
from mbrl_ros.planning.planner import PlannerConfig

RETURNS = torch.randn(20, 7, generator=torch.Generator().manual_seed(0)) * 3.0 - 5.0
PATH = torch.randn(4, 20, 7, 3, generator=torch.Generator().manual_seed(1))
STRATEGIES = [{'aggregation': 'mean'}, {'aggregation': 'mean_minus_std', 'risk_aversion': 1.5},
              {'aggregation': 'cvar', 'cvar_fraction': 0.25}, {'aggregation': 'worst_case'}]


def aggregation(**changes):
    return Aggregation(dataclasses.replace(CONFIG, **changes))


def test_mean_and_worst_case_are_numpys():
    assert mean(RETURNS).numpy() == pytest.approx(RETURNS.numpy().mean(axis=0), rel=1e-5)
    assert worst_case(RETURNS).numpy() == pytest.approx(RETURNS.numpy().min(axis=0))


@pytest.mark.parametrize('k', [0.0, 0.5, 3.0])
def test_mean_minus_std_is_numpys(k):
    returns = RETURNS.numpy()
    assert mean_minus_std(RETURNS, k).numpy() == pytest.approx(returns.mean(axis=0) - k * returns.std(axis=0), rel=1e-5)


@pytest.mark.parametrize(('fraction', 'count'), [(0.0, 1), (0.05, 1), (0.2, 4), (0.5, 10), (1.0, 20)])
def test_cvar_is_the_mean_of_the_worst(fraction, count):
    worst = np.sort(RETURNS.numpy(), axis=0)[:count]
    assert cvar(RETURNS, fraction).numpy() == pytest.approx(worst.mean(axis=0), rel=1e-5)


@pytest.mark.parametrize('settings', STRATEGIES, ids=lambda settings: settings['aggregation'])
@pytest.mark.parametrize('broken', [torch.nan, torch.inf, -torch.inf])
def test_one_diverged_particle_makes_a_candidate_worthless(settings, broken):
    returns = RETURNS.clone()
    returns[3, 2] = broken
    values = aggregation(**settings)(returns, PATH, NamingModel(1, 3))
    assert values[2] == -torch.inf
    assert torch.isfinite(values).sum() == 6


def test_strategies_are_ordered_by_caution():
    values = [aggregation(**settings)(RETURNS, PATH, NamingModel(1, 3)) for settings in STRATEGIES]
    assert (values[0] > values[2]).all()
    assert (values[2] > values[3]).all()


def test_members_that_drift_apart_are_measured_in_output_scales():
    """Two members of three particles each, at 0 and at 1, whatever their particles do around that."""
    path = torch.zeros(4, 6, 1, 2)
    path[:, 3:, :, 0] = 1.0
    path += torch.tensor([-0.5, 0.0, 0.5, -0.5, 0.0, 0.5]).view(1, 6, 1, 1)
    spread = path_disagreement(path, torch.tensor([0.25, 1.0]), groups=2)
    assert spread.tolist() == pytest.approx([(((0.5 / 0.25)**2 + 0.0) / 2)**0.5])


def test_disagreement_is_numpys():
    scale = np.array([0.5, 1.0, 2.0])
    centres = PATH.numpy().reshape(4, 5, 4, 7, 3).mean(axis=2)
    wanted = np.sqrt(((centres.std(axis=1) / scale)**2).mean(axis=-1)).mean(axis=0)
    assert path_disagreement(PATH, torch.tensor(scale), groups=5).numpy() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(('propagation', 'groups'), [('tsinf', 2), ('ts1', 20), ('moment_matching', 20)])
def test_the_penalty_is_on_members_where_particles_have_one_and_else_on_particles(propagation, groups):
    model = NamingModel(2, 3)
    plain, punished = (aggregation(propagation=propagation, disagreement_penalty=penalty)(RETURNS, PATH, model)
                       for penalty in (0.0, 2.0))
    wanted = plain - 2.0 * path_disagreement(PATH, model.output_scale, groups)
    assert punished.numpy() == pytest.approx(wanted.numpy(), rel=1e-5)


class Divided(LinearModel):
    """Two members that differ in what a positive action does."""

    def predict(self, obs, action):
        mean, std = super().predict(obs, action)
        signs = torch.tensor([-1.0, 1.0]).view(2, 1, 1)
        return mean + signs * action.clamp(min=0.0), std


def test_a_bonus_is_a_penalty_the_other_way_round():
    model = NamingModel(2, 3)
    punished, praised = (aggregation(**{name: 2.0})(RETURNS, PATH, model)
                         for name in ('disagreement_penalty', 'disagreement_bonus'))
    assert (punished + praised).numpy() == pytest.approx(2.0 * aggregation()(RETURNS, PATH, model).numpy(), rel=1e-5)


def test_a_penalty_keeps_plans_where_the_members_agree():
    model = Divided(MODEL.transition, MODEL.control, ensemble_size=2)

    def objective(obs, action):
        return action[..., 0]

    bold, wary = (planner(disagreement_penalty=penalty, population_size=100, init_std=1.0).plan(model, OBS, objective)
                  for penalty in (0.0, 100.0))
    assert bold.actions.min() > 0.5
    assert wary.actions.max() < 0.1


def test_a_bonus_makes_plans_go_where_the_members_disagree_until_there_is_none():
    model = Divided(MODEL.transition, MODEL.control, ensemble_size=2)

    def objective(obs, action):
        return -action[..., 0]

    config = dataclasses.replace(CONFIG, disagreement_bonus=100.0)
    curious, sober = (planner(disagreement_bonus=bonus).plan(model, OBS, objective)
                      for bonus in (config.disagreement_bonus, config.without_exploring().disagreement_bonus))
    assert curious.actions.mean() > 0.5
    assert sober.actions.mean() < -0.5


@pytest.mark.parametrize('settings', STRATEGIES, ids=lambda settings: settings['aggregation'])
def test_every_strategy_plans(settings):
    noisy = dataclasses.replace(MODEL, std=0.2)
    plan = planner(num_particles=8, **settings).plan(noisy, OBS, reward)
    assert np.isfinite(plan.value)
    assert plan.value_std > 0.0


def test_risk_aversion_takes_deviations_off_the_value():
    def objective(obs, action):
        return obs[..., 1] - 100.0 * action[..., 0].square()  # So steep that every planner stands still.

    noisy = dataclasses.replace(MODEL, std=0.2)
    bold = planner(num_particles=8).plan(noisy, OBS, objective)
    wary = planner(num_particles=8, aggregation='mean_minus_std', risk_aversion=2.0).plan(noisy, OBS, objective)
    assert bold.actions == pytest.approx(wary.actions, abs=0.05)
    assert wary.value == pytest.approx(bold.value - 2.0 * bold.value_std, abs=0.5)


@pytest.mark.parametrize(('settings', 'message'), [
    ({'risk_aversion': 1.0}, 'risk_aversion needs a value above 0 with aggregation mean_minus_std, .* got 1.0 with mean'),
    ({'aggregation': 'mean_minus_std'}, 'risk_aversion needs a value above 0 .* got 0.0 with mean_minus_std'),
    ({'disagreement_penalty': 1.0, 'disagreement_bonus': 2.0}, 'disagreement_bonus needs 0 .* got 2.0 and 1.0'),
    ({'propagation': 'expectation', 'disagreement_bonus': 3.0}, 'rolls out one future, .* got mean and 3.0'),
    ({'propagation': 'expectation', 'aggregation': 'cvar'}, 'rolls out one future, .* got cvar and 0.0'),
    ({'propagation': 'expectation', 'disagreement_penalty': 1.0}, 'rolls out one future, .* got mean and 1.0')])
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        PlannerConfig(**settings)
