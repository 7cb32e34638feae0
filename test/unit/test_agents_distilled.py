"""A policy distilled from the planner: it is shown the planner's own plans, and acts once it earns as much."""

import dataclasses

import numpy as np
import pytest
import torch

from mbrl_ros.agents.agent import Lesson
from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.agents.ensemble import ENSEMBLE, EnsembleLearner
from mbrl_ros.agents.pets import PetsActingConfig, PetsAgent
from mbrl_ros.agents.pets_distilled import KIND, Teacher, drawn_starts, largest_change
from mbrl_ros.agents.policy_agent import PolicyActingConfig, PolicyAgent
from mbrl_ros.errors import BundleError, TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.actor_critic.distillation import Labels, regressed
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.registry import make_task

ROBOT = load_robot('panda')
TASK = make_task('reach', ROBOT)
SPACE, PERIOD_S, STEPS = TASK.space, 0.05, 4
CONTRACT = Contract.of('pets_distilled', SPACE, robot='panda', task='reach', period_s=PERIOD_S)
GOAL = np.array([0.5, 0.1, 0.5])
PLANNER = {'horizon': 2, 'population_size': 8, 'num_elites': 2, 'num_iterations': 1, 'num_particles': 2, 'device': 'cpu'}
CONFIG = KIND.config.from_mapping({'exploration': 0.3, 'planner': PLANNER, 'learner': {
    'teacher': PLANNER,
    'distillation': {'starts': 2, 'steps': STEPS, 'max_labels': 100, 'updates': 5, 'batch_size': 8, 'hidden_size': 16},
    'trainer': {'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 8}, 'max_steps': 20},
    'acceptance': {'rmse_floor': 100.0, 'nll_tolerance': 1e6, 'constant_tolerance': 100.0}}})


def experience(episodes=4, steps=20, seed=0):
    """An arm whose joints move as they are told, each episode from home."""
    rng, limits = np.random.default_rng(seed), np.array(ROBOT.max_velocity_rad_s)
    rows = []
    for episode in range(episodes):
        q, goal = np.array(ROBOT.home_rad), ROBOT.workspace.sample(rng)
        obs = np.append(q, np.zeros(7))
        for action in 0.3 * np.cumsum(rng.uniform(-0.3, 0.3, (steps, 7)), axis=0):
            q = q + PERIOD_S * action * limits
            after = np.append(q, action * limits)
            rows.append((obs, action, after, episode, goal))
            obs = after
    obs, action, next_obs, episode, goal = (np.array(column) for column in zip(*rows))
    return Transitions.of(obs, action, next_obs, np.arange(len(obs)) * 50_000_000, episode=episode, goal=goal)


def lesson(learner, seed=3):
    rows = experience()
    held_out = learner.held_out(rows)
    return Lesson(rows, held_out, held_out, np.zeros(len(rows), dtype=bool), 0, seed)


def bundle_of(groups, version=1):
    return AgentBundle(Card(version, CONTRACT, 80, 3, {}, 0, 80, view='joint 1'), groups)


def new_learner(**distillation):
    settings = dataclasses.replace(CONFIG.learner, distillation=dataclasses.replace(CONFIG.learner.distillation, **distillation))
    return KIND.make_learner(CONTRACT, SPACE, settings, TASK)


@pytest.fixture(scope='module')
def bundle():
    learner = new_learner()
    return bundle_of(learner.update(lesson(learner), bool).groups)


def trusting(bundle, trust):
    return AgentBundle(bundle.card, {**bundle.groups, 'trust': {'policy': torch.tensor([float(trust)])}})


def planner(bundle, change=0.2):
    config = PetsActingConfig(planner=CONFIG.learner.teacher, network=CONFIG.learner.trainer.ensemble)
    return PetsAgent(CONTRACT, SPACE, config, max_action_change=np.full(7, change)).with_bundle(bundle)


def decided(agent, obs, seed=0):
    return agent.act(obs, GOAL, agent.reset(seed), objective=TASK.objective(GOAL), previous_action=np.zeros(7)).action


@pytest.mark.parametrize('policy', [None, lambda obs, goal: np.full(7, 0.9)])
def test_labels_are_the_planners_own_actions_on_the_way_that_is_followed(bundle, policy):
    start = drawn_starts(experience(), 3, np.random.default_rng(1))[1]
    change, own = np.full(7, 0.2), planner(bundle)
    path = list(Teacher(planner(bundle), TASK, change, PERIOD_S).episode(start, STEPS, policy, seed=5))
    memory, obs, previous, objective = own.reset(5), start.obs, start.previous_action, TASK.objective(start.goal)
    assert len(path) == STEPS
    for (seen, goal, label), reward in path:
        np.testing.assert_array_equal(seen, obs)
        np.testing.assert_array_equal(goal, start.goal)
        plan = own.act(obs, goal, memory, objective=objective, previous_action=previous)
        np.testing.assert_allclose(label, plan.action, atol=1e-6)
        wish = label if policy is None else policy(obs, goal)
        previous = previous + np.clip(wish - previous, -change, change)
        obs = own.predict(obs, previous, PERIOD_S)
        assert reward == pytest.approx(float(TASK.reward(torch.from_numpy(obs), torch.from_numpy(previous), goal)), abs=1e-4)


def test_an_imagined_episode_ends_with_the_model_or_where_it_diverges(bundle):
    start = drawn_starts(experience(), 1, np.random.default_rng(1))[0]
    lost = dataclasses.replace(start, obs=np.full(14, np.nan))
    assert not list(Teacher(planner(bundle), TASK, np.ones(7), PERIOD_S).episode(lost, STEPS, None, seed=0))
    over = make_task('reach', ROBOT)
    over.is_over = lambda obs: torch.tensor(True)
    assert len(list(Teacher(planner(bundle), over, np.ones(7), PERIOD_S).episode(start, STEPS, None, seed=0))) == 1


def test_imagined_episodes_start_in_real_states_and_every_other_where_a_real_one_did():
    rows = experience()
    starts = drawn_starts(rows, 40, np.random.default_rng(0))
    for index, start in enumerate(starts):
        row = int(np.flatnonzero((rows.obs == start.obs).all(axis=1))[0])
        is_first = row % 20 == 0
        assert is_first or index % 2
        np.testing.assert_array_equal(start.previous_action, np.zeros(7) if is_first else rows.action[row - 1])
        assert all(start.goal[axis] in rows.goal[:, axis] for axis in range(3))
    assert len({start.goal.tobytes() for start in starts}) > len(np.unique(rows.goal, axis=0))


def test_without_goals_none_are_drawn():
    rows = dataclasses.replace(experience(), goal=np.full((80, 3), np.nan))
    assert all(np.isnan(start.goal).all() for start in drawn_starts(rows, 4, np.random.default_rng(0)))


def test_the_largest_change_is_one_within_an_episode():
    rows = experience(episodes=2, steps=3)
    action = np.zeros((6, 7))
    action[2], action[3] = 0.3, -0.9
    np.testing.assert_array_equal(largest_change(dataclasses.replace(rows, action=action)), np.full(7, 0.9))
    action[4:] = -0.9
    np.testing.assert_array_equal(largest_change(dataclasses.replace(rows, action=action)), np.full(7, 0.3))


def test_a_round_is_the_same_of_the_same_seed_and_goes_on_exactly_from_the_bundles_bytes(bundle):
    whole, resumed, other = new_learner(), new_learner(), new_learner()
    for learner, begin in ((whole, bundle), (resumed, AgentBundle.from_bytes(bundle.to_bytes())), (other, bundle)):
        learner.resume(begin)
    second = bundle_of(whole.update(lesson(whole, seed=4), bool).groups, 2).to_bytes()
    assert bundle_of(resumed.update(lesson(resumed, seed=4), bool).groups, 2).to_bytes() == second
    assert bundle_of(other.update(lesson(other, seed=5), bool).groups, 2).to_bytes() != second


def test_labels_add_up_and_the_oldest_are_let_go(bundle):
    first = Labels(**bundle.group('labels'))
    assert len(first.obs) == 2 * 2 * STEPS
    learner = new_learner(max_labels=100)
    learner.resume(bundle)
    groups = learner.update(lesson(learner), bool).groups
    assert len(groups['labels']['obs']) == 2 * len(first.obs)
    torch.testing.assert_close(groups['labels']['action'][:len(first.obs)], first.action)
    newest = first.with_newer(Labels(first.obs + 1.0, first.goal, first.action), 20)
    assert len(newest.obs) == 20
    torch.testing.assert_close(newest.obs[4:], first.obs + 1.0)


def test_the_policy_learns_its_labels():
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn((400, 14), generator=generator)
    labels = Labels(obs, torch.zeros(400, 3), torch.tanh(obs[:, :7] - obs[:, 7:]))
    config = dataclasses.replace(CONFIG.learner.distillation, updates=300, batch_size=64, hidden_size=64, learning_rate=5e-3)
    policy = regressed(None, SPACE.view, labels, config, seed=0, is_cancelled=bool)
    further = regressed(policy, SPACE.view, labels, config, seed=1, is_cancelled=bool)
    features = SPACE.view.features(labels.obs, labels.goal)
    errors = [float((one(features) - labels.action).square().mean()) for one in (policy, further)]
    assert errors[1] < errors[0] < 0.05 * float(labels.action.var())
    with pytest.raises(TrainingCancelled):
        regressed(policy, SPACE.view, labels, config, seed=0, is_cancelled=lambda: True)


def test_the_policy_begins_to_act_near_the_planners_return_and_stops_at_twice_the_distance(bundle):
    learner, planned = new_learner(tolerance=0.5), np.array([-2.0, 2.0])
    near, farther, far = planned - 0.9, planned - 1.9, planned - 2.1
    assert [learner._judged(planned, followed)[0] for followed in (near, farther, far)] == [True, False, False]
    learner.resume(trusting(bundle, True))
    assert [learner._judged(planned, followed)[0] for followed in (near, farther, far)] == [True, True, False]


@pytest.mark.parametrize(('actor', 'trust', 'acts'), [('trusted', True, 'policy'), ('trusted', False, 'planner'),
                                                      ('policy', False, 'policy'), ('planner', True, 'planner')])
def test_the_agent_is_the_policy_or_the_planner_within_bounds(bundle, actor, trust, acts):
    config = dataclasses.replace(CONFIG, actor=actor).evaluated().acting()
    made = KIND.make_agent(CONTRACT, SPACE, config, max_action_change=np.full(7, 0.2))
    assert not made.is_ready and made.version == 0
    agent = made.with_bundle(AgentBundle.from_bytes(trusting(bundle, trust).to_bytes()))
    policy = PolicyAgent(CONTRACT, SPACE, PolicyActingConfig(exploration=0.0)).with_bundle(bundle)
    expected = {'policy': policy, 'planner': planner(bundle)}[acts]
    for obs in experience().obs[::9]:
        action = decided(agent, obs)
        np.testing.assert_array_equal(action, decided(expected, obs))
        np.testing.assert_allclose(agent.predict(obs, action, 0.02), expected.predict(obs, action, 0.02), atol=1e-6)
        assert (np.abs(action) <= 1.0).all()
    assert (agent.version, agent.is_ready) == (1, True)


def test_it_gets_ready_for_both_and_only_learning_explores(bundle):
    config = dataclasses.replace(CONFIG, actor='policy')
    moving, still = (KIND.make_agent(CONTRACT, SPACE, one.acting()) for one in (config, config.evaluated()))
    assert still.prepare(experience().obs[0], TASK.objective(GOAL)).endswith('; acting with a policy')
    seeds = [[decided(agent.with_bundle(bundle), experience().obs[0], seed) for seed in (0, 1)] for agent in (moving, still)]
    assert (seeds[0][0] != seeds[0][1]).any() and (seeds[1][0] == seeds[1][1]).all()


@pytest.mark.parametrize(('group', 'tensors', 'text'), [
    ('labels', {'obs': torch.zeros(4, 14), 'goal': torch.zeros(4, 3), 'action': torch.zeros(3, 7)}, 'need one row each'),
    ('labels', {}, 'need one row each'),
    ('trust', {'policy': torch.zeros(2)}, 'one number whether its policy acts'),
    ('acting', {}, 'no networks of a policy')])
def test_a_bundle_whose_parts_do_not_fit_is_refused(bundle, group, tensors, text):
    with pytest.raises(BundleError, match=text):
        new_learner().resume(AgentBundle(bundle.card, {**bundle.groups, group: tensors}))


class Refusing(EnsembleLearner):
    """Fits ensembles that are no better than the one in use."""

    def update(self, lesson, is_cancelled):
        return dataclasses.replace(super().update(lesson, is_cancelled), is_better=False)


def test_without_an_accepted_model_nothing_is_taught_and_a_refused_one_leaves_the_one_in_use(bundle):
    learner = new_learner()
    learner._ensemble = Refusing(CONTRACT, SPACE, CONFIG.learner)
    report = learner.update(lesson(learner), bool)
    assert not report.is_better and 'labels' not in report.groups
    learner.resume(bundle)
    report = learner.update(lesson(learner, seed=9), bool)
    assert report.is_better and len(report.groups['labels']['obs']) > len(bundle.groups['labels']['obs'])
    for name, tensor in bundle.groups[ENSEMBLE].items():
        torch.testing.assert_close(report.groups[ENSEMBLE][name], tensor, rtol=0, atol=0)
