"""Latent models: losses and targets by hand, sequences within episodes, and plans of a known optimum in a latent."""

import dataclasses
import types

import numpy as np
import pytest
import torch

from mbrl_ros.errors import BundleError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.actor_critic.experience import Hindsight, Steps, last_of_episode
from mbrl_ros.models.actor_critic.networks import sampled_action, values_of
from mbrl_ros.models.actor_critic.soft_actor_critic import ActorCriticConfig
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.latent.learning import LatentLearning, LatentLearningConfig, Unrolled
from mbrl_ros.models.latent.networks import LatentNetworks, LatentSizes
from mbrl_ros.models.latent.sequences import Sequences
from mbrl_ros.models.latent.world import Discounted, LatentModel, LatentWorld, Units
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.planning.returns import particle_returns
from mbrl_ros.planning.sampling import make_planner
from mbrl_ros.spaces.view import PlainView

FEATURES, ACTIONS, HORIZON, BATCH = 4, 2, 3, 6
CONFIG = LatentLearningConfig(sizes=LatentSizes(latent_size=16, hidden_size=16),
                              actor_critic=ActorCriticConfig(hidden_size=16, discount=0.9, reward_scale=0.5))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made_learning(seed=1, config=CONFIG):
    return LatentLearning(Normalizer.identity(FEATURES), ACTIONS, config, seeded(seed))


def made_batch(seed=0, shown=True):
    def draw(*shape):
        return torch.randn(shape, generator=generator)

    generator = seeded(seed)
    goes_on = torch.ones(HORIZON, BATCH)
    goes_on[2, 0] = goes_on[0, 1] = 0.0
    is_inside = torch.ones(HORIZON, BATCH, dtype=torch.bool)
    is_inside[1:, 1] = is_inside[2, 2] = False
    return Unrolled(draw(BATCH, FEATURES), draw(HORIZON, BATCH, FEATURES), draw(HORIZON, BATCH, ACTIONS).tanh(),
                    draw(HORIZON, BATCH), goes_on, is_inside, torch.full((BATCH,), shown))


def test_latents_begin_as_the_features_and_steps_as_no_change():
    networks, features = made_learning().networks, torch.randn((5, FEATURES), generator=seeded())
    latent = networks.encode(features)
    assert latent.shape == (5, 16)
    torch.testing.assert_close(latent, torch.cat([features, torch.zeros(5, 12)], dim=1), atol=0.1, rtol=0.0)
    torch.testing.assert_close(networks.next(latent, torch.ones(5, ACTIONS)), latent, atol=0.1, rtol=0.0)
    small = LatentNetworks.of_sizes(FEATURES, ACTIONS, LatentSizes(latent_size=2, hidden_size=16), seeded())
    assert small.latent_size == FEATURES  # None of the features is left out.


def test_the_loss_is_that_of_each_step_of_each_sequence_until_its_end():
    learning, batch = made_learning(), made_batch()
    learning.policy.generator = seeded(7)
    found = float(learning.loss(batch).detach())
    networks, policy, total, weights = learning.networks, learning.policy, 0.0, 0.0
    noise = torch.randn((HORIZON * BATCH, ACTIONS), generator=seeded(7)).view(HORIZON, BATCH, ACTIONS)
    targets = policy.groups()['targets']
    with torch.no_grad():
        for row in range(BATCH):
            latent = networks.encode(batch.features[row:row + 1])
            for step in range(HORIZON):
                if not batch.is_inside[step, row]:
                    break
                here = slice(row, row + 1)
                action, reached = batch.action[step, here], networks.encode(batch.next_features[step, here])
                after, _ = sampled_action(policy.actor, reached, noise[step, here])
                critics = made_learning().policy.critics
                critics.load_state_dict(targets)
                lowest = float(values_of(critics, reached, after).min())
                target = 0.5 * float(batch.reward[step, row]) + (0.9 * lowest if batch.goes_on[step, row] else 0.0)
                reward, end = (float(part) for part in networks.outcome_of(latent, action))
                ends = torch.sigmoid(torch.tensor(end))
                values = values_of(policy.critics, latent, action)[:, 0].tolist()
                latent = networks.next(latent, action)
                error = (2.0 * float((latent - reached).square().sum()) / FEATURES
                         + huber(reward - 0.5 * float(batch.reward[step, row]), 1.0)
                         - float(torch.log(1.0 - ends if batch.goes_on[step, row] else ends))
                         + 0.05 * sum(huber(value - target, 3.0) for value in values))
                total, weights = total + 0.5**step * error, weights + 0.5**step
    assert found == pytest.approx(total / weights, rel=1e-4)


def huber(error, delta):
    return 0.5 * error**2 if abs(error) < delta else delta * (abs(error) - 0.5 * delta)


def test_every_network_learns_and_latents_that_are_aimed_at_do_not_move_towards_predictions():
    learning, batch = made_learning(), made_batch()
    before = learning.groups()
    learning.update(batch, seeded(3))
    after = learning.groups()
    unchanged = {f'{name}.{key}' for name in before for key in before[name] if torch.equal(before[name][key], after[name][key])}
    assert not unchanged
    learning.policy.generator = seeded(4)
    aimed = batch.next_features.clone().requires_grad_()
    loss = learning.loss(batch._replace(next_features=aimed, features=batch.features.requires_grad_()))
    to_aim, to_start = torch.autograd.grad(loss, [aimed, batch.features], allow_unused=True)
    assert to_aim is None and (to_start != 0.0).any()


def test_a_policy_that_only_imitates_comes_near_what_was_shown():
    quick = ActorCriticConfig(hidden_size=32, learning_rate=3e-3)
    learning = made_learning(config=dataclasses.replace(CONFIG, actor_critic=quick))
    batch, generator = made_batch(), seeded(3)
    for _ in range(150):
        learning.update(batch, generator, learns_policy=False)
    model = learning.model(Units(0.9, 0.5))
    world = LatentWorld(model, PlainView(FEATURES, has_goal=False), torch.full((3,), torch.nan), FEATURES)
    imitated = torch.stack([world.proposals(row, 2, 1, seeded())[0, 0] for row in batch.features.detach()])
    assert (imitated - batch.action[0]).abs().mean() < 0.1 < batch.action[0].abs().mean()


def test_learning_goes_on_from_its_groups_as_if_it_had_begun_there():
    whole, part, rest = (made_learning(seed) for seed in (1, 1, 9))
    for learning in (whole, part):
        learning.update(made_batch(), seeded(2))
    rest.resume(part.groups())
    for learning in (whole, rest):
        learning.update(made_batch(5), seeded(3))
    ends = [learning.groups() for learning in (whole, rest)]
    assert ends[0].keys() == ends[1].keys() and 'moments of critics' in ends[0]
    assert all(torch.equal(ends[0][name][key], ends[1][name][key]) for name in ends[0] for key in ends[0][name])


def test_a_model_is_its_groups_and_what_is_none_is_refused_in_a_sentence():
    learning = made_learning()
    learning.update(made_batch(), seeded(2))
    groups = learning.model(Units(0.9, 0.5, 0.25, 0.1, 0.2)).groups()
    model = LatentModel.from_groups(groups, FEATURES, ACTIONS)
    assert model.units == Units(0.9, 0.5, 0.25, 0.1, 0.2)
    latent, action = model.encode(torch.ones(1, FEATURES)), torch.zeros(1, ACTIONS)
    assert torch.equal(latent, learning.networks.encode(torch.ones(1, FEATURES)))
    assert torch.equal(values_of(model.critics, latent, action), values_of(learning.policy.critics, latent, action))
    broken = {**groups['encoder'], 'biases.0': torch.full_like(groups['encoder']['biases.0'], torch.nan)}
    for changes, match in (({'encoder': broken}, 'not finite'), ({'dynamics': groups['encoder']}, 'dynamics of the latent model'),
                           ({'critics': groups['actor']}, 'critics of the latent model'), ({'units': {}}, "'discount'"),
                           ({'inputs': {}}, 'positive deviations of 4 features'), ({'actor': {}}, 'no networks'),
                           ({'units': {**groups['units'], 'error': torch.tensor(torch.inf)}}, "'error', got inf"),
                           ({'units': {**groups['units'], 'disagreement': torch.zeros(())}}, "'disagreement', got 0.0")):
        with pytest.raises(BundleError, match=match):
            LatentModel.from_groups({**groups, **changes}, FEATURES, ACTIONS)
    larger = made_learning(config=dataclasses.replace(CONFIG, sizes=LatentSizes(latent_size=24, hidden_size=16)))
    with pytest.raises(BundleError, match='the latent model has other sizes'):
        larger.resume(learning.groups())


def counted(lengths):
    """Transitions of episodes whose observation is a count over all of them."""
    count = sum(lengths)
    obs = np.arange(count, dtype=float)[:, None] + np.zeros(3)
    return Transitions.of(obs, np.zeros((count, 1)), obs + 0.5, np.arange(count), goal=np.full(3, -1.0),
                          episode=np.repeat(np.arange(len(lengths)), lengths))


def test_sequences_keep_to_an_unbroken_run_and_to_one_goal():
    rows = counted([5, 1, 4])
    episode = torch.from_numpy(rows.episode)
    replay = Hindsight(Steps.of(rows), last_of_episode(episode), lambda obs: obs, 0.5, seeded())
    breaks = torch.tensor([False, False, False, True, False, True, True, False, False, False])  # One within the first episode.
    steps, is_inside = Sequences(replay, breaks, torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8]), 3, seeded(1)).draw(500)
    assert steps.obs.shape == (3, 500, 3) and is_inside.shape == (3, 500) and is_inside[0].all()
    begin, run = steps.obs[0, :, 0].long(), breaks.cumsum(0)
    assert set(begin.tolist()) == set(range(9))
    for ahead in range(3):
        at = begin + ahead
        there = (at < 10) & (run[at.clamp(max=9)] == run[begin])
        assert torch.equal(is_inside[ahead], there)
        assert torch.equal(steps.obs[ahead, there, 0].long(), at[there])
    assert (steps.goal == steps.goal[0]).all()
    replaced = steps.goal[0, :, 0] >= 0.0
    assert 0.4 < replaced.float().mean() < 0.6
    assert torch.equal(episode[steps.goal[0, replaced, 0].long()], episode[begin[replaced]])


class Line:
    """A latent that is a place z, moved by half an action; earns -(z'^2 + a^2 / 10); for `LatentModel.networks`."""

    latent_size = 1

    def encode(self, features):
        return features

    def next(self, latent, action):
        return latent + 0.5 * action

    def outcome_of(self, latent, action):
        return -(self.next(latent, action).square() + 0.1 * action.square())[:, 0], torch.full((len(latent),), -40.0)


def on_line(discount, networks=None, anchor=0.0):
    """World of the line with the best policy and its values, from the Riccati equation, and the policy's gain."""
    cost = 0.0  # Of the best way on, for each z^2.
    for _ in range(500):
        gain = 0.5 * (1.0 + discount * cost) / (0.25 * (1.0 + discount * cost) + 0.1)
        cost = (1.0 + discount * cost) * (1.0 - 0.5 * gain)**2 + 0.1 * gain**2

    def actor(latent):
        return torch.stack([torch.cat([torch.atanh(-gain * latent), torch.zeros_like(latent)], dim=1)])

    def critics(joint):
        latent, action = joint[:, :1], joint[:, 1:]
        after = latent + 0.5 * action
        return -((1.0 + discount * cost) * after.square() + 0.1 * action.square()).expand(2, -1, -1)

    actor.sizes = 1, 1, 2
    model = LatentModel(Normalizer.identity(1), networks or Line(), critics, actor, Units(discount, 0.5))
    return LatentWorld(model, PlainView(1, has_goal=False), torch.full((3,), torch.nan), 1, anchor), gain, cost


def test_the_return_of_a_plan_is_its_discounted_rewards_and_the_value_after_them():
    world, _, cost = on_line(0.9)
    start, actions = torch.tensor([0.4]), torch.tensor([[[0.2], [-0.6], [0.1]], [[0.0], [0.0], [0.0]]])
    z, path = start.expand(2, 1), []
    for step in range(3):
        z = world.predict(z[None], actions[None, :, step])[0][0]
        path.append(z)
    found = particle_returns(Discounted(0.9), torch.stack(path)[:, None], actions, start, world)[0].tolist()
    for row, sequence in enumerate(actions[..., 0].tolist()):
        place, expected = 0.4, 0.0
        for step, action in enumerate(sequence):
            place += 0.5 * action
            expected -= 0.9**step * (place**2 + 0.1 * action**2)
        assert found[row] == pytest.approx(expected - 0.9**3 * cost * place**2, abs=1e-5)
        states = torch.cat([start[None], torch.stack(path)[:, row]])
        assert world.worth(states, actions[row]) == pytest.approx(2.0 * found[row], abs=1e-5)


class EndsAtOnce(Line):
    """The same, where every step is the last."""

    def outcome_of(self, latent, action):
        return super().outcome_of(latent, action)[0], torch.full((len(latent),), 40.0)


def test_nothing_counts_after_an_end_that_the_model_foresees():
    world, _, _ = on_line(0.9, EndsAtOnce())
    path = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1, 1)
    found = particle_returns(Discounted(0.9), path, torch.tensor([[[0.2], [-0.2], [-0.2]]]), torch.tensor([0.4]), world)
    assert float(found) == pytest.approx(-(0.5**2 + 0.1 * 0.2**2), abs=1e-5)


def test_an_anchor_takes_off_the_squared_distance_from_the_policy():
    free, gain, _ = on_line(0.9)
    anchored, _, _ = on_line(0.9, anchor=3.0)
    state, action = torch.tensor([[[0.4]], [[-0.2]]]), torch.tensor([[[0.1]], [[0.3]]])
    difference = free.outcome(state, action, state)[0] - anchored.outcome(state, action, state)[0]
    torch.testing.assert_close(difference, 3.0 * (action + gain * state).square()[..., 0])


@pytest.mark.parametrize('optimiser', ['icem', 'mppi'])
@pytest.mark.parametrize('place', [0.3, -0.5])
def test_a_plan_in_the_latent_begins_with_the_best_action_of_a_linear_problem(place, optimiser):
    world, gain, cost = on_line(0.9)
    config = PlannerConfig(optimiser=optimiser, horizon=3, population_size=128, num_elites=16, num_iterations=6, num_particles=1,
                           propagation='expectation', noise_beta=0.0, init_std=0.3, temperature=0.01, device='cpu')
    planner = make_planner(config, 1, seed=0)
    for _ in range(3):
        plan = planner.plan(world, np.array([place]), Discounted(0.9))
    assert plan.actions[0, 0] == pytest.approx(-gain * place, abs=0.05)
    assert plan.value == pytest.approx(-cost * place**2, abs=0.01)


def test_proposals_follow_the_policy_and_only_the_first_is_without_noise():
    world, gain, _ = on_line(0.9)
    proposals = world.proposals(torch.tensor([0.4]), 5, 3, seeded())
    place = 0.4
    for step in range(3):
        assert float(proposals[0, step, 0]) == pytest.approx(-gain * place, abs=1e-5)
        place *= 1.0 - 0.5 * gain
    assert len(set(proposals[:, 0, 0].tolist())) == 5
    assert torch.equal(proposals, world.proposals(torch.tensor([0.4]), 5, 3, seeded()))


def test_doubt_is_the_largest_disagreement_along_a_plan_in_its_unit():
    model = types.SimpleNamespace(networks=Line(), actor=types.SimpleNamespace(sizes=(1, 1, 2)), units=Units(0.9, 1.0, 0.5),
                                  disagreement=lambda latent, action: latent[:, 0] + action[:, 0])
    world = LatentWorld(model, PlainView(1, has_goal=False), torch.zeros(3), 1)
    assert world.doubt(torch.tensor([[0.1], [0.2]]), torch.tensor([[0.1], [0.5]])) == pytest.approx(1.4)
    learning = made_learning()
    latent, action = learning.networks.encode(torch.ones(3, FEATURES)), torch.zeros(3, ACTIONS)
    low, high = values_of(learning.policy.critics, latent, action)
    torch.testing.assert_close(learning.model(Units(0.9, 0.5)).disagreement(latent, action), 0.5 * (high - low).abs())
