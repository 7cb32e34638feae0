"""When the command guard's next step in lockstep is due: by stamps, and not by what is late on the way."""

import threading

import numpy as np
import pytest

from mbrl_ros.ros.guard_inbox import GuardInbox
from mbrl_ros.types import AppliedCommand, RobotState

PERIOD_NS, CONTROL_NS = 10_000_000, 50_000_000
START_NS = 1_000_000_000
SOON_S = 0.001
JOINTS = ('a',)


def state(stamp_ns: int) -> RobotState:
    return RobotState(stamp_ns, JOINTS, np.zeros(1), np.zeros(1))


@pytest.fixture
def inbox() -> GuardInbox:
    """The inbox of a guard that has just got a command."""
    inbox = GuardInbox(PERIOD_NS, CONTROL_NS, 0)
    measure(inbox, START_NS)
    inbox.put_command(AppliedCommand(START_NS, JOINTS, np.zeros(1)))
    return inbox


def measure(inbox: GuardInbox, stamp_ns: int) -> None:
    inbox.put_clock(stamp_ns)
    inbox.put_state(state(stamp_ns))


def test_a_command_lasts_one_control_period_and_each_moment_of_it_is_a_step_once(inbox):
    steps = []
    for stamp_ns in range(START_NS, START_NS + 2 * CONTROL_NS, PERIOD_NS):
        measure(inbox, stamp_ns)
        steps += [inbox.wait_for_step(SOON_S), inbox.wait_for_step(SOON_S)]
    assert [step for step in steps if step is not None] == list(range(START_NS, START_NS + CONTROL_NS, PERIOD_NS))


def test_what_is_measured_within_a_period_is_no_step(inbox):
    inbox.wait_for_step(SOON_S)
    for stamp_ns in range(START_NS + PERIOD_NS // 4, START_NS + PERIOD_NS, PERIOD_NS // 4):
        measure(inbox, stamp_ns)
        assert inbox.wait_for_step(SOON_S) is None
    measure(inbox, START_NS + PERIOD_NS)
    assert inbox.wait_for_step(SOON_S) == START_NS + PERIOD_NS


def test_a_joint_state_that_is_late_is_waited_for(inbox):
    inbox.wait_for_step(SOON_S)
    inbox.put_clock(START_NS + PERIOD_NS)
    assert [inbox.wait_for_step(SOON_S) for _ in range(3)] == [None] * 3
    inbox.put_state(state(START_NS + PERIOD_NS))
    assert inbox.wait_for_step(SOON_S) == START_NS + PERIOD_NS


def test_joint_states_of_a_slow_sensor_will_do_once_it_is_known_to_be_slow(inbox):
    inbox.wait_for_step(SOON_S)
    inbox.put_clock(START_NS + PERIOD_NS)
    waits = [inbox.wait_for_step(SOON_S) for _ in range(6)]
    assert waits == [None] * 5 + [START_NS + PERIOD_NS]
    measure(inbox, START_NS + 2 * PERIOD_NS)
    inbox.wait_for_step(SOON_S)
    inbox.put_clock(START_NS + 3 * PERIOD_NS)
    assert inbox.wait_for_step(SOON_S) == START_NS + 3 * PERIOD_NS


def test_a_state_is_waited_for_until_it_is_young_enough_but_not_for_ever(inbox):
    later = threading.Timer(0.05, lambda: inbox.put_state(state(START_NS + PERIOD_NS)))
    later.start()
    inbox.wait_for_state(START_NS + 1, 60.0)
    assert inbox.newest()[0].stamp_ns == START_NS + PERIOD_NS
    inbox.wait_for_state(START_NS + CONTROL_NS, SOON_S)
    assert inbox.newest()[0].stamp_ns == START_NS + PERIOD_NS
    later.join()


def test_a_command_of_the_world_before_moves_nothing_in_another_one(inbox):
    inbox.wait_for_step(SOON_S)
    assert inbox.is_unanswered()
    measure(inbox, 0)
    assert inbox.wait_for_step(SOON_S) is None and not inbox.is_unanswered()
    inbox.put_command(AppliedCommand(0, JOINTS, np.zeros(1)))
    assert inbox.wait_for_step(SOON_S) == 0


def test_a_joint_state_tells_the_time_as_the_clock_does(inbox):
    inbox.wait_for_step(SOON_S)
    inbox.put_state(state(START_NS + PERIOD_NS))
    assert inbox.wait_for_step(SOON_S) == START_NS + PERIOD_NS
    inbox.put_clock(START_NS + PERIOD_NS // 2)
    assert inbox.is_unanswered() and inbox.wait_for_step(SOON_S) is None


def test_a_state_of_the_world_before_that_comes_after_the_new_clock_gives_way(inbox):
    begin_ns = START_NS - 200_000_000
    inbox.put_clock(begin_ns)
    inbox.put_state(state(START_NS))
    inbox.put_state(state(begin_ns))
    inbox.put_command(AppliedCommand(begin_ns, JOINTS, np.zeros(1)))
    assert inbox.wait_for_step(SOON_S) == begin_ns


def test_a_step_that_is_shorter_than_a_period_is_told_of(inbox):
    assert inbox.short_step() is None
    inbox.wait_for_step(SOON_S)
    measure(inbox, START_NS + PERIOD_NS // 2)
    assert inbox.short_step() == (START_NS, START_NS + PERIOD_NS // 2)
    measure(inbox, START_NS + PERIOD_NS)
    assert inbox.short_step() is None
