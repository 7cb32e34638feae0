"""Control steps in which the arm was held: commands say so, transitions are tagged, and nothing is learned from them."""

import dataclasses

import numpy as np
import pytest
from support.demonstration_examples import demonstration, write_bag
from support.experience_examples import EPISODE, TOPICS, lockstep_run, report, serialised
from support.fake_arm import FakeArm

from mbrl_ros.control.controller import Controller
from mbrl_ros.control.safety.guard import CommandGuard, GuardConfig
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.control.tick import ControllerConfig, TickInputs
from mbrl_ros.experience.assembler import TransitionAssembler
from mbrl_ros.experience.bags.reader import BagReader
from mbrl_ros.experience.bags.writer import BagWriter
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.experience.demonstrations import load_demonstrations
from mbrl_ros.experience.replay import load_transitions, report_of
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.tasks.reach import ReachTask
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState, Tag

ROBOT = load_robot('panda')
PERIOD_NS = 50_000_000


def held_at(run, *ticks):
    """A recorded run in which the arm was held in some control steps."""
    held_ns = {tick * PERIOD_NS for tick in ticks}
    return [dataclasses.replace(value, is_held=True) if isinstance(value, AppliedCommand) and value.stamp_ns in held_ns else value
            for value in run]


def tags_by_tick(transitions):
    return {transition.stamp_ns // PERIOD_NS: transition.tags for transition in transitions}


def live(run):
    assembler = TransitionAssembler(ROBOT, JointSpace(ROBOT), 0.05)
    on = {RobotState: assembler.on_state, AppliedCommand: assembler.on_applied, EpisodeReport: assembler.on_report}
    return [transition for value in run for transition in on[type(value)](value)] + assembler.flush()


@pytest.mark.parametrize('opening_m', [None, 0.03])
def test_a_held_arm_is_the_last_entry_of_the_named_vector(opening_m):
    told = AppliedCommand(5, ('a', 'b'), np.array([1.0, -2.0]), opening_m, is_held=True)
    names, position, velocity = told.vector('gripper')
    assert names == (('a', 'b', 'held') if opening_m is None else ('a', 'b', 'gripper', 'held'))
    np.testing.assert_array_equal(position[[0, 1, -1]], [np.nan, np.nan, 1.0])
    for kind in (tuple, list):
        back = AppliedCommand.of_vector(5, kind(names), position, velocity)
        assert (back.names, back.opening_m, back.is_held) == (('a', 'b'), opening_m, True)
        np.testing.assert_array_equal(back.velocity, [1.0, -2.0])
    assert back.ordered(('b', 'a')).is_held


def test_its_transitions_are_tagged_and_the_others_are_not():
    tags = tags_by_tick(live(held_at(lockstep_run(20), 2, 3, 12)))
    assert {tick for tick, tag in tags.items() if tag is Tag.HELD} == {2, 3, 12}
    assert {tag for tick, tag in tags.items() if tick not in (2, 3, 12)} == {Tag(0)}


def test_a_bag_gives_the_tags_of_the_live_run(tmp_path):
    run = held_at(lockstep_run(20), 2, 3, 12)
    with BagWriter(tmp_path / 'bag', TOPICS) as writer:
        for value in run:
            writer.write(*serialised(value), value.stamp_ns + 1_000, value.stamp_ns)
    assert tags_by_tick(load_transitions(tmp_path / 'bag', ROBOT, JointSpace(ROBOT), 0.05)) == tags_by_tick(live(run))


def test_what_can_be_learned_from_leaves_them_out_whatever_else_is_tagged():
    rows = Transitions.of(np.zeros((4, 2)), np.zeros((4, 1)), np.zeros((4, 2)), np.arange(4),
                          tags=[Tag(0), Tag.HELD, Tag.EXPLORED | Tag.HELD, Tag.DEMONSTRATED])
    assert rows.chosen.stamp_ns.tolist() == [0, 3]


def test_a_demonstration_is_what_somebody_showed(tmp_path):
    path = write_bag(tmp_path / 'bag', held_at(demonstration(1), 0, 1, 7))
    (episode,) = load_demonstrations([path], ROBOT, 'lift', make_task('lift', ROBOT).space, 0.05)
    assert (episode.transitions.stamp_ns // PERIOD_NS).tolist() == [2, 3, 4, 5, 6, 8, 9, 10, 11]


def test_a_report_of_before_is_read_without_the_steps_that_nobody_counted(tmp_path):
    value = EpisodeReport(5, Phase.RUNNING, 0, 1, 2, 3, -0.1, -0.2, 0.3, False, (0.5, 0.1, 0.4), 0, 0)
    data = report(value)
    with BagWriter(tmp_path / 'bag', (EPISODE,)) as writer:
        writer.write('/episode', data, 5, 5)
    (message,) = BagReader(tmp_path / 'bag').messages()
    texts = message.decoded().status[0].values
    del texts[[entry.key for entry in texts].index('held_steps')]
    assert report_of(_Decoded(message)) == value


class _Decoded:
    """A recorded message whose decoded form can be changed."""

    def __init__(self, message):
        self._decoded, self.topic = message.decoded(), message.topic

    def decoded(self):
        return self._decoded


@pytest.mark.parametrize('active', [True, False])
def test_the_controller_says_whether_it_holds_the_arm(active):
    arm = FakeArm(ROBOT)
    controller = Controller(ROBOT, ReachTask.of_robot(ROBOT), ControllerConfig(), period_s=0.05)
    goal = EpisodeReport(0, Phase.EXPLORING, 0, 0, 0, 0, 0.0, 0.0, 0.0, False, (0.5, 0.0, 0.5), 0, 0)
    moving = TickInputs(now_ns=0, effect_ns=0, state=arm.state, report=goal)
    controller.tick(moving)
    outcome = controller.tick(dataclasses.replace(moving, active=active))
    assert (outcome.hold is None, outcome.applied.is_held) == (active, not active)


class Guarded:
    """A guard before an arm that stands, in lockstep."""

    def __init__(self):
        self.guard = CommandGuard(ROBOT, GuardConfig(), period_s=1.0 / 120.0, control_period_s=0.05, lockstep=True)
        self.now_ns, self.applied, self.holds = 0, [], []

    def command(self, velocity, ticks=6, is_held=False):
        self.guard.accept(AppliedCommand(self.now_ns, ROBOT.joints, np.full(7, velocity), is_held=is_held), self.now_ns)
        self.tick(ticks)

    def tick(self, ticks=1):
        for _ in range(ticks):
            outcome = self.guard.tick(self.now_ns, RobotState(self.now_ns, ROBOT.joints, np.array(ROBOT.home_rad), np.zeros(7)))
            self.applied += [outcome.applied] if outcome.applied else []
            self.holds.append(outcome.hold)
            self.now_ns += round(1e9 / 120.0)

    @property
    def held(self):
        return [applied.is_held for applied in self.applied]


def test_the_guard_passes_on_that_the_controller_held_the_arm():
    guarded = Guarded()
    guarded.command(0.05)
    guarded.command(0.0, is_held=True)
    guarded.command(0.05)
    assert guarded.held == [False, True, False]


def test_a_control_period_that_a_hold_of_the_guard_cuts_short_was_held():
    guarded = Guarded()
    guarded.command(0.05)
    guarded.command(0.05, ticks=2)
    guarded.guard.emergency_stop.press()
    guarded.tick()
    assert (guarded.held, guarded.holds[-1]) == ([False, True], HoldReason.EMERGENCY_STOP)


def test_a_command_that_the_guard_could_not_check_was_not_followed():
    guarded = Guarded()
    guarded.command(0.05)
    guarded.command(np.nan)
    assert (guarded.held, guarded.holds[-1]) == ([False, True], HoldReason.COMMAND_REFUSED)
