"""The guard's word is the last: limits at the driver's rate, a brake when commands cease, a hold when the arm does not obey."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.control.safety.following import FollowingConfig
from mbrl_ros.control.safety.guard import CommandGuard, GuardConfig
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.types import AppliedCommand, RobotState

PANDA = load_robot('panda')
HOME = np.array(PANDA.home_rad)
ACCELERATION = np.array(PANDA.max_acceleration_rad_s2)
PERIOD_S, CONTROL_S = 1.0 / 120.0, 0.05
TICKS = 6


class Bench:
    """A guard before an arm that obeys at once, unless something is the matter."""

    def __init__(self, config=None, *, lockstep=False, **values):
        self.guard = CommandGuard(PANDA, config or GuardConfig(), period_s=PERIOD_S, control_period_s=CONTROL_S,
                                  lockstep=lockstep, **values)
        self.now_ns, self.q, self.velocity = 0, HOME.copy(), np.zeros(7)
        self.sent, self.outcomes, self.applied = [], [], []
        self.obeys, self.tremble, self.frozen, self.others, self.inactive = True, 0.0, None, '', ''

    def state(self):
        q, velocity = (self.q, self.velocity) if self.frozen is None else self.frozen
        return RobotState(self.now_ns, PANDA.joints, q, velocity)

    def tick(self, state='measured', wait_s=PERIOD_S):
        outcome = self.guard.tick(self.now_ns, self.state() if state == 'measured' else state, self.others,
                                  self.inactive)
        self.outcomes.append(outcome)
        self.sent.append(np.zeros(7) if outcome.velocity is None else outcome.velocity)
        if outcome.applied is not None:
            self.applied.append(outcome.applied)
        self.velocity = self.sent[-1] if self.obeys else np.zeros(7)
        self.q = self.q + self.velocity * wait_s + self.tremble
        self.now_ns += round(wait_s * 1e9)
        return outcome

    def command(self, velocity, ticks=TICKS, opening_m=None):
        self.guard.accept(AppliedCommand(self.now_ns, PANDA.joints, np.array(velocity, dtype=np.float64), opening_m), self.now_ns)
        return [self.tick() for _ in range(ticks)][-1]

    def begin(self):
        """Past the hold of the first tick."""
        while self.tick().hold is not HoldReason.NO_COMMAND:
            pass

    def run(self, velocity, seconds):
        for _ in range(round(seconds / CONTROL_S)):
            outcome = self.command(velocity)
        return outcome


def moving(speed=0.5, seconds=0.5, **values):
    bench = Bench(**values)
    bench.begin()
    bench.run(np.full(7, speed) * [1, 0, 1, 0, 1, 0, 1], seconds)
    return bench


def test_a_command_is_reached_at_an_even_acceleration_by_the_end_of_its_period():
    bench = Bench()
    bench.begin()
    before = len(bench.sent)
    bench.command(np.full(7, 0.1))
    np.testing.assert_allclose(bench.sent[before:], np.linspace(0.0, 0.1, TICKS + 1)[1:, None] * np.ones(7), atol=1e-9)
    np.testing.assert_array_equal(bench.sent[-1], np.full(7, 0.1))


def test_a_command_that_asks_for_too_much_is_approached_at_the_acceleration_limits():
    bench = Bench()
    bench.begin()
    before = len(bench.sent)
    bench.command(np.full(7, 1.0))
    np.testing.assert_allclose(np.diff(bench.sent[before - 1:], axis=0), np.tile(ACCELERATION * PERIOD_S, (TICKS, 1)), rtol=1e-9)


def test_the_jerk_limit_bounds_the_change_of_acceleration():
    jerk = 200.0
    robot = dataclasses.replace(PANDA, max_jerk_rad_s3=(jerk,) * 7)
    guard = CommandGuard(robot, GuardConfig(), period_s=PERIOD_S, control_period_s=CONTROL_S, lockstep=True)
    q, sent = HOME.copy(), [np.zeros(7)] * 2
    for step in range(240):
        now_ns = round(step * PERIOD_S * 1e9)
        if step % 60 == 0:
            guard.accept(AppliedCommand(now_ns, PANDA.joints, np.full(7, 0.2 * (-1) ** (step // 60)), None), now_ns)
        sent.append(guard.tick(now_ns, RobotState(now_ns, PANDA.joints, q, sent[-1])).velocity)
        q = q + sent[-1] * PERIOD_S
    assert (np.abs(np.diff(sent, n=2, axis=0)) <= jerk * PERIOD_S**2 + 1e-9).all()
    np.testing.assert_allclose(sent[60], np.full(7, 0.2), atol=1e-6)


def test_silence_of_the_controller_brakes_and_is_named():
    bench = moving()
    for _ in range(TICKS // 2 + 2):
        outcome = bench.tick()
    assert outcome.hold is HoldReason.NO_COMMAND
    for _ in range(10):
        bench.tick()
    assert not bench.sent[-1].any()
    assert (np.abs(np.diff(bench.sent[-16:], axis=0)) <= ACCELERATION * PERIOD_S + 1e-12).all()


def test_a_stopped_arm_is_told_to_stand_for_a_while_and_then_nothing():
    bench = moving()
    outcomes = [bench.tick() for _ in range(120)]
    zeros = [outcome for outcome in outcomes if outcome.velocity is not None and not outcome.velocity.any()]
    assert len(zeros) == pytest.approx(GuardConfig().standing_s / PERIOD_S, abs=1)
    assert outcomes[-1].velocity is None


def test_the_first_tick_brakes_an_arm_that_a_crashed_guard_left_moving():
    bench = Bench()
    bench.velocity = np.full(7, 0.5)
    outcome = bench.tick()
    assert (outcome.hold, outcome.detail) == (HoldReason.LATE_TICK, 'the first tick')
    np.testing.assert_allclose(outcome.velocity, 0.5 - ACCELERATION * PERIOD_S)


@pytest.mark.parametrize('measured', [1e9, -np.inf, np.nan])
def test_no_measured_velocity_makes_a_command_beyond_the_limits(measured):
    bench = Bench()
    bench.velocity = np.full(7, measured)
    assert (np.abs(bench.tick().velocity) <= PANDA.max_velocity_rad_s).all()


def test_after_a_gap_the_guard_goes_on_from_the_measured_velocity():
    bench = moving(speed=1.0)
    bench.obeys = False  # The driver stopped the arm meanwhile.
    bench.tick(wait_s=0.2)
    bench.guard.accept(AppliedCommand(0, PANDA.joints, np.full(7, 1.0), None), bench.now_ns)
    outcome = bench.tick()
    assert outcome.hold is HoldReason.LATE_TICK
    assert (np.abs(outcome.velocity) <= ACCELERATION * PERIOD_S).all()
    assert outcome.detail == '0.200 s after the tick before'


def test_frozen_positions_under_fresh_stamps_are_noticed_within_a_third_of_a_second():
    bench = moving(speed=0.8)
    bench.frozen, start = (bench.q.copy(), bench.velocity.copy()), len(bench.outcomes)
    bench.run([0.8, 0, 0.8, 0, 0.8, 0, 0.8], 1.0)
    held = [index for index, outcome in enumerate(bench.outcomes[start:]) if outcome.hold is HoldReason.NOT_FOLLOWING]
    assert held and held[0] * PERIOD_S <= 0.3
    assert 'panda_joint' in bench.outcomes[start + held[0]].detail
    assert not bench.sent[-1].any()


@pytest.mark.parametrize('speed', [0.3, 1.2])
def test_an_arm_that_stands_by_itself_is_held_and_starts_again_from_where_it_is(speed):
    bench = moving(speed=speed)
    bench.obeys = False
    start = len(bench.outcomes)
    bench.run([speed, 0, 0, 0, 0, 0, 0], 0.6)
    assert any(outcome.hold is HoldReason.NOT_FOLLOWING for outcome in bench.outcomes[start:start + 36])
    bench.run([speed, 0, 0, 0, 0, 0, 0], 1.5)
    bench.obeys = True
    here = bench.q.copy()
    start = len(bench.outcomes)
    bench.run([speed, 0, 0, 0, 0, 0, 0], 3.0)
    moved = next(outcome for outcome in bench.outcomes[start:] if outcome.hold is None)
    assert np.abs(moved.start - here).max() < 0.02
    assert bench.outcomes[-1].hold is None


@pytest.mark.parametrize(('max_settle_s', 'tremble', 'grow'), [(30.0, 0.0, True), (30.0, 1e-6, True), (0.3, 0.0, True),
                                                               (0.3, 1e-6, False)])
def test_holds_of_a_lasting_fault_come_after_ever_longer_rests_unless_the_arm_is_seen_and_that_is_unwanted(max_settle_s, tremble,
                                                                                                           grow):
    bench = moving(speed=0.8, config=GuardConfig(following=FollowingConfig(settle_s=0.3, max_settle_s=max_settle_s)))
    bench.obeys, bench.tremble = False, tremble
    bench.run([0.8, 0, 0, 0, 0, 0, 0], 12.0)
    is_free = np.array([outcome.hold is None for outcome in bench.outcomes])
    starts = np.flatnonzero(np.diff(is_free.astype(int)) == 1)
    rests = np.diff(starts)[1:] * PERIOD_S
    assert len(rests) >= 3
    assert (np.diff(rests) > 0.5).all() if grow else (rests < 0.5).all()


def test_a_joint_much_faster_than_its_limit_is_held():
    bench = moving()
    bench.frozen = bench.q.copy(), np.array([0, 0, 0, 0, 3.0, 0, 0])
    outcome = bench.tick()
    assert outcome.hold is HoldReason.TOO_FAST
    assert outcome.detail == 'panda_joint5 at 3.00 rad/s, at most 2.70 rad/s is allowed'


def test_joint_states_that_cease_brake_the_arm():
    bench = moving()
    stale = bench.state()
    for _ in range(24):
        bench.guard.accept(AppliedCommand(0, PANDA.joints, np.full(7, 0.5), None), bench.now_ns)
        outcome = bench.tick(stale)
    assert outcome.hold is HoldReason.STALE_STATE and not outcome.velocity.any()


def test_a_joint_state_of_the_future_brakes_the_arm_and_does_not_blind_the_watch():
    bench = moving(speed=0.8)
    ahead = dataclasses.replace(bench.state(), stamp_ns=bench.now_ns + 60_000_000_000)
    assert bench.tick(ahead).hold is HoldReason.FUTURE_STATE
    bench.obeys, start = False, len(bench.outcomes)
    bench.run([0.8, 0, 0.8, 0, 0.8, 0, 0.8], 0.6)
    assert HoldReason.NOT_FOLLOWING in {outcome.hold for outcome in bench.outcomes[start:]}


def test_another_commander_is_given_way_and_the_emergency_stop_comes_first():
    bench = moving()
    bench.others = 'teleop on /commands'
    assert bench.tick().hold is HoldReason.OTHER_COMMANDER
    bench.guard.emergency_stop.press()
    assert bench.tick().hold is HoldReason.EMERGENCY_STOP


def test_a_controller_that_takes_no_commands_holds_the_arm_until_it_is_active():
    bench = moving()
    bench.inactive = 'forward_velocity_controller is inactive'
    outcomes = [bench.command([0.5, 0, 0, 0, 0, 0, 0]) for _ in range(20)]
    assert {outcome.hold for outcome in outcomes} == {HoldReason.CONTROLLER_INACTIVE}
    assert outcomes[0].detail == bench.inactive and outcomes[-1].velocity is None
    bench.inactive = ''
    assert bench.command([0.5, 0, 0, 0, 0, 0, 0]).hold is None


def test_a_command_that_cannot_be_checked_brakes_and_is_named():
    bench = moving()
    outcome = bench.command([np.nan, 0, 0, 0, 0, 0, 0], ticks=1)
    assert (outcome.hold, outcome.detail) == (HoldReason.COMMAND_REFUSED, 'command not finite at panda_joint1')


def test_what_was_applied_is_one_record_a_control_period_with_the_velocity_that_was_reached():
    bench = Bench(lockstep=True, latency_s=0.03)
    for speed in (0.2, 0.4, 9.0):
        bench.command(np.full(7, speed), opening_m=0.08)
    # The stamp is when the arm obeys.
    obeyed_ns = [30_000_000 + index * TICKS * round(PERIOD_S * 1e9) for index in range(3)]
    assert [applied.stamp_ns for applied in bench.applied] == obeyed_ns
    np.testing.assert_array_equal(bench.applied[0].velocity, np.full(7, 0.2))
    np.testing.assert_array_equal(bench.applied[1].velocity, np.full(7, 0.4))
    np.testing.assert_allclose(bench.applied[2].velocity, 0.4 + ACCELERATION * CONTROL_S)
    assert bench.applied[0].opening_m == 0.08


def test_a_hold_ends_the_period_that_it_falls_into():
    bench = moving()
    count = len(bench.applied)
    bench.command([0.5, 0, 0.5, 0, 0.5, 0, 0.5], ticks=2)
    bench.guard.emergency_stop.press()
    bench.tick()
    assert len(bench.applied) == count + 1
    assert bench.applied[-1].stamp_ns < bench.now_ns - round(2 * PERIOD_S * 1e9)


def test_in_lockstep_nothing_is_late_and_a_world_that_was_put_back_is_no_fault():
    bench = Bench(lockstep=True)
    bench.run(np.full(7, 0.3), 0.5)
    bench.run(np.zeros(7), 0.5)
    bench.now_ns += 60_000_000_000
    bench.q = HOME.copy()
    assert bench.command(np.full(7, 0.3)).hold is None


def test_a_standing_arm_that_is_put_elsewhere_at_once_is_no_fault_but_one_that_wanders_is():
    bench = moving()
    bench.run(np.zeros(7), 0.5)
    bench.q = HOME + 0.4
    assert bench.run(np.zeros(7), 0.5).hold is None
    bench.obeys, start = False, len(bench.outcomes)
    for _ in range(20):
        bench.q = bench.q + 0.5 * CONTROL_S
        bench.command(np.zeros(7))
    assert HoldReason.NOT_FOLLOWING in {outcome.hold for outcome in bench.outcomes[start:]}


def test_in_lockstep_a_clock_that_was_set_back_begins_anew():
    bench = Bench(lockstep=True)
    bench.run(np.full(7, 0.3), 5.0)
    bench.now_ns, bench.q, bench.velocity = 0, HOME.copy(), np.zeros(7)
    bench.guard.accept(AppliedCommand(0, PANDA.joints, np.full(7, 0.3), None), 0)
    outcome = bench.tick()
    assert outcome.hold is None
    np.testing.assert_allclose(outcome.velocity, 0.3 / TICKS)


def test_as_the_state_ages_the_arm_slows_down_before_it_stops():
    bench = moving(speed=0.5)
    stale = bench.state()
    speeds = []
    for _ in range(14):
        bench.guard.accept(AppliedCommand(0, PANDA.joints, np.full(7, 0.5) * [1, 0, 1, 0, 1, 0, 1], None), bench.now_ns)
        speeds.append(bench.tick(stale).velocity[0])
    assert speeds[4] == 0.5 and speeds == sorted(speeds, reverse=True)
    assert bench.outcomes[-4].hold is None and speeds[-4] < 0.3
