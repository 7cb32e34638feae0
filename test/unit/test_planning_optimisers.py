"""Optimisers by themselves: what they propose, and what they learn from values, against formulas."""

import dataclasses

import numpy as np
import pytest
import torch
from support.asserts import some
from support.planning_problems import CONFIG, OPTIMISERS
from torch._subclasses.fake_tensor import FakeTensorMode

from mbrl_ros.planning.optimisers.base import finite_moments, limit_changes, shifted
from mbrl_ros.planning.optimisers.registry import make_optimiser

CHANGE = torch.tensor([0.3, 0.05])


#: A diagonal, and what is little of the other one.
DIRECTIONS = torch.tensor([[1.0, 0.1], [1.0, -0.1]])


def make(name, seed=0, change=None, directions=None, **changes):
    optimiser = make_optimiser(dataclasses.replace(CONFIG, optimiser=name, **changes), 2, change,
                               is_directed=directions is not None, generator=torch.Generator().manual_seed(seed))
    if directions is not None:
        optimiser.direct(directions.double())
    optimiser.begin(torch.tensor([0.9, -1.0]))
    return optimiser


def told(optimiser, values_of=lambda actions: -(actions - 0.2).square().sum(dim=(1, 2)), iteration=0):
    actions = optimiser.ask(iteration, is_last=False)
    values = values_of(actions)
    optimiser.tell(actions, values)
    return actions, values


def state(optimiser):
    return [tensor.clone() for tensor in (optimiser.mean, optimiser.std, optimiser.elites, optimiser.elite_values)]


def same(one, other):
    return all(torch.equal(a, b) for a, b in some(zip(one, other, strict=True)))


@pytest.mark.parametrize('name', OPTIMISERS)
@pytest.mark.parametrize('change', [None, CHANGE])
@pytest.mark.parametrize('seed', range(3))
def test_candidates_and_means_keep_to_bounds_and_change_limits(name, change, seed):
    optimiser = make(name, seed, change, init_std=3.0, noise_beta=0.0)
    previous = torch.tensor([[0.9, -1.0]])
    for _ in range(2):
        for iteration in range(3):
            actions, _ = told(optimiser, iteration=iteration)
            means = optimiser.mean.unsqueeze(0) if optimiser.solution_is_mean else optimiser.elites
            for sequences in (actions, means, optimiser.elites):
                assert sequences.abs().max() <= 1.0
                if change is not None:
                    steps = torch.cat([previous.expand(len(sequences), 1, 2), sequences], dim=1).diff(dim=1)
                    assert (steps.abs() <= change + 1e-6).all()
        optimiser.advance()
        optimiser.begin(previous[0])


@pytest.mark.parametrize('name', ['icem', 'cem', 'mppi'])
def test_samples_differ_from_the_mean_along_the_directions(name):
    optimiser = make(name, directions=DIRECTIONS, init_std=0.1, noise_beta=0.0, population_size=4000)
    samples = optimiser.ask(0, is_last=False)[:4000, 2]
    torch.testing.assert_close(samples.T.cov(), 0.01 * DIRECTIONS @ DIRECTIONS.T, rtol=0.1, atol=1e-4)


@pytest.mark.parametrize('name', ['icem', 'cem'])
def test_the_deviation_is_learned_along_the_directions(name):
    """Only the sum of two actions matters, and it should be 0.6: what differs between them is as good as ever."""
    optimiser = make(name, directions=DIRECTIONS, horizon=1, population_size=1000, num_elites=200, momentum=0.0, init_std=0.2)
    told(optimiser, lambda actions: -(actions.sum(dim=2) - 0.6).square().sum(dim=1))
    assert (optimiser.std[:, 0] < 0.8 * optimiser.std[:, 1]).all()
    assert (optimiser.mean.sum(dim=1) - 0.6).abs().max() < 0.3


@pytest.mark.parametrize('name', OPTIMISERS)
def test_directions_of_single_actions_are_none(name):
    plain, directed = make(name), make(name, directions=torch.eye(2))
    for iteration in range(2):
        told(plain, iteration=iteration), told(directed, iteration=iteration)
    torch.testing.assert_close(state(directed), state(plain))


@pytest.mark.parametrize('name', OPTIMISERS)
def test_how_many_are_asked_for_follows_from_settings_alone(name):
    fresh, used = make(name), make(name)
    told(used)
    told(used, lambda actions: torch.full((len(actions),), -torch.inf), iteration=1)
    used.advance()
    used.begin(torch.zeros(2))
    for iteration in range(4):
        assert used.ask(iteration, is_last=False).shape == fresh.ask(iteration, is_last=False).shape


@pytest.mark.parametrize('name', OPTIMISERS)
@pytest.mark.parametrize('limited', [False, True])
def test_nothing_is_decided_on_the_host(name, limited):
    """Tensors without numbers raise as soon as one is asked for; where it would be, a GPU would be waited for."""
    with FakeTensorMode():
        optimiser = make(name, change=torch.full((2,), 0.3) if limited else None)
        for _ in range(2):
            for iteration in range(3):
                told(optimiser, iteration=iteration)
            optimiser.advance()
            optimiser.begin(torch.zeros(2))


@pytest.mark.parametrize('name', OPTIMISERS)
def test_state_is_written_in_place(name):
    optimiser = make(name)
    before = [tensor.data_ptr() for tensor in (optimiser.mean, optimiser.std, optimiser.elites, optimiser.elite_values)]
    told(optimiser)
    optimiser.advance()
    optimiser.reset(1)
    assert before == [tensor.data_ptr() for tensor in (optimiser.mean, optimiser.std, optimiser.elites, optimiser.elite_values)]


@pytest.mark.parametrize('name', OPTIMISERS)
def test_elites_are_the_best_of_the_candidates_best_first(name):
    optimiser = make(name)
    actions, values = told(optimiser)
    scored = -(optimiser.elites - 0.2).square().sum(dim=(1, 2))
    assert torch.allclose(scored, optimiser.elite_values)
    assert (optimiser.elite_values.diff() <= 0.0).all()
    asked = actions if name != 'icem' else torch.cat([actions[:40], actions[-1:]])
    assert optimiser.elite_values[0] == -(asked - 0.2).square().sum(dim=(1, 2)).min()


@pytest.mark.parametrize('name', OPTIMISERS)
def test_one_worthless_candidate_in_fifty_does_not_touch_the_result(name):
    def judged(worst):
        def values_of(actions):
            values = -(actions - 0.2).square().sum(dim=(1, 2))
            values[values.argmax()] = worst
            return values
        optimiser = make(name, population_size=50, temperature=0.1)
        told(optimiser, values_of)
        return state(optimiser)

    assert same(judged(-torch.inf), judged(-1e30))
    assert all(torch.isfinite(tensor).all() for tensor in some(judged(-torch.inf)))


@pytest.mark.parametrize('name', OPTIMISERS)
def test_a_diverged_candidate_is_never_an_elite_of_negative_values(name):
    def values_of(actions):
        values = -1e6 - actions.square().sum(dim=(1, 2))
        return torch.where(torch.arange(len(values)) >= 4, -torch.inf, values)

    optimiser = make(name)
    actions, _ = told(optimiser, values_of)
    assert (optimiser.elite_values[4:] == -torch.inf).all()
    assert torch.isfinite(optimiser.elite_values[:4]).all()
    best = actions[:4]
    assert optimiser.mean.min() >= best.min() - 0.1
    assert torch.isfinite(optimiser.mean).all()
    assert torch.isfinite(optimiser.std).all()


@pytest.mark.parametrize('name', OPTIMISERS)
def test_without_a_finite_value_everything_stays_as_it_was(name):
    optimiser = make(name)
    told(optimiser)
    before = state(optimiser)
    told(optimiser, lambda actions: torch.full((len(actions),), -torch.inf), iteration=1)
    assert same(before, state(optimiser))


@pytest.mark.parametrize('name', OPTIMISERS)
def test_advancing_shifts_the_mean_and_the_elites_by_one_step(name):
    optimiser = make(name)
    told(optimiser)
    mean, _, elites, values = state(optimiser)
    optimiser.advance()
    assert same(state(optimiser)[0:1], [torch.cat([mean[1:], mean[-1:]])])
    assert torch.equal(optimiser.elites, shifted(elites))
    assert torch.equal(optimiser.elite_values, values)


@pytest.mark.parametrize('name', OPTIMISERS)
def test_same_seed_gives_the_same_search_and_reset_repeats_it(name):
    one, other = make(name, seed=3), make(name, seed=3)
    told(one)
    told(other)
    assert same(state(one), state(other))
    first = state(one)
    one.advance()
    one.reset(3)
    one.begin(torch.tensor([0.9, -1.0]))
    told(one)
    assert same(first, state(one))
    different = make(name, seed=4)
    told(different)
    assert not same(first, state(different))


@pytest.mark.parametrize('name', ['icem', 'cem', 'mppi'])
@pytest.mark.parametrize('std', [0.001, 0.01, 0.1])
def test_samples_spread_by_the_deviation_that_is_set(name, std):
    optimiser = make(name, init_std=std, population_size=2000, noise_beta=1.0)
    actions = optimiser.ask(0, is_last=False)[:2000]
    assert actions.std(dim=0) == pytest.approx(torch.full((6, 2), std), rel=0.1)


@pytest.mark.parametrize('name', ['icem', 'cem', 'mppi'])
def test_without_deviation_the_mean_is_all_there_is(name):
    optimiser = make(name)
    optimiser.mean.fill_(0.4)
    optimiser.std.zero_()
    actions = optimiser.ask(1, is_last=False)
    assert (actions == 0.4).all()
    optimiser.tell(actions, torch.zeros(len(actions)))
    assert optimiser.mean == pytest.approx(torch.full((6, 2), 0.4))


@pytest.mark.parametrize('name', ['icem', 'cem'])
def test_mean_and_deviation_move_to_the_elites_as_far_as_the_momentum_lets_them(name):
    optimiser = make(name, momentum=0.3, min_std=0.25)
    actions, values = told(optimiser)
    if name == 'icem':
        values[40:43] = -torch.inf
    best = actions[values.argsort(descending=True)[:6]].double().numpy()
    assert optimiser.mean.numpy() == pytest.approx(0.7 * best.mean(axis=0), abs=1e-6)
    assert optimiser.std.numpy() == pytest.approx(np.maximum(0.3 * 0.3 + 0.7 * best.std(axis=0), 0.25), abs=1e-6)


@pytest.mark.parametrize('temperature', [1e-4, 0.5, 1e5])
def test_mppi_weighs_every_candidate_by_its_value(temperature):
    optimiser = make('mppi', temperature=temperature)
    actions, values = told(optimiser)
    weights = np.exp((values.double().numpy() - values.max().item()) / temperature)
    wanted = np.einsum('n,nha->ha', weights / weights.sum(), actions.double().numpy())
    assert optimiser.mean.numpy() == pytest.approx(wanted, abs=1e-5)
    assert torch.equal(optimiser.std, torch.full((6, 2), 0.3))


def test_random_shooting_is_uniform_over_what_is_allowed():
    free = make('random_shooting', population_size=20_000).ask(1, is_last=False)
    assert free.mean(dim=0).abs().max() < 0.03
    assert free.var(dim=0) == pytest.approx(torch.full((6, 2), 1.0 / 3.0), rel=0.03)
    limited = make('random_shooting', change=CHANGE, population_size=20_000).ask(1, is_last=False)[:, 0]
    assert limited.amin(dim=0) == pytest.approx(torch.tensor([0.6, -1.0]), abs=1e-3)
    assert limited.amax(dim=0) == pytest.approx(torch.tensor([1.0, -0.95]), abs=1e-3)
    assert limited.mean(dim=0) == pytest.approx(torch.tensor([0.8, -0.975]), abs=0.01)


def test_random_shooting_remembers_the_best_of_all_iterations():
    optimiser = make('random_shooting')
    actions, values = told(optimiser)
    told(optimiser, lambda actions: torch.full((len(actions),), -1e6), iteration=1)
    assert torch.equal(optimiser.mean, actions[values.argmax()])
    assert torch.equal(optimiser.elites[0], optimiser.mean)


def test_moments_are_those_of_the_finite_candidates():
    actions, values = torch.randn(5, 6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    values[[1, 4]] = -torch.inf
    mean, std = finite_moments(actions, values)
    sound = actions[[0, 2, 3]].numpy()
    assert mean.numpy() == pytest.approx(sound.mean(axis=0), abs=1e-6)
    assert std.numpy() == pytest.approx(sound.std(axis=0), abs=1e-6)


def test_limiting_leaves_allowed_sequences_as_they_are():
    allowed = torch.tensor([[0.1], [0.2], [0.1]])
    assert torch.equal(limit_changes(allowed, torch.zeros(1), torch.tensor([0.11])), allowed)
    wanted = torch.tensor([[1.0], [1.0], [-1.0]])
    assert limit_changes(wanted, torch.zeros(1), torch.tensor([0.5]))[:, 0].tolist() == [0.5, 1.0, 0.5]
    assert limit_changes(2.0 * wanted, torch.zeros(1), None)[:, 0].tolist() == [1.0, 1.0, -1.0]


def test_sequences_limited_together_equal_sequences_limited_one_by_one():
    wanted = torch.randn(9, 6, 2, generator=torch.Generator().manual_seed(0))
    previous = torch.tensor([0.9, -1.0])
    together = limit_changes(wanted, previous, CHANGE)
    for row, alone in zip(together, wanted, strict=True):
        assert torch.equal(row, limit_changes(alone, previous, CHANGE))
