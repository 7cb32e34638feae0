"""Whether what was learned follows the reward, and what is told of it."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from support.reward_follower import ROUNDS, FollowerLearner, FollowerLearnerConfig
from support.toy_rounds import ToySpace, transitions

from mbrl_ros.agents.agent import Follows, LearningReport, Lesson
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.mbpo import MbpoLearnerConfig
from mbrl_ros.agents.sac import SacLearner, SacLearnerConfig
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.actor_critic.learning import PolicyLearningConfig
from mbrl_ros.models.actor_critic.soft_actor_critic import ActorCriticConfig
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.reach import ReachTask
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.training.reward_watch import RewardWatch
from mbrl_ros.training.rounds import Rounds
from mbrl_ros.types import TrainingReport

TASK = ReachTask.of_robot(load_robot('panda'))
OLD, NEW, OTHER = ({'distance': distance} for distance in (1.0, 2.0, 3.0))
ROWS = transitions(np.zeros((60, 2)), np.zeros((60, 1)), np.zeros((60, 2)))
REPORT = TrainingReport(5, 3, 2, True, 'fine', 300, 0.1, -2.5, 1.25)


class Refused(FollowerLearner):
    """Every candidate is worse."""

    def update(self, lesson, is_cancelled):
        return LearningReport({}, False, 'worse', {}, {})


class Trainer:
    """Rounds and their watch, at times that the test chooses."""

    def __init__(self, follows=Follows.RETRAINED, learner=FollowerLearner, is_learning=True):
        contract = Contract.of('follower', ToySpace(), robot='toy', task='reach', period_s=0.05)
        self.rounds = Rounds(learner(contract, ToySpace(), None, TASK), contract, FollowerLearnerConfig(), seed=0,
                             follows=follows)
        self.watch = RewardWatch(self.rounds, is_learning=is_learning)

    def round(self, weights, now_s=0.0, count=1):
        for _ in range(count):
            self.rounds.round(ROWS, episode=0, round_index=0, stamp_ns=0, weights=weights)
            self.watch.on_round(now_s)

    @property
    def told(self):
        report = self.watch.marked(REPORT)
        return report.retraining, report.follow_s, report.following


@pytest.fixture
def trained():
    """What was learned for the old reward."""
    trainer = Trainer()
    assert not trainer.watch.on_weights(OLD, 0.0)
    trainer.round(OLD, count=2)
    assert (trainer.rounds.current.card.weights, trainer.told[0], trainer.told[2]) == (OLD, False, '')
    return trainer


def test_a_policy_is_retrained_until_it_had_its_rounds_and_how_long_that_took_is_told(trained):
    assert trained.watch.on_weights(NEW, 10.0)
    assert (trained.told[0], trained.told[2]) == (True, 'retraining: reward changed (0 of 3 rounds)')
    trained.round(NEW, 12.0, ROUNDS - 1)
    assert (trained.told[0], trained.told[2]) == (True, 'retraining: reward changed (2 of 3 rounds)')
    assert math.isnan(trained.told[1]) and trained.rounds.current.card.weights == OLD
    trained.round(NEW, 15.5)
    assert trained.told == (False, 5.5, 'the agent follows the new reward after 3 rounds, 5.5 s')
    assert trained.rounds.current.card.weights == NEW
    trained.round(NEW, 99.0)
    assert trained.told[1] == 5.5


def test_the_same_weights_again_change_nothing(trained):
    assert not trained.watch.on_weights(dict(OLD), 10.0)
    assert trained.watch.on_weights(NEW, 11.0)
    trained.round(NEW)
    assert not trained.watch.on_weights(dict(NEW), 12.0)
    assert trained.told[2] == 'retraining: reward changed (1 of 3 rounds)'


def test_of_two_changes_the_second_counts(trained):
    trained.watch.on_weights(NEW, 10.0)
    trained.round(NEW, 11.0, ROUNDS - 1)
    trained.watch.on_weights(OTHER, 20.0)
    assert trained.told[2] == 'retraining: reward changed (0 of 3 rounds)'
    trained.round(OTHER, 24.0, ROUNDS)
    assert trained.told[:2] == (False, 4.0)


def test_a_round_that_began_with_other_weights_does_not_count(trained):
    trained.watch.on_weights(NEW, 10.0)
    trained.round(OLD, 11.0)
    assert trained.told[2] == 'retraining: reward changed (0 of 3 rounds)'
    trained.round(NEW, 12.0, ROUNDS)
    assert not trained.told[0]


def test_a_change_that_is_taken_back_in_time_leaves_nothing_to_learn_and_one_that_was_learned_from_does(trained):
    trained.watch.on_weights(NEW, 10.0)
    trained.watch.on_weights(OLD, 11.0)
    assert trained.told == (False, 0.0, 'reward changed: the agent follows at once')
    trained.watch.on_weights(NEW, 12.0)
    trained.round(NEW, 13.0)
    trained.watch.on_weights(OLD, 14.0)
    assert trained.told[0]
    trained.round(OLD, 15.0, ROUNDS)
    assert trained.told[:2] == (False, 1.0)


def test_a_change_during_the_first_round_is_caught_up_with_too():
    trainer = Trainer()
    trainer.watch.on_weights(OLD, 0.0)
    trainer.watch.on_weights(NEW, 1.0)
    assert not trainer.told[0]
    trainer.round(OLD, 2.0)
    assert trainer.told[0] and math.isnan(trainer.told[1])
    trainer.round(NEW, 3.0, ROUNDS)
    assert trainer.told[:2] == (False, 2.0)


def test_a_round_that_is_refused_does_not_count(trained):
    stuck = Trainer(learner=Refused)
    stuck.rounds.resume(trained.rounds.current)
    stuck.watch.on_weights(NEW, 0.0)
    stuck.round(NEW, 1.0, ROUNDS)
    assert stuck.told[2] == 'retraining: reward changed (0 of 3 rounds)'


def test_a_bundle_of_another_reward_is_behind_as_soon_as_the_weights_are_heard(trained):
    later = Trainer()
    later.rounds.resume(AgentBundle.from_bytes(trained.rounds.current.to_bytes()))
    assert later.watch.on_weights(NEW, 7.0)
    assert later.told[2] == 'retraining: reward changed (0 of 3 rounds)'
    later.round(NEW, 8.0, ROUNDS)
    assert later.told[:2] == (False, 1.0)


def test_a_run_that_ended_while_it_caught_up_goes_on_with_it(trained):
    trained.watch.on_weights(NEW, 7.0)
    trained.round(NEW, 8.0)
    later = Trainer()
    later.rounds.resume(trained.rounds.current)
    later.watch.on_weights(NEW, 0.0)
    assert later.told[0]


def test_a_bundle_that_does_not_say_its_reward_counts_as_one_of_the_present(trained):
    later, bundle = Trainer(), trained.rounds.current
    later.rounds.resume(AgentBundle(dataclasses.replace(bundle.card, weights={}), bundle.groups))
    assert not later.watch.on_weights(NEW, 7.0)
    later.round(NEW)
    assert later.rounds.current.card.weights == NEW


@pytest.mark.parametrize(('follows', 'text', 'follow_s'), [
    (Follows.AT_ONCE, 'reward changed: the agent follows at once', 0.0),
    (Follows.NEVER, 'reward changed: the agent does not follow', math.nan)])
def test_other_agents_are_never_retrained(follows, text, follow_s):
    trainer = Trainer(follows)
    assert not trainer.watch.on_weights(OLD, 0.0)
    trainer.round(OLD)
    assert trainer.watch.on_weights(NEW, 1.0)
    assert trainer.told == (False, pytest.approx(follow_s, nan_ok=True), text)
    assert trainer.rounds.current.card.weights == {}


def test_without_learning_the_agent_stays_behind_and_that_is_said(trained):
    frozen = Trainer(is_learning=False)
    frozen.rounds.resume(trained.rounds.current)
    frozen.watch.on_weights(NEW, 1.0)
    assert frozen.told[0] and frozen.told[2] == 'reward changed: learning is off, so the agent follows the one before'


@pytest.mark.parametrize('kind', [MbpoLearnerConfig, SacLearnerConfig])
def test_after_its_rounds_a_tenth_of_the_former_reward_is_left_in_the_values(kind):
    networks = ActorCriticConfig(discount=0.9, target_rate=0.05)
    config = kind(policy=PolicyLearningConfig(updates=100, actor_critic=networks))
    target, left = 0.0, []
    # A reward of 1 - discount in each step, for critics that learn at once what their targets say; the values become 1.
    for _ in range(config.rounds_to_follow):
        for _ in range(100):
            critic = (1.0 - networks.discount) + networks.discount * target
            target += networks.target_rate * (critic - target)
        left.append(1.0 - target)
    assert left[-1] < 0.1 < left[-2]


def learned_critics(weights_before, weights):
    """Critics of a round, of a learner whose task got other weights after it was made."""
    task = make_task('lift', load_robot('panda'))
    task.weights = weights_before
    small = ActorCriticConfig(hidden_size=8)
    config = SacLearnerConfig(policy=PolicyLearningConfig(
        updates=5, first_updates=5, imitation_steps=5, batch_size=16, actor_critic=small))
    learner = SacLearner(Contract.of('sac', task.space, robot='panda', task='lift', period_s=0.1), task.space, config, task)
    task.weights = weights
    rng = np.random.default_rng(0)
    obs, action, goal = rng.normal(size=(41, task.obs_size)), rng.uniform(-1, 1, (40, task.action_size)), rng.normal(size=(40, 3))
    rows = Transitions.of(obs[:-1], action, obs[1:], np.arange(40), goal=goal)
    nobody = np.zeros(40, dtype=bool)
    return learner.update(Lesson(rows, nobody, nobody, nobody, 0, seed=3), bool).groups['critics']['weights.2']


def test_a_learner_of_policies_learns_for_the_weights_that_its_task_has_now():
    own = make_task('lift', load_robot('panda')).weights
    other = type(own)(**dict.fromkeys(vars(own), 0.0))
    assert torch.equal(learned_critics(own, other), learned_critics(other, other))
    assert not torch.equal(learned_critics(own, other), learned_critics(own, own))
