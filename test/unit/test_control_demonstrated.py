"""A demonstrated action is followed within all limits, and what is wrong with one stops the arm under a name of its own."""

import dataclasses

import numpy as np
import pytest
from support.fake_arm import FakeArm

from mbrl_ros.control.controller import Controller
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.control.tick import ControllerConfig, TickInputs
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.reach import ReachTask
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.types import DemonstratedAction, EpisodeReport, Phase, RobotState

DT = 0.05
PANDA = load_robot('panda')
CHAIN = KinematicChain.of_robot(PANDA)
LIFT = make_task('lift', PANDA)
CHANGE = np.array(PANDA.max_acceleration_rad_s2) * DT
WANTED = np.array([0.3, -0.2, 0.1, 0.0, -0.3, 0.2, 0.1])


class Lesson:
    """A controller in a demonstrated episode, an arm that obeys it, and a demonstrator that a test can spoil."""

    def __init__(self, **settings):
        self.arm = FakeArm(PANDA, DT)
        self.controller = Controller(PANDA, ReachTask.of_robot(PANDA), ControllerConfig(**settings), period_s=DT)
        self.sent = [np.zeros(7)]

    def shown(self, **changes):
        return dataclasses.replace(DemonstratedAction(self.arm.stamp_ns, PANDA.joints, WANTED), **changes)

    def tick(self, shown):
        now = self.arm.stamp_ns
        report = EpisodeReport(now, Phase.DEMONSTRATED, 0, 0, 0, 0, 0.0, 0.0, 0.0, False, (0.5, 0.0, 0.5), 0, 0)
        outcome = self.controller.tick(TickInputs(now_ns=now, effect_ns=now, state=self.arm.state, report=report,
                                                  demonstrated=shown))
        if outcome.velocity is not None:
            self.sent.append(outcome.velocity)
        self.arm.step(outcome.velocity)
        return outcome


@pytest.fixture
def lesson():
    lesson = Lesson()
    for _ in range(4):
        assert lesson.tick(lesson.shown()).hold is None
    return lesson


def test_the_arm_does_as_it_is_shown_without_a_model_or_a_plan(lesson):
    outcome = lesson.tick(lesson.shown())
    np.testing.assert_allclose(outcome.velocity, WANTED * PANDA.max_velocity_rad_s)
    assert (outcome.phase, outcome.decision) == (Phase.DEMONSTRATED, None)
    np.testing.assert_array_equal(outcome.applied.velocity, outcome.velocity)


def test_entries_may_come_in_any_order(lesson):
    order = np.random.default_rng(0).permutation(7)
    shown = lesson.shown(names=tuple(PANDA.joints[index] for index in order), action=WANTED[order])
    np.testing.assert_allclose(lesson.tick(shown).velocity, WANTED * PANDA.max_velocity_rad_s)


def test_what_is_shown_passes_the_command_filter(lesson):
    for sign in (1.0, -1.0, 1.0):
        lesson.tick(lesson.shown(action=np.full(7, sign)))
    assert (np.abs(np.diff(lesson.sent, axis=0)) <= CHANGE + 1e-9).all()


SPOILED = {
    'none': (HoldReason.NO_DEMONSTRATION, lambda lesson: None),
    'old': (HoldReason.NO_DEMONSTRATION, lambda lesson: lesson.shown(stamp_ns=lesson.arm.stamp_ns - 400_000_000)),
    'future': (HoldReason.NO_DEMONSTRATION, lambda lesson: lesson.shown(stamp_ns=lesson.arm.stamp_ns + 400_000_000)),
    'entries': (HoldReason.DEMONSTRATION_REFUSED, lambda lesson: lesson.shown(names=('twist_x', *PANDA.joints[1:]))),
    'repeated': (HoldReason.DEMONSTRATION_REFUSED, lambda lesson: lesson.shown(names=PANDA.joints[:6] + PANDA.joints[:1])),
    'short': (HoldReason.DEMONSTRATION_REFUSED, lambda lesson: lesson.shown(action=WANTED[:6])),
    'nan': (HoldReason.DEMONSTRATION_REFUSED, lambda lesson: lesson.shown(action=np.where(WANTED == 0.0, np.nan, WANTED))),
    'large': (HoldReason.DEMONSTRATION_REFUSED, lambda lesson: lesson.shown(action=WANTED * 10.0)),
}


@pytest.mark.parametrize('spoiled', list(SPOILED))
def test_a_spoiled_demonstration_stops_the_arm_under_its_name_and_a_sound_one_moves_it_again(lesson, spoiled):
    reason, make = SPOILED[spoiled]
    held = [lesson.tick(make(lesson)) for _ in range(12)]
    assert {outcome.hold for outcome in held} == {reason}
    assert not lesson.arm.qd.any() and held[-1].velocity is None
    assert lesson.tick(lesson.shown()).hold is None
    assert (np.abs(np.diff(lesson.sent, axis=0)) <= CHANGE + 1e-9).all()


@pytest.mark.parametrize(('spoiled', 'detail'), [
    ('old', '0.400 s old, at most 0.3 s is allowed'), ('nan', 'panda_joint4 is nan'), ('large', 'panda_joint1 is 3'),
    ('short', '7 entries but 6 numbers')])
def test_the_hold_says_what_is_wrong(lesson, spoiled, detail):
    assert lesson.tick(SPOILED[spoiled][1](lesson)).detail == detail


def test_how_old_an_action_may_be_is_a_setting():
    lesson = Lesson(max_demonstration_age_s=0.5)
    assert lesson.tick(lesson.shown(stamp_ns=-400_000_000)).hold is None


def test_a_twist_and_an_opening_reach_the_arm_and_the_gripper():
    controller = Controller(PANDA, LIFT, ControllerConfig(), period_s=DT)
    q = np.array(PANDA.home_rad)
    names = (*PANDA.state_names, *(f'object_{axis}' for axis in ('x', 'y', 'z', 'roll', 'pitch', 'yaw')))
    state = RobotState(0, names, np.array([*q, 0.08, 0.5, 0.0, 0.025, 0.0, 0.0, 0.0]), np.zeros(14))
    report = EpisodeReport(0, Phase.DEMONSTRATED, 0, 0, 0, 0, 0.0, 0.0, 0.0, False, (0.5, 0.0, 0.12), 0, 0)
    shown = DemonstratedAction(0, LIFT.action_names, np.array([0.0, 0.0, -0.1, 0.0, -0.5]))
    outcome = controller.tick(TickInputs(now_ns=0, effect_ns=0, state=state, report=report, demonstrated=shown))
    assert outcome.hold is None and outcome.opening_m == pytest.approx(0.02)
    twist = LIFT.space.action(dataclasses.replace(LIFT.space.command(shown.action, state), velocity=outcome.velocity), state)
    np.testing.assert_allclose(twist[:4], [0.0, 0.0, -0.1, 0.0], atol=0.02)
