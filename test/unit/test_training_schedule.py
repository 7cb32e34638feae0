"""When a round is due."""

import dataclasses

from mbrl_ros.training.schedule import DueRound, RoundSchedule, ScheduleConfig
from mbrl_ros.types import EpisodeReport, Phase


def report(phase, episode=0, total_steps=0, stamp_ns=1):
    return EpisodeReport(stamp_ns, phase, 0, episode, 0, total_steps, 0.0, 0.0, 0.0, False, (0.0, 0.0, 0.0), 0, 0)


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


def test_steps_in_which_the_arm_was_held_are_waited_for_like_the_others():
    schedule = RoundSchedule(ScheduleConfig(patience_s=2.0), background=False)
    schedule.on_report(dataclasses.replace(report(Phase.TRAINING, 0, 150), held_steps=20), 0.0)
    assert schedule.due(0.5, 160, 160) is None
    assert schedule.due(0.6, 170, 170) == DueRound(0, 0, 1)


def test_a_step_that_turns_out_to_be_held_is_no_new_run():
    schedule = RoundSchedule(ScheduleConfig(patience_s=2.0), background=False)
    schedule.on_report(report(Phase.TRAINING, 0, 150), 0.0)
    assert schedule.due(2.0, 140, 140) == DueRound(0, 0, 1)
    schedule.on_report(dataclasses.replace(report(Phase.STOPPING, 0, 149), held_steps=1), 3.0)
    schedule.on_report(report(Phase.TRAINING, 1, 200), 5.0)
    assert schedule.due(5.0, 190, 190) == DueRound(1, 1, 1)


def test_a_command_after_the_episode_shows_that_nothing_more_of_it_will_come():
    schedule = RoundSchedule(ScheduleConfig(patience_s=2.0), background=False)
    schedule.on_report(report(Phase.RUNNING, 0, 149, stamp_ns=400), 0.0)
    for phase in (Phase.STOPPING, Phase.TRAINING):
        schedule.on_report(dataclasses.replace(report(phase, 0, 150, stamp_ns=500), start_ns=500), 0.0)
    assert schedule.due(0.1, 140, 140, decided_ns=450) is None
    assert schedule.due(0.1, 140, 140, decided_ns=500) == DueRound(0, 0, 500)


def test_in_a_hurry_a_round_in_the_background_needs_nothing_new():
    schedule = RoundSchedule(ScheduleConfig(min_transitions=50, min_new_transitions=25), background=True)
    assert schedule.due(0.0, 60, 60) == DueRound(-1, 0)
    assert schedule.due(0.0, 60, 60) is None
    schedule.hurries = True
    assert schedule.due(0.0, 60, 60) == DueRound(-1, 1)
    schedule.hurries = False
    assert schedule.due(0.0, 60, 60) is None


def test_in_a_hurry_a_round_still_needs_enough_transitions_and_in_lockstep_an_episode():
    schedule = RoundSchedule(ScheduleConfig(min_transitions=50), background=True)
    lockstep = RoundSchedule(ScheduleConfig(), background=False)
    schedule.hurries = lockstep.hurries = True
    assert schedule.due(0.0, 49, 49) is None
    assert lockstep.due(0.0, 60, 60) is None
