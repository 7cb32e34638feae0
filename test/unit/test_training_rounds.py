"""Which bundle is kept, why, and what a round is given."""

import dataclasses
import re

import numpy as np
import pytest
from support.toy_rounds import make_rounds, transitions

from mbrl_ros.agents.agent import Surprise
from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.agents.pets import PetsLearnerConfig
from mbrl_ros.errors import ModelMismatchError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.trainer import TrainerConfig
from mbrl_ros.training.drift import DriftConfig, DriftState, detect

CONFIG = PetsLearnerConfig(min_transitions=30,
                           trainer=TrainerConfig(ensemble=EnsembleConfig(ensemble_size=2, hidden_size=16), max_steps=200))


def moves(count, gain=1.0, start=0, noise=0.0):
    rng = np.random.default_rng(start)
    obs, action = rng.normal(size=(count, 2)), rng.uniform(-1, 1, size=(count, 1))
    speed = gain * action[:, 0]
    next_obs = np.stack([obs[:, 0] + 0.05 * speed, speed], axis=1) + noise * rng.normal(size=(count, 2))
    return transitions(obs, action, next_obs, start)


def train(subject, data, episode=0):
    return subject.round(data, episode=episode, round_index=episode, stamp_ns=10 + episode)


def test_a_young_bundle_tells_a_change_from_typical_errors_and_not_from_one_collision():
    def told(typical_error):
        return detect(DriftState(), DriftConfig(), recent=Surprise(0.9, typical_error, 40), before=Surprise(0.0, 0.01, 40),
                      num_transitions=100, since_ns=0)

    assert told(0.01) == (DriftState(), '')
    state, said = told(0.6)
    assert state == DriftState()
    assert 'the arm has changed or is where it never was' in said and '0.6000' in said and '0.0100' in said


def test_rounds_count_versions_and_report():
    subject, data = make_rounds(CONFIG), moves(120)
    earlier = train(subject, data.take(slice(60)))
    second = train(subject, data, episode=1)
    assert (earlier.model_version, second.model_version, subject.current.version) == (1, 2, 2)
    assert (second.trained_episode, second.num_transitions, second.stamp_ns) == (1, 120, 11)
    card = subject.current.card
    assert (card.num_transitions, card.trained_episode, card.created_ns) == (120, 1, 11)
    assert card.figures['holdout_rmse'] == second.holdout_rmse < 0.01


def test_steps_count_that_are_no_longer_trained_on_or_that_only_the_caller_knows_of():
    subject, data = make_rounds(dataclasses.replace(CONFIG, max_transitions=100)), moves(120)
    train(subject, data)
    assert (subject.current.card.num_transitions, subject.current.card.real_steps) == (100, 120)
    other = make_rounds(CONFIG)
    other.round(data, episode=0, round_index=0, stamp_ns=0, real_steps=500)
    assert (other.current.card.num_transitions, other.current.card.real_steps) == (120, 500)


def test_too_few_transitions_are_reported_not_trained_on():
    result = train(make_rounds(CONFIG), moves(20), episode=3)
    assert not result.accepted and result.trained_episode == 3 and result.model_version == 0
    assert result.reason == 'no round: 20 transitions, training needs 30'


def test_a_model_of_much_is_not_trained_on_little():
    subject = make_rounds(CONFIG)
    assert train(subject, moves(200)).accepted
    resumed = make_rounds(CONFIG)
    resumed.resume(subject.current)
    result = train(resumed, moves(60, start=1000), episode=1)
    assert (result.reason, result.model_version) == ('no round: 60 transitions, training needs 100', 1)
    assert train(resumed, moves(100, start=1000), episode=2).num_transitions == 100
    small = make_rounds(dataclasses.replace(CONFIG, max_transitions=100))
    card = dataclasses.replace(subject.current.card, num_transitions=20_000)
    small.resume(AgentBundle(card, subject.current.groups))
    assert train(small, moves(150, start=1000)).num_transitions == 100


def test_damaged_data_are_reported_and_the_model_stays():
    subject, data = make_rounds(CONFIG), moves(60)
    train(subject, data)
    before = subject.current
    data.obs[5] = np.inf
    assert 'no round: training data hold a value of obs that is not finite' in train(subject, data).reason
    assert subject.current is before


def test_worse_candidate_leaves_the_model_and_says_so():
    subject, data = make_rounds(CONFIG), moves(200, noise=0.01)
    train(subject, data)
    before = subject.current
    crippled = dataclasses.replace(CONFIG.trainer, ridge=1e4, max_steps=1, warm_start=False)
    other = make_rounds(dataclasses.replace(CONFIG, trainer=crippled))
    other.resume(before)
    result = train(other, data, episode=1)
    assert not result.accepted and result.reason.startswith('rejected: held-out error')
    assert other.current is before and result.model_version == 1


def test_a_first_model_that_is_worse_than_none_is_rejected_with_both_figures():
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(60, 2)), rng.uniform(-1, 1, size=(60, 1))
    data = transitions(obs, action, obs + rng.standard_cauchy(size=(60, 2)))
    keen = dataclasses.replace(CONFIG.acceptance, constant_tolerance=0.0, rmse_floor=0.0)
    result = train(make_rounds(dataclasses.replace(CONFIG, acceptance=keen)), data)
    assert (result.accepted, result.model_version) == (False, 0)
    assert re.fullmatch(r'rejected: held-out error \d\S+ on \d+ transitions, the mean change alone has \d\S+', result.reason)


def test_changed_arm_is_noticed_and_learned():
    subject, old, new = make_rounds(CONFIG), moves(100), moves(100, gain=-0.5, start=500)
    train(subject, old)
    result = train(subject, Transitions.joined([old, new]), episode=1)
    assert result.changed and 'the arm has changed or is where it never was' in result.reason
    assert result.accepted and result.model_version == 2


def test_same_seed_same_model_bytes_over_rounds():
    def blob(seed):
        subject, data = make_rounds(CONFIG, seed), moves(90, noise=0.01)
        for episode, count in enumerate((40, 90)):
            train(subject, data.take(slice(count)), episode)
        return subject.current.to_bytes()
    assert blob(0) == blob(0) != blob(1)


def test_resume_refuses_a_model_of_another_robot():
    subject = make_rounds(CONFIG)
    train(subject, moves(60))
    other = make_rounds(CONFIG, robot='iiwa')
    with pytest.raises(ModelMismatchError, match="robot 'toy', here it is 'iiwa'"):
        other.resume(subject.current)
    assert other.current is None
