"""Actors and critics: targets by hand, densities, hindsight, imagination step by step, and a linear problem's known optimum."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import distributions

from mbrl_ros.errors import BundleError, ModelError, TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.actor_critic.experience import Hindsight, Recorded, Steps, last_of_episode
from mbrl_ros.models.actor_critic.imagination import ImaginationConfig, disagreement, imagine
from mbrl_ros.models.actor_critic.learning import LearnedPolicy, LearnedValue, PolicyLearning, PolicyLearningConfig
from mbrl_ros.models.actor_critic.networks import Networks, mean_action, sampled_action
from mbrl_ros.models.actor_critic.soft_actor_critic import ActorCriticConfig, Batch, SoftActorCritic
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.toys import LinearModel, NamingModel
from mbrl_ros.spaces.view import PlainView
from mbrl_ros.types import Tag

SMALL = ActorCriticConfig(hidden_size=16)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made_batch(size=6, features=3, actions=2, seed=0):
    def draw(*shape):
        return torch.randn(shape, generator=generator)

    generator = seeded(seed)
    goes_on = torch.tensor([1.0, 0.0] * (size // 2))
    return Batch(draw(size, features), draw(size, actions).tanh(), draw(size), draw(size, features), goes_on, goes_on > 0.0)


def test_a_target_is_the_scaled_reward_and_the_lowest_value_after_it_unless_the_episode_ended_for_good():
    learning, batch = SoftActorCritic(3, 2, ActorCriticConfig(hidden_size=16, num_critics=3), seeded(1)), made_batch()
    learning.generator = seeded(5)
    targets = learning.targets(batch)
    noise = torch.randn(batch.action.shape, generator=seeded(5))
    for row in range(len(targets)):
        action, _ = sampled_action(learning.actor, batch.next_features[row:row + 1], noise[row:row + 1])
        values = learning.critics(torch.cat([batch.next_features[row:row + 1], action], dim=1)).detach()
        expected = 0.3 * float(batch.reward[row]) + (0.92 * min(values.flatten().tolist()) if batch.goes_on[row] else 0.0)
        assert float(targets[row]) == pytest.approx(expected, abs=1e-5)


def test_the_density_of_a_sampled_action_is_that_of_a_squashed_normal_distribution():
    actor, features = Networks(1, 3, 4, 16, generator=seeded(2)), torch.randn((50, 3), generator=seeded(3))
    with torch.no_grad():
        actor.weights[-1].mul_(100.0)
        action, log_density = sampled_action(actor, features, torch.randn((50, 2), generator=seeded(4)))
        mean, spread = actor(features)[0].chunk(2, dim=-1)
    std = torch.exp(-3.5 + 2.25 * (torch.tanh(spread) + 1.0)).double()
    squashed = distributions.TransformedDistribution(distributions.Normal(mean.double(), std), distributions.TanhTransform())
    inner = action.abs().amax(dim=1) < 0.99  # Beyond, the inverse of tanh loses the digits.
    assert inner.sum() > 10
    torch.testing.assert_close(log_density[inner].double(), squashed.log_prob(action.double()).sum(dim=1)[inner],
                               atol=2e-2, rtol=1e-3)


def test_critics_alone_leave_the_actor_as_it_is_and_the_actor_leaves_the_critics():
    learning = SoftActorCritic(3, 2, SMALL, seeded(1))
    before = learning.groups()
    learning.update(made_batch(), learns_actor=False)
    after = learning.groups()
    changed = {name for name in before if any((before[name][key] != after[name][key]).any() for key in before[name])}
    assert changed == {'critics', 'targets'}
    assert (before['moments of critics'], after['moments of actor']) == ({}, {}) != after['moments of critics']
    learning.imitate(made_batch().features, made_batch().action)
    assert all((after['critics'][key] == value).all() for key, value in learning.groups()['critics'].items())


def test_learning_goes_on_from_its_groups_as_if_it_had_begun_there():
    whole, part, rest = (SoftActorCritic(3, 2, SMALL, seeded(seed)) for seed in (1, 1, 9))
    for learning in (whole, part):
        learning.update(made_batch())
    rest.resume(part.groups())
    for learning in (whole, rest):
        learning.generator = seeded(3)
        learning.update(made_batch(seed=4))
    ends = [learning.groups() for learning in (whole, rest)]
    assert ends[0].keys() == ends[1].keys()
    assert all((ends[0][name][key] == ends[1][name][key]).all() for name in ends[0] for key in ends[0][name])
    assert any((ends[0]['actor'][key] != part.groups()['actor'][key]).any() for key in ends[0]['actor'])


def episodes_of(*lengths):
    """Transitions whose observation is a count over all episodes, in tens of metres by axis."""
    count = sum(lengths)
    obs = np.arange(count, dtype=float)[:, None] + np.zeros(3)
    return Transitions.of(obs, np.zeros((count, 1)), obs + 0.5, np.arange(count), goal=np.full(3, -1.0),
                          episode=np.repeat(np.arange(len(lengths)), lengths), tags=np.uint8(0))


def recorded(rows, recent=(), repeats=0):
    mask = np.zeros(len(rows), dtype=bool)
    mask[list(recent)] = True
    return Recorded.of(rows, mask, repeats)


def test_what_is_recent_is_drawn_as_often_as_it_is_repeated():
    found = recorded(episodes_of(3, 5), recent=(6, 7), repeats=3)
    replay = Hindsight(found.steps, last_of_episode(found.episode), None, 0.0, seeded(), found.rows)
    share = torch.bincount(replay.draw(7000).obs[:, 0].long(), minlength=8) / 7000.0
    assert share.tolist() == pytest.approx([1.0 / 14.0] * 6 + [4.0 / 14.0] * 2, abs=0.02)


def test_hindsight_takes_goals_from_the_same_step_or_later_ones_of_the_same_episode():
    rows = episodes_of(3, 1, 4)
    last = last_of_episode(torch.from_numpy(rows.episode))
    assert last.tolist() == [2, 2, 2, 3, 7, 7, 7, 7]
    drawn = Hindsight(Steps.of(rows), last, lambda obs: obs, 1.0, seeded()).draw(2000)
    at, goal = drawn.obs[:, 0].long(), (drawn.goal[:, 0] - 0.5).long()
    seen = {index: set(goal[at == index].tolist()) for index in range(8)}
    assert seen == {index: set(range(index, int(last[index]) + 1)) for index in range(8)}
    kept = Hindsight(Steps.of(rows), last, lambda obs: obs, 0.0, seeded()).draw(50)
    assert (kept.goal == -1.0).all() and len(kept) == 50
    some_replaced = Hindsight(Steps.of(rows), last, lambda obs: obs, 0.5, seeded()).draw(2000)
    assert 0.45 < (some_replaced.goal[:, 0] >= 0.0).float().mean() < 0.55


def test_only_demonstrated_steps_in_which_the_arm_moved_are_imitated():
    rows = dataclasses.replace(episodes_of(4), tags=np.array(
        [0, Tag.DEMONSTRATED, Tag.DEMONSTRATED | Tag.HELD, Tag.EXPLORED], dtype=np.uint8))
    assert Steps.of(rows).is_shown.tolist() == [False, True, False, False]


def test_observations_too_far_from_zero_for_float32_are_refused():
    rows = episodes_of(4)
    with pytest.raises(ModelError, match='so far from zero that float32 cannot resolve them'):
        Steps.of(dataclasses.replace(rows, obs=rows.obs + 5.3e6))


def starts(count, obs_size, action_size=1):
    obs = torch.randn((count, obs_size), generator=seeded(8))
    return Steps(obs, torch.zeros(count, action_size), obs, torch.zeros(count, 3), torch.ones(count),
                 torch.zeros(count, dtype=torch.bool), torch.zeros(count))


def test_an_imagined_path_is_the_model_step_by_step_and_each_member_keeps_its_own():
    model, begin = NamingModel(2), starts(4, 1)
    found = imagine(model, PlainView(1, has_goal=False), lambda features: 0.1 * features, begin,
                    lambda obs: torch.zeros(len(obs), dtype=torch.bool), ImaginationConfig(horizon=3, doubt=0.0), starts=begin,
                    generator=seeded())
    member, obs, expected = torch.tensor([[1.0], [1.0], [2.0], [2.0]]), begin.obs, []
    for _ in range(3):
        expected.append((obs, (0.1 * obs).clamp(-1.0, 1.0), 10.0 * obs + member))
        obs = expected[-1][2]
    for found_part, parts in zip((found.obs, found.action, found.next_obs), zip(*expected)):
        torch.testing.assert_close(found_part, torch.cat(parts))


def test_a_path_ends_with_its_episode_and_before_what_is_not_finite():
    model, begin = LinearModel(2.0 * torch.eye(1), torch.zeros(1, 1)), starts(3, 1)
    begin = dataclasses.replace(begin, obs=torch.tensor([[1.0], [0.1], [3e38]]))
    found = imagine(model, PlainView(1, has_goal=False), lambda features: 0.0 * features, begin,
                    lambda obs: obs[:, 0] > 3.0, ImaginationConfig(horizon=4), starts=begin, generator=seeded())
    assert found.obs[:, 0].tolist() == pytest.approx([1.0, 0.1, 2.0, 0.2, 0.4, 0.8])
    assert found.goes_on.tolist() == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]


def test_imagined_observations_do_not_exceed_what_was_experienced():
    model, begin = LinearModel(2.0 * torch.eye(2), torch.zeros(2, 1)), dataclasses.replace(starts(1, 2), obs=torch.ones(1, 2))
    found = imagine(model, PlainView(2, has_goal=False), lambda features: 0.0 * features[:, :1], begin,
                    lambda obs: torch.zeros(len(obs), dtype=torch.bool), ImaginationConfig(horizon=3), starts=begin,
                    largest=(3.0, float('inf')), generator=seeded())
    assert found.next_obs.tolist() == [[2.0, 2.0], [3.0, 4.0], [3.0, 8.0]]


class Parted(LinearModel):
    """Two members that disagree by as much as the first entry is away from zero."""

    def predict(self, obs, action):
        mean = obs.clone()
        mean[1, :, 0] += 2.0 * obs[1, :, 0].abs()
        return mean, torch.zeros_like(mean)


def test_doubt_begins_where_the_members_disagree_more_than_about_nearly_all_real_steps():
    model = Parted(torch.eye(1), torch.zeros(1, 1), ensemble_size=2)
    torch.testing.assert_close(disagreement(model, torch.tensor([[0.3]]), torch.zeros(1, 1)), torch.tensor([0.3]))
    real = dataclasses.replace(starts(101, 1), obs=torch.linspace(0.0, 1.0, 101)[:, None])
    begin = dataclasses.replace(starts(4, 1), obs=torch.tensor([[0.5], [0.95], [1.9], [95.0]]))
    found = imagine(model, PlainView(1, has_goal=False), lambda features: 0.0 * features, real,
                    lambda obs: torch.zeros(len(obs), dtype=torch.bool), ImaginationConfig(horizon=1, doubt=2.0), starts=begin,
                    generator=seeded())
    assert found.doubt.tolist() == pytest.approx([0.0, 0.0, 2.0, 6.0], abs=1e-4)


class Quadratic:
    """Reward of the linear problem: minus x'^2 + 0.1 u^2."""

    has_goal = False

    def reward(self, obs, action, goal):
        return -(obs[:, 0].square() + 0.1 * action[:, 0].square())

    def is_over(self, obs):
        return torch.zeros(len(obs), dtype=torch.bool)

    def is_within(self, obs, goal):
        return torch.zeros(len(obs), dtype=torch.bool)


def best_gain(discount, control=0.5, effort=0.1):
    """Gain of the policy u = -k x that maximises the discounted sum of `Quadratic` for x' = x + control u."""
    cost = 1.0
    for _ in range(1000):
        # Cost-to-go cost x^2 of the state after the action; the reward already counts x'^2.
        gain = (1.0 + discount * (cost - 0.0)) * control / ((1.0 + discount * cost) * control**2 + effort)
        cost = (1.0 + discount * cost) * (1.0 - control * gain)**2 + effort * gain**2
    return gain


def test_the_policy_of_a_linear_problem_has_the_gain_of_its_riccati_equation():
    generator = np.random.default_rng(0)
    obs, action = generator.uniform(-0.4, 0.4, (1500, 1)), generator.uniform(-1.0, 1.0, (1500, 1))
    rows = Transitions.of(obs, action, obs + 0.5 * action, np.arange(1500))
    config = PolicyLearningConfig(updates=1500, batch_size=128, actor_critic=ActorCriticConfig(
        hidden_size=32, discount=0.9, reward_scale=10.0, learning_rate=2e-3, average_rate=0.02))
    learning = PolicyLearning(PlainView(1, has_goal=False), Quadratic(), 1, config)
    learning.train(recorded(rows), lambda _: None, seeded(), bool)
    x = torch.linspace(-0.3, 0.3, 13)[:, None]
    gain = best_gain(0.9)
    assert 1.0 < gain < 2.0
    assert (learning.policy(x) + gain * x).abs().max() < 0.12


def test_a_policy_acts_alike_after_its_groups_and_refuses_others():
    policy = LearnedPolicy(Normalizer(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])),
                           Networks(1, 2, 2, 8, generator=seeded()))
    features = torch.randn((5, 2), generator=seeded(1))
    again = LearnedPolicy.from_groups(policy.groups(), 2, 1)
    assert (again(features) == policy(features)).all() and (again(features).abs() < 1.0).all()
    assert (mean_action(policy.actor, torch.full((1, 2), 1e6)).abs() <= 1.0).all()
    groups = policy.groups()
    for broken, reason in (({}, 'no networks'), ({**groups, 'inputs': {}}, 'finite means'),
                           ({**groups, 'inputs': {**groups['inputs'], 'std': torch.zeros(2)}}, 'positive'),
                           ({**groups, 'acting': {**groups['acting'], 'biases.0': torch.full((1, 1, 8), torch.nan)}}, 'finite')):
        with pytest.raises(BundleError, match=reason):
            LearnedPolicy.from_groups(broken, 2, 1)
    with pytest.raises(BundleError, match='sizes'):
        LearnedPolicy.from_groups(groups, 3, 1)


def test_critics_say_returns_and_doubt_in_units_of_nearly_all_real_steps():
    rows = episodes_of(60)
    learning = PolicyLearning(PlainView(3, has_goal=False), Quadratic(), 1, PolicyLearningConfig(
        updates=5, batch_size=8, actor_critic=ActorCriticConfig(hidden_size=16, reward_scale=0.5)))
    learning.train(recorded(rows), lambda _: None, seeded(), bool)
    critics = LearnedValue.from_groups(learning.groups(), 3, 1)
    seen, action = torch.from_numpy(rows.obs).float(), torch.zeros(60, 1)
    values = critics(seen, action)
    inner = torch.cat([critics.inputs.normalize(seen).clamp(-10.0, 10.0), action], dim=1)
    torch.testing.assert_close(values, 2.0 * learning.value.critics(inner)[..., 0].detach())
    assert float((critics.doubt(values) <= 1.0).float().mean()) == pytest.approx(0.95, abs=0.02)
    for broken, reason in (({'critics': {}}, 'no networks'), ({'value': {}}, 'a positive unit of doubt'),
                           ({'critics': learning.groups()['acting']}, 'have the sizes')):
        with pytest.raises(BundleError, match=reason):
            LearnedValue.from_groups({**learning.groups(), **broken}, 3, 1)


class AtOnce(Quadratic):
    """A reward of goals that are positions, seen by `PlainView`."""

    has_goal = True

    def achieved(self, obs):
        return obs

    def reward(self, obs, action, goal):
        return -(obs - goal).norm(dim=1)

    def is_within(self, obs, goal):
        return (obs - goal).norm(dim=1) < 0.1


def test_steps_recorded_without_a_goal_were_on_the_way_to_where_their_episode_ended():
    rows = dataclasses.replace(episodes_of(3, 2), goal=np.full((5, 3), np.nan))
    seen = []
    learning = PolicyLearning(PlainView(3, has_goal=True), AtOnce(), 1, PolicyLearningConfig(
        updates=1, batch_size=4, hindsight_share=0.0, actor_critic=SMALL))
    learning.train(recorded(rows), lambda replay: seen.append(replay.steps), seeded(), bool)
    assert seen[0].goal[:, 0].tolist() == [2.5, 2.5, 2.5, 4.5, 4.5] and not seen[0].is_shown.any()
    assert all(torch.isfinite(value).all() for group in learning.groups().values() for value in group.values())


def test_own_episodes_that_end_at_their_goal_are_imitated_too():
    rows = dataclasses.replace(episodes_of(3, 2), goal=np.full((5, 3), 2.5))
    seen = []
    learning = PolicyLearning(PlainView(3, has_goal=True), AtOnce(), 1, PolicyLearningConfig(
        first_updates=1, imitation_steps=1, batch_size=4, actor_critic=SMALL))
    learning.train(recorded(rows), lambda replay: seen.append(replay.steps), seeded(), bool)
    assert seen[0].is_shown.tolist() == [True, True, True, False, False]


def test_training_ends_soon_after_it_is_cancelled():
    rows = episodes_of(20)
    learning = PolicyLearning(PlainView(3, has_goal=True), Quadratic(), 1, PolicyLearningConfig(actor_critic=SMALL))
    with pytest.raises(TrainingCancelled):
        learning.train(recorded(rows), lambda _: None, seeded(), lambda: True)
