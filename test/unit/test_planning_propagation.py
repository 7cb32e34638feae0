"""Trajectory sampling: who answers for which particle, and what a rollout adds up to."""

import dataclasses

import pytest
import torch
from support.asserts import some

from mbrl_ros.errors import ShapeError
from mbrl_ros.models.toys import LinearModel, NamingModel
from mbrl_ros.planning.propagation import PROPAGATIONS, ParticleDraws, disagreement, rollout
from mbrl_ros.planning.returns import particle_returns

HORIZON = 6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spelled(propagation, members=3, particles=6, seed=0):
    """Member that answered at each step for each particle, shape (H, P), read off the naming model's digits."""
    model = NamingModel(members)
    draws = ParticleDraws.undrawn(model, HORIZON, particles, propagation).draw(generator(seed))
    path = rollout(model, torch.zeros(1), torch.zeros(1, HORIZON, 1), draws)
    return (path[:, :, 0, 0] % 10).long()


def linear_model(std=0.3, members=2):
    return LinearModel(torch.tensor([[1.0, 0.1], [0.0, 0.9]]), torch.tensor([[0.0], [0.5]]), std, members)


def reward(obs, action):
    return -obs.square().sum(dim=-1) - 0.1 * action.square().sum(dim=-1)


def test_tsinf_keeps_the_member_of_a_particle():
    members = spelled('tsinf')
    assert (members == members[0]).all()


def test_ts1_changes_the_member_of_a_particle():
    members = spelled('ts1')
    assert (members != members[0]).any(dim=0).all()


@pytest.mark.parametrize('propagation', ['ts1', 'tsinf'])
def test_every_member_answers_for_as_many_particles_at_each_step(propagation):
    for row in some(spelled(propagation)):
        assert torch.bincount(row)[1:].tolist() == [2, 2, 2]


def test_particles_are_rounded_up_to_a_multiple_of_the_members():
    assert spelled('tsinf', members=3, particles=4).shape == (HORIZON, 6)


def test_sigma_zero_is_the_mean():
    model = linear_model(std=0.0)
    actions = torch.randn(4, HORIZON, 1, generator=generator(1))
    draws = ParticleDraws.undrawn(model, HORIZON, 4, 'ts1').draw(generator())
    path = rollout(model, torch.tensor([1.0, -1.0]), actions, draws)
    obs = torch.tensor([1.0, -1.0]).expand(4, 2)
    for step in range(HORIZON):
        obs = obs @ model.transition.T + actions[:, step] @ model.control.T
        assert torch.allclose(path[step], obs.expand(4, 4, 2), atol=1e-6)


def test_one_step_spreads_by_the_predicted_deviation():
    model = linear_model(std=0.3)
    draws = ParticleDraws.undrawn(model, 1, 20_000, 'tsinf').draw(generator())
    path = rollout(model, torch.zeros(2), torch.zeros(1, 1, 1), draws)
    assert torch.allclose(path[0, :, 0].std(dim=0), torch.full((2,), 0.3), rtol=0.03)


@pytest.mark.parametrize('propagation', ['ts1', 'tsinf'])
def test_candidates_together_equal_candidates_one_by_one(propagation):
    model = linear_model()
    actions = torch.randn(5, HORIZON, 1, generator=generator(1))
    draws = ParticleDraws.undrawn(model, HORIZON, 4, propagation).draw(generator())
    together = particle_returns(reward, rollout(model, torch.ones(2), actions, draws), actions)
    for index, single in enumerate(actions.split(1)):
        alone = particle_returns(reward, rollout(model, torch.ones(2), single, draws), single)
        assert torch.allclose(together[:, index:index + 1], alone, rtol=1e-5)


def test_particles_together_equal_particles_one_by_one():
    model, alone = linear_model(members=2), linear_model(members=1)
    actions = torch.randn(3, HORIZON, 1, generator=generator(1))
    draws = ParticleDraws.undrawn(model, HORIZON, 4, 'ts1').draw(generator())
    path = rollout(model, torch.ones(2), actions, draws)
    for particle in range(4):
        first = torch.zeros(HORIZON, 1, dtype=torch.long)
        own = ParticleDraws('ts1', first, first, draws.noise[:, particle:particle + 1])
        assert torch.allclose(rollout(alone, torch.ones(2), actions, own)[:, 0], path[:, particle], rtol=1e-5)


def test_expectation_follows_the_mean_of_all_members_along_one_trajectory():
    draws = ParticleDraws.undrawn(NamingModel(3), HORIZON, 6, 'expectation').draw(generator())
    path = rollout(NamingModel(3), torch.zeros(1), torch.zeros(1, HORIZON, 1), draws)
    assert path.shape == (HORIZON, 1, 1, 1)
    obs = 0.0
    for step in range(HORIZON):
        obs = sum(10.0 * obs + member for member in (1, 2, 3)) / 3
        assert path[step, 0, 0, 0] == pytest.approx(obs)


def test_moment_matching_keeps_mean_and_variance_and_forgets_who_was_where():
    model = linear_model(std=0.3, members=2)
    actions = torch.randn(3, HORIZON, 1, generator=generator(1))
    draws = ParticleDraws.undrawn(model, HORIZON, 2000, 'moment_matching').draw(generator())
    path = rollout(model, torch.ones(2), actions, draws)
    mean, variance = torch.ones(3, 2), torch.zeros(2, 2)
    for step in range(HORIZON):
        mean = mean @ model.transition.T + actions[:, step] @ model.control.T
        # What is drawn anew has no correlation between entries: the Gaussian is diagonal, as in the paper.
        variance = torch.diag(torch.diagonal(model.transition @ variance @ model.transition.T + 0.3**2 * torch.eye(2)))
        assert torch.allclose(path[step].mean(dim=0), mean, atol=0.05)
        assert torch.allclose(path[step].var(dim=0), torch.diagonal(variance).expand(3, 2), rtol=0.1)


def test_moment_matching_of_equal_particles_leaves_them_equal():
    model = linear_model(std=0.0)
    draws = ParticleDraws.undrawn(model, HORIZON, 4, 'moment_matching').draw(generator())
    path = rollout(model, torch.ones(2), torch.ones(2, HORIZON, 1), draws)
    assert torch.allclose(path, path[:, :1].expand_as(path), atol=1e-6)


@pytest.mark.parametrize('propagation', ['ts1', 'tsinf'])
def test_a_model_that_samples_whole_trajectories_is_told_who_predicts_what(propagation):
    @dataclasses.dataclass(frozen=True)
    class Whole(NamingModel):
        def roll_out(self, obs, actions, members, noise):
            path = [obs.expand(6)]
            for step in range(len(noise)):
                path.append(10.0 * path[-1] + members[step] + 1)
            return torch.stack(path[1:])[..., None, None]

    def path_of(model):
        draws = ParticleDraws.undrawn(model, HORIZON, 6, propagation).draw(generator())
        return rollout(model, torch.zeros(1), torch.zeros(1, HORIZON, 1), draws)

    assert torch.equal(path_of(Whole(3)), path_of(NamingModel(3)))


def test_returns_sum_rewards_over_the_horizon():
    actions = torch.ones(2, HORIZON, 1)
    returns = particle_returns(lambda obs, action: obs[..., 0] + action[..., 0], torch.full((HORIZON, 3, 2, 2), 2.0), actions)
    assert torch.equal(returns, torch.full((3, 2), 3.0 * HORIZON))


def test_returns_of_many_particles_are_those_of_a_few_at_a_time():
    path = torch.randn((HORIZON, 5, 2, 3), generator=generator())
    actions, calls = torch.ones(2, HORIZON, 1), []

    def reward(obs, action):
        calls.append(tuple(obs.shape))
        return obs[..., 0] + action[..., 0]

    together = particle_returns(reward, path, actions)
    assert torch.allclose(particle_returns(reward, path, actions, cached_numbers=2 * path[:, 0].numel()), together)
    assert calls == [(HORIZON, size, 2, 3) for size in (5, 2, 2, 1)]


@pytest.mark.parametrize('propagation', PROPAGATIONS)
@pytest.mark.parametrize('broken', [torch.nan, torch.inf, -torch.inf])
def test_a_diverged_rollout_has_no_finite_return_even_if_model_and_reward_make_nothing_of_it(broken, propagation):
    class Forgetful(LinearModel):
        def predict(self, obs, action):
            return torch.where(action > 0.0, broken, action).expand_as(obs), torch.zeros_like(obs)

    model, actions = Forgetful(torch.eye(2), torch.ones(2, 1)), torch.zeros(3, HORIZON, 1)
    actions[1, 2] = 1.0
    draws = ParticleDraws.undrawn(model, HORIZON, 4, propagation).draw(generator())
    returns = particle_returns(lambda obs, action: action[..., 0], rollout(model, torch.zeros(2), actions, draws), actions)
    assert not torch.isfinite(returns[:, 1]).any()
    assert torch.isfinite(returns[:, [0, 2]]).all()


def test_a_wrong_action_shape_is_refused():
    model = linear_model()
    draws = ParticleDraws.undrawn(model, HORIZON, 2, 'ts1').draw(generator())
    with pytest.raises(ShapeError, match=r'need shape \(N, 6, 1\), got \(3, 5, 1\)'):
        rollout(model, torch.ones(2), torch.zeros(3, 5, 1), draws)


def test_disagreement_is_the_spread_of_the_members_in_output_scales():
    @dataclasses.dataclass(frozen=True)
    class Halved(NamingModel):
        @property
        def output_scale(self):
            return torch.full((1,), 0.5)

    path, actions = torch.zeros(HORIZON, 1), torch.zeros(HORIZON, 1)
    assert disagreement(NamingModel(1), path, actions) == 0.0
    assert disagreement(NamingModel(2), path, actions) == pytest.approx(0.5)
    assert disagreement(Halved(2), path, actions) == pytest.approx(1.0)
