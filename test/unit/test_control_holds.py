"""Every named hold of the controller: reached, bounded by the acceleration limits, and left again."""

import dataclasses

import numpy as np
import pytest
from support.fake_arm import FakeArm, ScriptedAgent, make_plan

from mbrl_ros.control.controller import Controller
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.control.tick import ControllerConfig, TickInputs
from mbrl_ros.errors import PlanningError, ShapeError
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.reach import ReachTask
from mbrl_ros.types import EpisodeReport, Phase, RobotState

DT = 0.05
PANDA = load_robot('panda')
CHAIN = KinematicChain.of_robot(PANDA)
GOAL = (0.5, 0.1, 0.4)
CHANGE = np.array(PANDA.max_acceleration_rad_s2) * DT
SOUND = make_plan(np.full((8, 7), 0.4))


def make_report(stamp_ns, phase=Phase.RUNNING, episode=0, start_ns=0, goal_m=GOAL):
    return EpisodeReport(stamp_ns, phase, start_ns, episode, 0, 0, 0.0, 0.0, 0.0, False, goal_m, 0, 0)


class Loop:
    """A controller, an arm that obeys it, and inputs that a test can spoil."""

    def __init__(self, **settings):
        self.arm = FakeArm(PANDA, DT)
        self.agent = ScriptedAgent(SOUND)
        self.controller = Controller(PANDA, ReachTask.of_robot(PANDA), ControllerConfig(**settings), period_s=DT)
        self.sent = [np.zeros(7)]

    def inputs(self):
        now = self.arm.stamp_ns
        return TickInputs(now_ns=now, effect_ns=now, state=self.arm.state, report=make_report(now), agent=self.agent)

    def tick(self, **spoiled):
        outcome = self.controller.tick(dataclasses.replace(self.inputs(), **spoiled))
        if outcome.velocity is not None:
            self.sent.append(outcome.velocity)
            np.testing.assert_array_equal(outcome.applied.velocity, outcome.velocity)
        self.arm.step(outcome.velocity)
        return outcome

    def assert_bounded(self):
        assert (np.abs(np.diff(self.sent, axis=0)) <= CHANGE + 1e-9).all()


@pytest.fixture
def loop():
    loop = Loop()
    for _ in range(4):
        assert loop.tick().hold is None
    assert np.abs(loop.arm.qd).min() > 0.3
    return loop


def without_a_joint(loop):
    return RobotState(loop.arm.stamp_ns, PANDA.joints[:6], np.zeros(6), np.zeros(6))


def aged(loop, age_s):
    return dataclasses.replace(loop.arm.state, stamp_ns=loop.arm.stamp_ns - round(age_s * 1e9))


SPOILED = {
    HoldReason.NOT_ACTIVE: lambda loop: {'active': False},
    HoldReason.OTHER_COMMANDER: lambda loop: {'guard_hold': (HoldReason.OTHER_COMMANDER, 'second on commands')},
    HoldReason.EMERGENCY_STOP: lambda loop: {'guard_hold': (HoldReason.EMERGENCY_STOP, '')},
    HoldReason.NOT_FOLLOWING: lambda loop: {'guard_hold': (HoldReason.NOT_FOLLOWING, 'panda_joint1 stands')},
    HoldReason.NO_STATE: lambda loop: {'state': None},
    HoldReason.STATE_INCOMPLETE: lambda loop: {'state': without_a_joint(loop)},
    HoldReason.STALE_STATE: lambda loop: {'state': aged(loop, 0.3)},
    HoldReason.FUTURE_STATE: lambda loop: {'state': aged(loop, -0.3)},
    HoldReason.NO_MANDATE: lambda loop: {'report': None},
    HoldReason.STALE_MANDATE: lambda loop: {'report': make_report(loop.arm.stamp_ns - 10**9)},
    HoldReason.PHASE: lambda loop: {'report': make_report(loop.arm.stamp_ns, Phase.TRAINING)},
    HoldReason.GOAL_OUT_OF_REACH: lambda loop: {'report': make_report(loop.arm.stamp_ns, goal_m=(3.0, 0.0, 0.5))},
    HoldReason.NO_MODEL: lambda loop: {'agent': ScriptedAgent(SOUND, is_ready=False)},
    HoldReason.MODEL_MISMATCH: lambda loop: {'agent': None, 'bundle_refused': True},
    HoldReason.NO_GUARD: lambda loop: {'guard_silence_s': 0.6},
}


@pytest.mark.parametrize('reason', list(SPOILED))
def test_spoiled_input_stops_the_arm_under_its_name_and_sound_input_moves_it_again(loop, reason):
    held = [loop.tick(**SPOILED[reason](loop)) for _ in range(12)]
    assert {outcome.hold for outcome in held} == {reason}
    assert not loop.arm.qd.any()
    assert held[-1].velocity is None
    assert loop.tick().hold is None
    loop.assert_bounded()


NAN_PLAN = make_plan(np.where(np.arange(56).reshape(8, 7) == 3, np.nan, 0.4))
ANSWERS = {
    HoldReason.PLANNING_FAILED: PlanningError('none of 48 candidates has a finite return'),
    HoldReason.MODEL_MISMATCH: ShapeError('obs needs shape (12,), got (14,)'),
    HoldReason.NONFINITE_PLAN: NAN_PLAN,
    HoldReason.DISAGREEMENT: make_plan(np.full((8, 7), 0.4), disagreement=9.0),
}


@pytest.mark.parametrize('reason', list(ANSWERS))
def test_a_bad_plan_stops_the_arm_under_its_name_and_a_sound_one_moves_it_again(loop, reason):
    loop.agent.answer = ANSWERS[reason]
    held = [loop.tick() for _ in range(12)]
    assert {outcome.hold for outcome in held} == {reason}
    assert np.isfinite(loop.sent).all()
    assert not loop.arm.qd.any()
    loop.agent.answer = SOUND
    assert loop.tick().hold is None
    loop.assert_bounded()


def test_an_agent_that_breaks_holds_and_says_how(loop):
    loop.agent.answer = RuntimeError('mat1 and mat2 shapes cannot be multiplied')
    outcome = loop.tick()
    assert outcome.hold is HoldReason.PLANNING_FAILED
    assert outcome.detail == 'RuntimeError: mat1 and mat2 shapes cannot be multiplied'


def test_a_late_plan_is_bridged_by_the_tail_of_the_last_one_then_holds(loop):
    loop.agent.answer = make_plan(np.arange(56.0).reshape(8, 7) / 112)
    loop.tick()
    loop.agent.answer = make_plan(np.zeros((8, 7)), elapsed_s=0.2)
    outcomes = [loop.tick() for _ in range(12)]
    assert [outcome.on_tail for outcome in outcomes[:4]] == [True, True, True, False]
    assert {outcome.hold for outcome in outcomes[3:]} == {HoldReason.DEADLINE_MISSED}
    assert outcomes[-1].misses == 12
    assert not loop.arm.qd.any()
    loop.agent.answer = SOUND
    assert loop.tick().hold is None
    loop.assert_bounded()


def test_without_a_deadline_no_plan_is_late(loop):
    loop.agent.answer = make_plan(np.full((8, 7), 0.4), elapsed_s=9.0)
    assert loop.tick(anytime=False).hold is None
    assert loop.agent.asked[-1]['deadline_s'] is None


def test_a_jump_of_the_state_holds_then_settles(loop):
    loop.arm.q = loop.arm.q + 0.5
    reasons = [loop.tick().hold for _ in range(12)]
    assert reasons == [HoldReason.STATE_JUMP] * 10 + [None] * 2
    loop.assert_bounded()


def test_without_a_goal_the_arm_stands():
    loop = Loop(require_mandate=False)
    assert loop.tick(report=None).hold is HoldReason.NO_GOAL
    assert loop.tick(report=None, goal_m=np.array(GOAL)).hold is None


def test_before_any_motion_a_hold_is_silent():
    assert Loop().tick(state=None).velocity is None


@pytest.mark.parametrize('spoiled', [{'agent': None}, {'guard_hold': (HoldReason.OTHER_COMMANDER, 'second on commands')}])
def test_in_lockstep_a_held_episode_keeps_saying_zero_so_that_time_goes_on(loop, spoiled):
    outcomes = [loop.tick(**spoiled, lockstep=True) for _ in range(20)]
    assert outcomes[-1].velocity is not None and not outcomes[-1].velocity.any()
    assert loop.tick(report=make_report(loop.arm.stamp_ns, Phase.TRAINING), lockstep=True).velocity is None


def test_while_stopping_zeros_go_on_so_that_the_manager_sees_the_arm_rest(loop):
    for _ in range(20):
        outcome = loop.tick(report=make_report(loop.arm.stamp_ns, Phase.STOPPING))
    assert outcome.hold is HoldReason.PHASE
    assert not outcome.velocity.any()


def test_growing_uncertainty_slows_the_arm_down_before_it_stops_and_starts_again_only_when_it_has_fallen(loop):
    speeds = []
    for uncertainty in (2.0, 4.0, 4.5, 5.5, 4.5, 4.0):
        loop.agent.answer = make_plan(np.full((8, 7), 0.4), disagreement=uncertainty)
        outcomes = [loop.tick() for _ in range(8)]
        speeds.append((float(loop.arm.qd[0]), outcomes[-1].hold))
    assert [hold for _, hold in speeds] == [None, None, None, HoldReason.DISAGREEMENT, HoldReason.DISAGREEMENT,
                                            HoldReason.DISAGREEMENT]
    assert speeds[0][0] > speeds[1][0] > speeds[2][0] > speeds[3][0] == 0.0
    loop.agent.answer = SOUND
    assert loop.tick().hold is None
    loop.assert_bounded()
