"""Drifts of the world: small surprises that go on are noticed, chance is not, and what came since counts more."""

import dataclasses

import numpy as np
import pytest
from support.toy_rounds import make_rounds, transitions

from mbrl_ros.agents.agent import Surprise
from mbrl_ros.agents.pets import PetsLearner, PetsLearnerConfig
from mbrl_ros.errors import TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.metrics import validate
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.ensemble.trainer import TrainerConfig
from mbrl_ros.training.drift import NEVER_NS, DriftConfig, DriftState, detect

CONFIG = DriftConfig(min_transitions=200)
LEARNER = PetsLearnerConfig(min_transitions=30, drift=CONFIG, trainer=TrainerConfig(
    ensemble=EnsembleConfig(ensemble_size=2, hidden_size=16), max_steps=600, patience=20))
ROUND = 40
PERIOD_NS = 50_000_000


def followed(surprises, config=CONFIG):
    """States and alarms over rounds whose new transitions surprise by so much more than held-out ones."""
    states, alarms = [DriftState()], []
    for index, surprise in enumerate(surprises):
        state, said = detect(states[-1], config, recent=Surprise(surprise - 1.0, 0.0, 40), before=Surprise(-1.0, 0.0, 40),
                             num_transitions=config.min_transitions, since_ns=100 * index)
        states.append(state)
        alarms.append(bool(said))
    return states[1:], alarms


def test_surprises_within_the_slack_never_add_up():
    states, alarms = followed([0.3, -0.5, 0.34] * 200)
    assert not any(alarms) and states[-1] == DriftState()


def test_one_large_surprise_is_chance_and_several_are_a_drift():
    assert followed([0.0, 1.5, 0.0, 0.0])[1] == [False] * 4
    assert followed([0.0, 1.0, 1.0, 1.0])[1] == [False, False, False, True]


def test_one_round_is_never_a_drift_and_two_that_surprise_much_are():
    assert followed([0.0, 50.0, 0.0, 0.0, 0.0])[1] == [False] * 5
    assert followed([0.0, 50.0, 50.0])[1] == [False, False, True]


def test_the_change_is_dated_to_where_the_sum_began_to_rise():
    states, alarms = followed([0.6, -1.0, 0.0, 0.9, 0.9, 0.9, 0.0])
    assert alarms == [False] * 5 + [True, False]
    assert [state.rising_since_ns for state in states] == [0, NEVER_NS, NEVER_NS, 300, 300, NEVER_NS, NEVER_NS]
    assert states[-1] == DriftState(changed_ns=300)


def moves(count, start, *, is_slippery=False):
    """A cart that obeys, but where the floor is slippery, beyond 0.4, only half as well."""
    rng = np.random.default_rng(start)
    obs, action = rng.normal(size=(count, 2)), rng.uniform(-1, 1, size=(count, 1))
    speed = action[:, 0] * np.where(is_slippery & (obs[:, 0] > 0.4), 0.5, 1.0)
    next_obs = np.stack([obs[:, 0] + 0.05 * speed, speed], axis=1) + 0.002 * rng.normal(size=(count, 2))
    return transitions(obs, action, next_obs, start)


def run(config, rounds, changes_at=3, learner=PetsLearner):
    """Reports of rounds of which some came after the floor became slippery, and what made them."""
    subject = make_rounds(config, learner=learner)
    data, reports = moves(400, 0), []
    for index in range(rounds):
        if index:
            data = Transitions.joined([data, moves(ROUND, len(data), is_slippery=index >= changes_at)])
        reports.append(subject.round(data, episode=index, round_index=index, stamp_ns=index))
    return reports, subject


@pytest.fixture(scope='module')
def drifted():
    return run(LEARNER, 8)


def test_a_change_that_few_transitions_show_is_noticed_dated_and_named(drifted):
    reports, learner = drifted
    changed = [index for index, report in enumerate(reports) if report.changed]
    assert changed and min(changed) >= 3
    assert reports[changed[0]].reason.startswith('the world has drifted: the model in use has been more surprised by what is new')
    assert learner.drift.changed_ns >= (400 + 2 * ROUND) * PERIOD_NS


def test_without_a_change_nothing_is_noticed():
    reports, learner = run(LEARNER, 8, changes_at=100)
    assert not any(report.changed for report in reports) and learner.drift.changed_ns == NEVER_NS


def test_a_young_model_is_surprised_by_what_it_sees_and_that_is_no_drift():
    young = dataclasses.replace(LEARNER, drift=dataclasses.replace(CONFIG, min_transitions=10_000))
    reports, learner = run(young, 8)
    assert not any(report.changed for report in reports) and learner.drift == DriftState()


def test_what_came_since_a_drift_counts_more(drifted):
    obs, action, next_obs = moves(2000, 10_000, is_slippery=True).dynamics
    far = obs[:, 0] > 0.4

    def error(learner):
        model = Predictor(DynamicsParameters.from_tensors(learner.current.group('model')))
        return validate(model, obs[far], action[far], next_obs[far], np.ones(2)).rmse

    alike = dataclasses.replace(LEARNER, drift=dataclasses.replace(CONFIG, recent_share=0.0))
    assert error(drifted[1]) < 0.9 * error(run(alike, 8)[1])


def test_what_is_known_of_a_drift_is_taken_up_by_a_run_that_goes_on(drifted):
    learner = make_rounds(LEARNER)
    learner.resume(drifted[1].current, drifted[1].learned_stamps, drift=drifted[1].drift)
    assert learner.drift == drifted[1].drift


class PickyLearner(PetsLearner):
    """Finds no candidate better that was learned from what is slippery."""

    def update(self, lesson, is_cancelled):
        report = super().update(lesson, is_cancelled)
        return dataclasses.replace(report, is_better=report.is_better and lesson.transitions.stamp_ns.max() < 1000 * PERIOD_NS)


@pytest.fixture
def rising():
    """Makes a learner that suspects a drift, and what it has been told with as much again."""
    patient = dataclasses.replace(LEARNER, drift=dataclasses.replace(CONFIG, alarm=100.0))
    data = Transitions.joined([moves(400 + 2 * ROUND, 0), moves(ROUND, 1000, is_slippery=True)])
    return lambda learner=PetsLearner: (run(patient, 3, changes_at=2, learner=learner)[1], data)


def test_a_round_that_came_to_nothing_leaves_no_trace(rising):
    (one, data), (other, _) = rising(), rising()
    with pytest.raises(TrainingCancelled):
        one.round(data, episode=4, round_index=4, stamp_ns=4, is_cancelled=lambda: True)
    for learner in (one, other):
        learner.round(data, episode=4, round_index=4, stamp_ns=4)
    assert one.drift == other.drift
    assert one.drift.level > 0.0


def test_what_a_rejected_model_was_trained_on_surprises_once(rising):
    learner, data = rising(PickyLearner)
    levels = []
    for index in range(4, 7):
        assert not learner.round(data, episode=index, round_index=index, stamp_ns=index).accepted
        levels.append(learner.drift.level)
    assert levels[0] > 0.0
    assert levels == levels[:1] * 3


def test_what_surprised_before_a_restart_does_not_surprise_again_after_it(rising):
    learner, data = rising(PickyLearner)
    learner.round(data, episode=4, round_index=4, stamp_ns=4)
    restarted, _ = rising()
    restarted.resume(learner.current, learner.learned_stamps, learner.judged_stamps, learner.drift)
    restarted.round(data, episode=5, round_index=5, stamp_ns=5)
    assert restarted.drift == learner.drift
    assert learner.drift.level > 0.0


def test_transitions_that_come_few_at_a_time_have_their_say_together(rising):
    learner, data = rising()
    known, level = 400 + 2 * ROUND, learner.drift.level
    for index, end in enumerate(range(known + 4, known + ROUND + 1, 4)):
        learner.round(data.take(slice(end)), episode=index, round_index=4 + index, stamp_ns=index)
    assert learner.drift.level > level
