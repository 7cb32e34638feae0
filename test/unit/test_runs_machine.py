"""The episode machine decides by stamps alone, and every wait has an end."""

import dataclasses

import numpy as np
import pytest
import torch

from mbrl_ros.errors import GoalError, PhaseError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.runs.machine import Counts, EpisodeConfig, EpisodeMachine
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.tasks.reach import ReachWeights
from mbrl_ros.types import Phase, RobotState, TrainingReport

TICK_NS = 50_000_000
ROBOT = load_robot('panda')


class DistanceToGoal:
    """Rewards as if the first three joint angles were the tool's position."""

    state_names = ROBOT.joints
    space = JointSpace(ROBOT)
    action_size = 7
    goal_tolerance_m = 0.02

    def __init__(self, settle_s):
        self.settle_s, self.weights = settle_s, ReachWeights(distance=1.0)

    def sample_goal(self, rng, state):
        return ROBOT.workspace.sample(rng)

    def goal_refusal(self, goal_m):
        return ROBOT.workspace.refusal(goal_m)

    def distance(self, obs, goal):
        return (obs[:3] - torch.as_tensor(goal)).norm()

    def is_within(self, obs, goal):
        return self.distance(obs, goal) <= self.goal_tolerance_m

    def reward(self, obs, action, goal):
        return -self.weights.distance * self.distance(obs, goal)


class Arm:
    """Feeds a machine states whose first three joints are wherever the test wants them; the last joint moves at a speed."""

    def __init__(self, machine):
        self.machine = machine
        self.stamp_ns = 0
        self.moved_rad = 0.0

    def state(self, point=None, speed=0.0, after_ns=TICK_NS, clock_ns=None, noise=0.0):
        self.stamp_ns += after_ns
        self.moved_rad += speed * after_ns * 1e-9
        position = np.array(ROBOT.home_rad)
        position[6] += self.moved_rad
        if point is not None:
            position[:3] = point
        velocity = np.array([0.0] * 6 + [speed + noise])
        return self.machine.on_state(RobotState(self.stamp_ns, ROBOT.joints, position, velocity), clock_ns)

    def held(self, count):
        """States in which the controller holds the arm."""
        return [self.told(True) for _ in range(count)]

    def told(self, is_held):
        self.machine.on_controller(self.stamp_ns, is_held)
        return self.state()

    def states(self, count, **kwargs):
        return [self.state(**kwargs) for _ in range(count)]


def build(*, can_reset=True, settle_steps=5, counts=None, **settings):
    config = EpisodeConfig(**{'exploration_episodes': 0, 'standing_steps': 2, **settings})
    machine = EpisodeMachine(ROBOT, DistanceToGoal(settle_steps / config.control_rate_hz), config, seed=3, can_reset=can_reset,
                             counts=counts or Counts())
    return machine, Arm(machine)


def trained(episode, version=1):
    return TrainingReport(10**15, episode, version, True, '', 100, 0.1, -1.0, 0.5)


def start(machine, arm, version=1):
    machine.on_training(trained(-1, version))
    arm.state()
    return machine.on_reset(arm.stamp_ns)


def test_first_state_asks_for_a_reset_and_the_episode_begins_when_the_world_is_fresh():
    machine, arm = build()
    machine.on_training(trained(-1))
    assert arm.state().phase is Phase.RESETTING
    assert machine.on_reset(arm.stamp_ns + 2 * TICK_NS) is None
    assert arm.state().phase is Phase.RESETTING
    report = arm.state()
    assert (report.phase, report.start_ns, report.step) == (Phase.RUNNING, arm.stamp_ns, 0)


def test_an_arm_that_an_earlier_manager_has_left_in_motion_stops_before_the_world_is_touched():
    machine, arm = build()
    reports = [arm.state(speed=0.5), *arm.states(2)]
    assert [report.phase for report in reports] == [Phase.STOPPING, Phase.STOPPING, Phase.RESETTING]
    assert machine.wants_reset
    assert machine.on_reset(arm.stamp_ns).episode == 0


def test_reply_that_comes_after_the_fresh_state_begins_the_episode_at_that_state():
    machine, arm = build()
    report = start(machine, arm)
    assert (report.phase, report.stamp_ns) == (Phase.RUNNING, arm.stamp_ns)


def test_reply_between_two_ticks_begins_the_episode_on_the_next_one():
    machine, arm = build()
    arm.state()
    arm.states(2)
    assert arm.state(after_ns=TICK_NS // 5) is None
    assert machine.on_reset(arm.stamp_ns - TICK_NS // 5) is None
    assert arm.states(3, after_ns=TICK_NS // 5) == [None] * 3
    report = arm.state(after_ns=TICK_NS // 5)
    assert (report.phase, report.stamp_ns, report.step) == (Phase.EXPLORING, arm.stamp_ns, 0)


def test_time_that_stands_between_two_ticks_is_spoken_of_and_ticks_go_on_from_there():
    machine, arm = build()
    arm.stamp_ns = 100 * TICK_NS
    start(machine, arm)
    arm.stamp_ns = 10 * TICK_NS
    assert arm.state(after_ns=TICK_NS // 5).phase is Phase.STOPPING
    assert arm.states(4, after_ns=TICK_NS // 5) == [None] * 4
    assert arm.states(2, after_ns=0) == [None] * 2
    assert (report := arm.state(after_ns=0)).stamp_ns == arm.stamp_ns == 11 * TICK_NS, report
    assert arm.states(9, after_ns=0) == [None] * 9
    assert arm.state(after_ns=TICK_NS).stamp_ns == 12 * TICK_NS


def test_one_reply_ends_the_wish_for_a_reset_even_before_the_world_is_fresh():
    machine, arm = build()
    assert not machine.wants_reset
    arm.state()
    assert machine.wants_reset
    machine.on_reset(arm.stamp_ns + TICK_NS)
    assert (machine.phase, machine.wants_reset) == (Phase.RESETTING, False)


@pytest.mark.parametrize(('phase', 'after'), [
    (Phase.RUNNING, Phase.STOPPING), (Phase.STOPPING, Phase.STOPPING), (Phase.RESETTING, Phase.RESETTING),
    (Phase.TRAINING, Phase.TRAINING)])
def test_a_clock_set_back_as_by_a_simulator_that_came_back_ends_the_episode_and_the_next_begins(phase, after):
    machine, arm = build(max_episode_steps=3)
    arm.stamp_ns = 100 * TICK_NS
    start(machine, arm)
    while machine.phase is not phase:
        if phase is Phase.RESETTING:
            machine.on_training(trained(0))
        arm.state()
    arm.stamp_ns = 0
    report = arm.state()
    assert (report.phase, report.stamp_ns, report.start_ns) == (after, TICK_NS, TICK_NS)
    if after is Phase.STOPPING:  # Nobody waits for what can be learned of the episode that ended so.
        assert [report.phase for report in arm.states(2)] == [Phase.STOPPING, Phase.RESETTING]
    machine.on_training(trained(0))
    assert machine.wants_reset
    report = machine.on_reset(arm.stamp_ns)
    assert (report.phase, report.episode, report.goal_stamp_ns) == (Phase.RUNNING, 1, arm.stamp_ns)


def test_a_clock_set_back_in_the_last_episode_finishes():
    machine, arm = build(episodes=1)
    arm.stamp_ns = 100 * TICK_NS
    start(machine, arm)
    arm.stamp_ns = 0
    assert [report.phase for report in arm.states(3)] == [Phase.STOPPING, Phase.STOPPING, Phase.FINISHED]


def test_a_late_state_is_not_a_clock_set_back():
    machine, arm = build()
    start(machine, arm)
    assert arm.state(after_ns=-10_000_000) is None


def test_in_simulated_time_a_clock_set_back_by_little_is_told_from_a_late_state():
    machine, arm = build()
    start(machine, arm)
    arm.states(4)
    newest_ns, arm.stamp_ns = arm.stamp_ns, TICK_NS
    assert arm.state(after_ns=0, clock_ns=newest_ns) is None
    report = arm.state(after_ns=0, clock_ns=TICK_NS)
    assert (report.phase, report.stamp_ns) == (Phase.STOPPING, TICK_NS)


def test_without_a_model_the_arm_explores():
    machine, arm = build()
    assert start(machine, arm, version=0).phase is Phase.EXPLORING


def test_demonstrations_come_first_then_random_motion_then_plans():
    machine, arm = build(demonstrations=2, exploration_episodes=1, max_episode_steps=1)
    phases = [start(machine, arm).phase]
    for episode in range(3):
        while machine.phase is not Phase.TRAINING:
            arm.state()
        machine.on_training(trained(episode))
        phases.append(machine.on_reset(arm.stamp_ns).phase)
    assert phases == [Phase.DEMONSTRATED, Phase.DEMONSTRATED, Phase.EXPLORING, Phase.RUNNING]


def test_a_demonstration_is_scored_as_any_episode_and_needs_no_model():
    machine, arm = build(demonstrations=1, settle_steps=2, episodes=1)
    arm.state()
    report = machine.on_reset(arm.stamp_ns)
    assert (report.phase, report.model_version) == (Phase.DEMONSTRATED, 0)
    reports = arm.states(2, point=report.goal_m)
    assert [(report.step, report.success) for report in reports] == [(1, False), (2, True)]
    assert machine.phase is Phase.STOPPING


def test_failed_reset_sends_the_arm_home():
    machine, arm = build()
    arm.state()
    assert machine.on_reset(None).phase is Phase.HOMING


def test_without_a_reset_service_the_arm_goes_home_and_then_begins():
    machine, arm = build(can_reset=False)
    assert arm.state(point=(1.0, 0.5, 0.0)).phase is Phase.HOMING
    assert arm.state(point=(1.0, 0.5, 0.0)).phase is Phase.HOMING
    assert [report.phase for report in arm.states(3)] == [Phase.HOMING, Phase.HOMING, Phase.EXPLORING]


def test_success_needs_consecutive_steps_within_the_tolerance():
    machine, arm = build(settle_steps=3)
    goal = start(machine, arm).goal_m
    arm.states(2, point=goal)
    arm.state(point=np.add(goal, 0.03))
    reports = arm.states(3, point=goal)
    assert [report.success for report in reports] == [False, False, True]
    assert reports[-1].phase is Phase.STOPPING


def test_episode_ends_after_its_steps_and_counts_them():
    machine, arm = build(max_episode_steps=4)
    start(machine, arm)
    reports = arm.states(4)
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert (reports[-1].phase, reports[-1].success, reports[-1].total_steps) == (Phase.STOPPING, False, 4)


def test_states_between_ticks_are_not_steps():
    machine, arm = build()
    start(machine, arm)
    assert arm.states(4, after_ns=TICK_NS // 5) == [None] * 4
    assert arm.state(after_ns=TICK_NS // 5).step == 1


def test_steps_without_a_state_of_their_own_are_counted_with_the_next_one():
    machine, arm = build(max_episode_steps=10)
    start(machine, arm)
    arm.state()
    report = arm.state(after_ns=3 * TICK_NS + TICK_NS // 2)
    assert (report.step, report.total_steps, report.stamp_ns) == (4, 4, arm.stamp_ns)
    assert report.episode_return == pytest.approx(4 * report.reward)
    assert arm.state(after_ns=TICK_NS // 4) is None
    assert arm.state(after_ns=TICK_NS // 4).step == 5
    report = arm.state(after_ns=99 * TICK_NS)
    assert (report.step, report.total_steps, report.phase) == (10, 10, Phase.STOPPING)


def test_a_goal_counts_as_held_between_two_states_that_are_there_and_not_before_the_first():
    machine, arm = build(settle_steps=5)
    goal = start(machine, arm).goal_m
    assert not arm.state(point=goal, after_ns=9 * TICK_NS).success
    assert not arm.state(point=goal, after_ns=3 * TICK_NS).success
    assert arm.state(point=goal).success


def test_an_arm_that_is_seldom_seen_stands_only_once_it_was_seen_to_often_enough():
    machine, arm = build(max_episode_steps=1)
    start(machine, arm)
    arm.state()
    assert arm.state(after_ns=5 * TICK_NS).phase is Phase.STOPPING
    assert arm.state(after_ns=5 * TICK_NS).phase is Phase.TRAINING


def test_repeated_and_older_states_are_not_counted():
    machine, arm = build()
    start(machine, arm)
    arm.state()
    assert arm.state(after_ns=0) is None
    assert arm.state(after_ns=-TICK_NS) is None


def test_learning_begins_once_the_arm_stands():
    machine, arm = build(max_episode_steps=1)
    start(machine, arm)
    arm.state()
    assert arm.state(speed=0.5).phase is Phase.STOPPING
    assert [report.phase for report in arm.states(2)] == [Phase.STOPPING, Phase.TRAINING]


def test_next_episode_waits_for_the_training_of_the_last():
    machine, arm = build(max_episode_steps=1)
    start(machine, arm)
    arm.states(3)
    assert machine.phase is Phase.TRAINING
    assert machine.on_training(trained(-1)) is None
    assert machine.on_training(trained(0, version=2)).phase is Phase.RESETTING
    assert machine.on_reset(arm.stamp_ns).model_version == 2


def test_wait_for_the_trainer_ends_by_the_clock():
    machine, arm = build(max_episode_steps=1, training_timeout_s=5.0)
    start(machine, arm)
    arm.states(3)
    assert machine.on_clock(100.0) is None
    assert machine.on_clock(104.9) is None
    assert machine.on_clock(105.0).phase is Phase.RESETTING


def test_without_waiting_the_next_episode_follows_at_once():
    machine, arm = build(max_episode_steps=1, wait_for_training=False)
    start(machine, arm)
    assert arm.states(3)[-1].phase is Phase.RESETTING


def test_last_episode_finishes():
    machine, arm = build(max_episode_steps=1, episodes=1)
    start(machine, arm)
    arm.states(3)
    assert machine.on_training(trained(0)).phase is Phase.FINISHED


def test_an_arm_that_never_stands_does_not_block():
    machine, arm = build(max_episode_steps=1, phase_timeout_s=0.2)
    start(machine, arm)
    assert arm.states(8, speed=1.0)[-1].phase is Phase.TRAINING


def test_goal_from_outside_holds_with_the_next_tick_and_resets_the_settling():
    machine, arm = build(settle_steps=2)
    start(machine, arm)
    machine.on_goal(np.array([0.5, 0.1, 0.4]), 77)
    report = arm.state(point=(0.5, 0.1, 0.4))
    assert (report.goal_m, report.goal_stamp_ns, report.distance_m) == ((0.5, 0.1, 0.4), 77, 0.0)


def test_goal_out_of_reach_is_refused_and_the_old_one_stays():
    machine, arm = build()
    goal = start(machine, arm).goal_m
    with pytest.raises(GoalError, match='outside the workspace box'):
        machine.on_goal(np.array([2.0, 0.0, 0.4]), 77)
    assert arm.state().goal_m == goal


def test_new_weights_hold_from_the_next_tick_on_for_reward_and_report():
    machine, arm = build()
    start(machine, arm)
    arm.state(after_ns=TICK_NS // 2)
    assert machine.on_weights(ReachWeights(distance=3.0)) is None
    report = arm.state(after_ns=TICK_NS // 2)
    assert report.weights == vars(ReachWeights(distance=3.0))
    assert report.reward == pytest.approx(-3.0 * report.distance_m)
    assert report.episode_return == report.reward


def test_new_weights_are_reported_at_once_where_the_state_was_reported_already():
    machine, arm = build()
    assert machine.on_weights(ReachWeights(distance=3.0)) is None
    before = arm.state()
    assert before.weights['distance'] == 3.0
    report = machine.on_weights(ReachWeights(distance=4.0))
    assert report == dataclasses.replace(before, weights=vars(ReachWeights(distance=4.0)))


def test_goals_depend_on_seed_and_episode_alone():
    first, second = (start(*build()) for _ in range(2))
    assert first.goal_m == second.goal_m
    machine = EpisodeMachine(ROBOT, DistanceToGoal(5), EpisodeConfig(), seed=4, can_reset=True)
    assert start(machine, Arm(machine)).goal_m != first.goal_m


@pytest.mark.parametrize('can_reset', [True, False])
def test_operator_lets_each_episode_begin_once(can_reset):
    machine, arm = build(can_reset=can_reset, wait_for_operator=True, max_episode_steps=2, wait_for_training=False)
    with pytest.raises(PhaseError, match="its phase is 'waiting'"):
        machine.on_operator()
    for episode in range(2):
        while machine.phase is not Phase.WAITING or arm.state().phase is not Phase.WAITING:
            arm.state()
            machine.on_reset(arm.stamp_ns)
        assert machine.report.reason == 'a person has to call ~/proceed'
        report = machine.on_operator()
        assert (report.phase, report.episode, report.reason) == (Phase.EXPLORING, episode, '')
        with pytest.raises(PhaseError, match="its phase is 'exploring'"):
            machine.on_operator()


def test_operator_between_two_ticks_is_heard_once_and_the_episode_begins_on_a_tick():
    machine, arm = build(wait_for_operator=True)
    start(machine, arm)
    arm.state(after_ns=TICK_NS // 2)
    assert machine.on_operator() is None
    with pytest.raises(PhaseError, match='the next episode may begin already'):
        machine.on_operator()
    report = arm.state(after_ns=TICK_NS // 2)
    assert (report.phase, report.start_ns) == (Phase.RUNNING, arm.stamp_ns)


def test_operator_is_refused_while_the_emergency_stop_is_pressed_and_where_nobody_waits_for_one():
    machine, arm = build(can_reset=False)
    machine.on_emergency_stop(True)
    assert arm.states(6)[-1].reason == 'the emergency stop is pressed'
    with pytest.raises(PhaseError, match='release it first'):
        machine.on_operator()
    machine.on_emergency_stop(False)
    with pytest.raises(PhaseError, match='may begin already'):
        machine.on_operator()


def test_an_arm_that_was_moved_while_it_waited_goes_home_before_its_episode():
    machine, arm = build(can_reset=False, wait_for_operator=True)
    assert arm.states(3)[-1].phase is Phase.WAITING
    arm.state(point=(1.0, 0.5, 0.0))
    assert machine.on_operator().phase is Phase.HOMING
    assert [report.phase for report in arm.states(3)] == [Phase.HOMING, Phase.HOMING, Phase.EXPLORING]


def test_training_of_an_earlier_managers_episodes_does_not_count():
    machine, arm = build(max_episode_steps=1)
    machine.on_training(TrainingReport(1, 40, 7, True, '', 100, 0.1, -1.0, 0.5))
    arm.state()
    assert machine.on_reset(arm.stamp_ns).phase is Phase.RUNNING
    assert arm.states(3)[-1].phase is Phase.TRAINING


def test_a_trainer_that_is_ready_again_does_not_send_the_arm_exploring():
    machine, arm = build(max_episode_steps=1)
    start(machine, arm)
    machine.on_training(trained(-1, version=0))
    arm.states(3)
    machine.on_training(trained(0, version=2))
    assert machine.on_reset(arm.stamp_ns).phase is Phase.RUNNING


def test_no_episode_begins_while_the_emergency_stop_is_pressed():
    machine, arm = build(can_reset=False)
    machine.on_emergency_stop(True)
    assert arm.states(6)[-1].phase is Phase.WAITING
    machine.on_emergency_stop(False)
    assert arm.state().phase is Phase.EXPLORING


AWAY = np.array(ROBOT.home_rad[:3]) + (0.0, 0.31, 0.0)


def test_an_arm_that_comes_no_nearer_to_home_waits_says_which_joint_and_tries_again():
    machine, arm = build(can_reset=False, phase_timeout_s=0.5, homing_pause_s=0.3)
    reports = arm.states(20, point=AWAY)
    assert [report.phase for report in reports].count(Phase.WAITING) == 6
    waiting = [report for report in reports if report.phase is Phase.WAITING]
    assert {report.reason for report in waiting} == {'homing for 1 s: panda_joint2 is 0.31 rad from home (tolerance 0.02)'}
    assert reports[-1].phase is Phase.HOMING
    assert {report.phase for report in arm.states(100, point=AWAY)} == {Phase.HOMING, Phase.WAITING}
    while arm.state().phase is not Phase.EXPLORING:
        assert arm.stamp_ns < 200 * TICK_NS
    assert machine.report.reason == ''


def test_a_way_home_that_becomes_shorter_may_take_long():
    machine, arm = build(can_reset=False, phase_timeout_s=0.5)
    for left_rad in np.arange(1.5, 0.03, -0.03):
        assert arm.state(point=np.add(ROBOT.home_rad[:3], (0.0, left_rad, 0.0))).phase is Phase.HOMING
    assert arm.states(4)[-1].phase is Phase.EXPLORING


def test_an_arm_that_does_not_stand_at_home_waits_and_says_what_moves():
    machine, arm = build(can_reset=False, phase_timeout_s=0.5)
    reports = [arm.state(), *(arm.state(speed=0.16 * (-1) ** tick) for tick in range(12))]
    assert reports[-1].phase is Phase.WAITING
    assert reports[-1].reason == ('homing for 1 s: panda_joint7 moved by 0.008 rad in the last 2 control steps '
                                  '(standing: at most 0.005)')


def test_beside_a_person_only_they_let_an_arm_try_again_to_get_home_and_each_episode_needs_its_own_word():
    machine, arm = build(can_reset=False, wait_for_operator=True, phase_timeout_s=0.5, homing_pause_s=0.3)
    arm.states(15, point=AWAY)
    assert {report.phase for report in arm.states(50, point=AWAY)} == {Phase.WAITING}
    assert machine.on_operator().phase is Phase.HOMING
    reports = arm.states(5)
    assert (reports[-1].phase, reports[-1].reason) == (Phase.WAITING, 'a person has to call ~/proceed')
    assert machine.on_operator().phase is Phase.EXPLORING


def test_velocity_noise_on_an_arm_that_stands_delays_nothing():
    noise = np.random.default_rng(0).normal(0.0, 0.015, 60)
    phases = []
    for level in (0.0, 1.0):
        machine, arm = build(can_reset=False, max_episode_steps=1, wait_for_training=False)
        phases.append([arm.state().phase, *(arm.state(noise=level * value).phase for value in noise)])
    assert phases[0] == phases[1]
    assert phases[0].count(Phase.EXPLORING) == 12


def test_an_arm_that_never_stands_is_told_by_its_joint_when_the_episodes_go_on():
    machine, arm = build(max_episode_steps=1, phase_timeout_s=0.2)
    start(machine, arm)
    report = arm.states(6, speed=0.1)[-1]
    assert report.phase is Phase.TRAINING
    assert report.reason == ('stopping for 0 s: panda_joint7 moved by 0.010 rad in the last 2 control steps '
                             '(standing: at most 0.005)')


def test_steps_in_which_the_arm_was_held_are_counted_apart_and_the_episode_gets_its_steps_all_the_same():
    machine, arm = build(max_episode_steps=6)
    start(machine, arm)
    for is_held in (False, False, True, True, True, False, False, False, False):
        report = arm.told(is_held)
    assert (report.phase, report.step, report.total_steps, report.held_steps) == (Phase.STOPPING, 6, 6, 3)
    assert report.episode_return == pytest.approx(6 * report.reward)


def test_a_word_of_the_controller_that_arrives_late_changes_nothing():
    reports = []
    for is_late in (False, True):
        machine, arm = build(max_episode_steps=6)
        start(machine, arm)
        words = []
        for tick in range(12):
            words.append((arm.stamp_ns, 2 <= tick < 5))
            if not is_late:
                machine.on_controller(*words[-1])
            elif tick:
                machine.on_controller(*words[-2])
            reports.append(arm.state())
    assert reports[:12] == reports[12:]


def test_the_last_steps_of_an_episode_are_judged_too():
    machine, arm = build(max_episode_steps=3)
    start(machine, arm)
    for is_held in (False, False, True, False):
        report = arm.told(is_held)
    assert (report.phase, report.step, report.total_steps, report.held_steps) == (Phase.STOPPING, 2, 2, 1)


def test_an_arm_that_is_held_for_long_ends_its_episode():
    machine, arm = build(max_episode_steps=50, max_held_steps=10)
    start(machine, arm)
    assert not machine.was_held_too_long
    assert arm.held(11)[-1].phase is Phase.STOPPING
    assert machine.was_held_too_long
    assert (machine.report.total_steps, machine.report.held_steps) == (1, 10)
    arm.held(1)
    assert (machine.report.total_steps, machine.report.held_steps) == (0, 11)


def test_a_controller_that_is_no_longer_heard_is_not_there_and_the_arm_is_held():
    machine, arm = build(max_episode_steps=50)
    start(machine, arm)
    [arm.told(False) for _ in range(5)]
    report = arm.states(25)[-1]
    assert 5 + 10 <= report.step <= 5 + 12
    assert report.step + report.held_steps == 30


def test_a_manager_that_was_started_again_goes_on_counting():
    machine, arm = build(counts=Counts(2, 90, 7), episodes=3, max_episode_steps=1)
    report = start(machine, arm)
    assert (report.episode, report.total_steps, report.held_steps) == (2, 90, 7)
    other, other_arm = build()
    for episode in range(3):
        expected = start(other, other_arm) if not episode else other.on_reset(other_arm.stamp_ns)
        while other.phase is not Phase.TRAINING:
            other_arm.state()
        other.on_training(trained(episode))
    assert report.goal_m == expected.goal_m
    assert arm.states(3)[-1].total_steps == 91
    assert machine.on_training(trained(2)).phase is Phase.FINISHED


def test_a_manager_that_was_started_again_while_the_arm_moves_waits_for_no_round_on_what_it_has_not_seen():
    machine, arm = build(counts=Counts(2, 90, 7), episodes=3)
    reports = [arm.state(speed=0.5), *arm.states(2)]
    assert [report.phase for report in reports] == [Phase.STOPPING, Phase.STOPPING, Phase.RESETTING]


def test_a_manager_that_was_started_again_after_the_last_episode_is_finished():
    machine, arm = build(counts=Counts(3, 90, 7), episodes=3)
    assert arm.state().phase is Phase.FINISHED
