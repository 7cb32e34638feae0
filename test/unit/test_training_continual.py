"""Which model is kept, why, and when a round is due."""

import dataclasses

import numpy as np
import pytest
import torch

from mbrl_ros.agents.snapshot import ModelSnapshot
from mbrl_ros.errors import ModelMismatchError
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.metrics import Validation, validate
from mbrl_ros.models.ensemble.trainer import TrainerConfig
from mbrl_ros.training.acceptance import AcceptanceConfig, decide, describe_change
from mbrl_ros.training.continual import ContinualConfig, ContinualLearner
from mbrl_ros.training.schedule import DueRound, RoundSchedule, ScheduleConfig
from mbrl_ros.types import EpisodeReport, Phase

CONFIG = ContinualConfig(min_transitions=30,
                         trainer=TrainerConfig(ensemble=EnsembleConfig(ensemble_size=2, hidden_size=16), max_steps=200))


def validation(rmse, nll=-2.0, typical=None):
    return Validation(rmse, nll, 0.68, rmse if typical is None else typical, nll, np.full(2, rmse), np.full(2, rmse), 40)


def moves(count, gain=1.0, start=0, noise=0.0):
    rng = np.random.default_rng(start)
    obs, action = rng.normal(size=(count, 2)), rng.uniform(-1, 1, size=(count, 1))
    speed = gain * action[:, 0]
    next_obs = np.stack([obs[:, 0] + 0.05 * speed, speed], axis=1) + noise * rng.normal(size=(count, 2))
    return obs, action, next_obs, (start + np.arange(count)) * 50_000_000


def learner(seed=0, config=CONFIG):
    return ContinualLearner(config, seed=seed, robot='toy', task='reach', state_names=('a',), action_names=('a',), period_s=0.05)


def train(subject, data, episode=0):
    return subject.round(*data, episode=episode, round_index=episode, stamp_ns=10 + episode)


def report(phase, episode=0, total_steps=0, stamp_ns=1):
    return EpisodeReport(stamp_ns, phase, 0, episode, 0, total_steps, 0.0, 0.0, 0.0, False, (0.0, 0.0, 0.0), 0, 0)


def test_first_model_is_accepted():
    decision = decide(validation(0.5), None, AcceptanceConfig())
    assert decision.accepted and decision.reason == 'accepted: first model, held-out error 0.5000 on 40 transitions'


@pytest.mark.parametrize(('candidate', 'current', 'accepted'), [
    (validation(0.09), validation(0.1), True), (validation(0.105), validation(0.1), True),
    (validation(0.12), validation(0.1), False), (validation(0.0025), validation(0.001), True),
    (validation(0.1, nll=0.0), validation(0.1, nll=-2.0), False), (validation(0.05, nll=0.0), validation(0.1, nll=-2.0), True),
    (validation(float('nan')), validation(0.1), False), (validation(0.1, nll=float('inf')), validation(0.1), False)])
def test_worse_is_rejected_with_figures(candidate, current, accepted):
    decision = decide(candidate, current, AcceptanceConfig())
    assert decision.accepted is accepted
    verdict = 'accepted, worse by no more than chance' if candidate.rmse > current.rmse else 'accepted'
    assert decision.reason.startswith(f'{verdict if accepted else "rejected"}: ')
    assert 'not finite' in decision.reason or f'{current.rmse:.4f}' in decision.reason


def test_change_is_told_from_typical_errors_and_not_from_one_collision():
    config = AcceptanceConfig()
    assert describe_change(validation(0.9, typical=0.01), validation(0.01), config) == ''
    said = describe_change(validation(0.9, typical=0.6), validation(0.01), config)
    assert 'the arm has changed or is where it never was' in said and '0.6000' in said and '0.0100' in said
    assert decide(validation(0.1), validation(0.6), config, changed=said).reason.startswith(said)


def test_validation_of_a_perfect_model_is_perfect():
    class Perfect:
        ensemble_size, obs_size, action_size = 2, 2, 1

        def predict(self, obs, action):
            return obs + action, torch.full_like(obs, 0.1)

    obs, action = np.random.default_rng(0).normal(size=(50, 2)), np.ones((50, 1))
    exact = validate(Perfect(), obs, action, obs + 1.0, np.ones(2))
    off = validate(Perfect(), obs, action, obs + 1.1, np.ones(2))
    assert exact.rmse < 1e-6 and exact.coverage == 1.0
    assert exact.nll == pytest.approx(0.5 * np.log(2 * np.pi * 0.01), abs=1e-4)
    assert off.nll == pytest.approx(exact.nll + 0.5, abs=1e-4)
    np.testing.assert_allclose([off.rmse, off.typical_error, *off.member_rmse, *off.dimension_rmse], 0.1, rtol=1e-5)


def test_an_error_of_a_last_digit_is_none_however_sure_the_model_is():
    """An entry that never varies, as a goal that stays, has a unit and a spread far below what float32 can tell apart."""
    class Sure:
        ensemble_size = 2

        def predict(self, obs, action):
            return obs * (1.0 + 1e-7), torch.full_like(obs, 1e-12)

    obs = np.full((20, 1), 0.1)
    result = validate(Sure(), obs, np.zeros((20, 1)), obs, np.array([1e-6]))
    assert result.nll < 2.0


def test_rounds_count_versions_and_report():
    subject, data = learner(), moves(120)
    first = train(subject, [values[:60] for values in data])
    second = train(subject, data, episode=1)
    assert (first.model_version, second.model_version, subject.current.version) == (1, 2, 2)
    assert (second.trained_episode, second.num_transitions, second.stamp_ns) == (1, 120, 11)
    card = subject.current.card
    assert (card.num_transitions, card.trained_episode, card.created_ns) == (120, 1, 11)
    assert card.holdout_rmse == second.holdout_rmse < 0.01


def test_steps_count_that_are_no_longer_trained_on_or_that_only_the_caller_knows_of():
    subject, data = learner(config=dataclasses.replace(CONFIG, max_transitions=100)), moves(120)
    train(subject, data)
    assert (subject.current.card.num_transitions, subject.current.card.real_steps) == (100, 120)
    other = learner()
    other.round(*data, episode=0, round_index=0, stamp_ns=0, real_steps=500)
    assert (other.current.card.num_transitions, other.current.card.real_steps) == (120, 500)


def test_too_few_transitions_are_reported_not_trained_on():
    result = train(learner(), moves(20), episode=3)
    assert not result.accepted and result.trained_episode == 3 and result.model_version == 0
    assert result.reason == 'no round: 20 transitions, training needs 30'


def test_a_model_of_much_is_not_trained_on_little():
    subject = learner()
    assert train(subject, moves(200)).accepted
    resumed = learner()
    resumed.resume(subject.current)
    result = train(resumed, moves(60, start=1000), episode=1)
    assert (result.reason, result.model_version) == ('no round: 60 transitions, training needs 100', 1)
    assert train(resumed, moves(100, start=1000), episode=2).num_transitions == 100
    small = learner(config=dataclasses.replace(CONFIG, max_transitions=100))
    card = dataclasses.replace(subject.current.card, num_transitions=20_000)
    small.resume(ModelSnapshot(card, subject.current.parameters))
    assert train(small, moves(150, start=1000)).num_transitions == 100


def test_damaged_data_are_reported_and_the_model_stays():
    subject, data = learner(), moves(60)
    train(subject, data)
    before = subject.current
    data[0][5] = np.inf
    assert 'no round: training data hold a value of obs that is not finite' in train(subject, data).reason
    assert subject.current is before


def test_worse_candidate_leaves_the_model_and_says_so():
    subject, data = learner(), moves(200, noise=0.01)
    train(subject, data)
    before = subject.current
    crippled = dataclasses.replace(CONFIG.trainer, ridge=1e4, max_steps=1, warm_start=False)
    other = learner(config=dataclasses.replace(CONFIG, trainer=crippled))
    other.resume(before)
    result = train(other, data, episode=1)
    assert not result.accepted and result.reason.startswith('rejected: held-out error')
    assert other.current is before and result.model_version == 1


def test_changed_arm_is_noticed_and_learned():
    subject, old, new = learner(), moves(100), moves(100, gain=-0.5, start=500)
    train(subject, old)
    both = [np.concatenate(pair) for pair in zip(old, new)]
    result = train(subject, both, episode=1)
    assert result.changed and 'the arm has changed or is where it never was' in result.reason
    assert result.accepted and result.model_version == 2


def test_same_seed_same_model_bytes_over_rounds():
    def blob(seed):
        subject, data = learner(seed), moves(90, noise=0.01)
        for episode, count in enumerate((40, 90)):
            train(subject, [values[:count] for values in data], episode)
        return subject.current.to_bytes()
    assert blob(0) == blob(0) != blob(1)


def test_resume_refuses_a_model_of_another_robot():
    subject = learner()
    train(subject, moves(60))
    other = ContinualLearner(CONFIG, seed=0, robot='iiwa', task='reach', state_names=('a',), action_names=('a',), period_s=0.05)
    with pytest.raises(ModelMismatchError, match="robot 'toy', here it is 'iiwa'"):
        other.resume(subject.current)
    assert other.current is None


def test_lockstep_round_waits_for_every_transition_of_the_episode():
    schedule = RoundSchedule(ScheduleConfig(patience_s=2.0), background=False)
    assert schedule.due(0.0, 500, 500) is None
    schedule.on_report(report(Phase.RUNNING, 2, 150), 0.0)
    assert schedule.due(0.0, 500, 500) is None
    schedule.on_report(report(Phase.TRAINING, 2, 150), 1.0)
    assert schedule.due(1.0, 149, 149) is None
    assert schedule.due(1.1, 150, 150) == DueRound(2, 2, stamp_ns=1)
    schedule.on_report(report(Phase.TRAINING, 2, 150), 1.2)
    assert schedule.due(1.3, 150, 150) is None


def test_missing_transitions_delay_a_round_only_so_long():
    schedule = RoundSchedule(ScheduleConfig(patience_s=2.0), background=False)
    schedule.on_report(report(Phase.TRAINING, 0, 150), 1.0)
    schedule.on_report(report(Phase.TRAINING, 0, 150), 2.9)
    assert schedule.due(2.9, 140, 140) is None
    assert schedule.due(3.0, 140, 140) == DueRound(0, 0, 1)


def test_transitions_waited_for_in_vain_once_are_not_waited_for_again():
    schedule = RoundSchedule(ScheduleConfig(patience_s=2.0), background=False)
    schedule.on_report(report(Phase.TRAINING, 0, 150), 0.0)
    assert schedule.due(2.0, 140, 140) == DueRound(0, 0, 1)
    schedule.on_report(report(Phase.TRAINING, 1, 200), 5.0)
    assert schedule.due(5.0, 189, 189) is None
    assert schedule.due(5.0, 190, 190) == DueRound(1, 1, 1)


def test_transitions_of_a_world_that_has_ended_are_not_waited_for():
    schedule = RoundSchedule(ScheduleConfig(patience_s=2.0), background=False)
    schedule.on_report(report(Phase.RUNNING, 0, 4, stamp_ns=900), 0.0)
    assert schedule.due(0.0, 1, 1) is None
    schedule.on_report(report(Phase.RESETTING, 0, 4, stamp_ns=250), 1.0)
    assert schedule.due(1.0, 2, 2) is None
    schedule.on_report(report(Phase.TRAINING, 1, 54, stamp_ns=3500), 2.0)
    assert schedule.due(2.0, 51, 51) is None
    assert schedule.due(2.0, 52, 52) == DueRound(1, 1, 3500)


def test_background_rounds_follow_the_number_of_new_transitions():
    schedule = RoundSchedule(ScheduleConfig(min_transitions=50, min_new_transitions=25), background=True)
    assert [count for count in range(0, 130) if schedule.due(0.0, count, count)] == [50, 75, 100, 125]
    schedule.on_report(report(Phase.RUNNING, 4), 0.0)
    assert schedule.due(0.0, 150, 150) == DueRound(3, 4)


def test_new_manager_counts_episodes_anew():
    schedule = RoundSchedule(ScheduleConfig(), background=False)
    schedule.on_report(report(Phase.TRAINING, 7, 0), 0.0)
    assert schedule.due(0.0, 0, 0) == DueRound(7, 7, 1)
    schedule.on_report(report(Phase.RUNNING, 0, 0), 1.0)
    schedule.on_report(report(Phase.TRAINING, 0, 0), 1.0)
    assert schedule.due(1.0, 0, 0) == DueRound(0, 0, 1)


def test_new_manager_in_the_same_episode_counts_anew():
    schedule = RoundSchedule(ScheduleConfig(patience_s=2.0), background=False)
    schedule.on_report(report(Phase.TRAINING, 0, 50), 0.0)
    assert schedule.due(2.0, 40, 40) == DueRound(0, 0, 1)
    schedule.on_report(report(Phase.RESETTING, 0, 0), 3.0)
    schedule.on_report(report(Phase.TRAINING, 0, 50), 4.0)
    assert schedule.due(4.0, 80, 40) is None
    assert schedule.due(4.0, 90, 50) == DueRound(0, 0, 1)
