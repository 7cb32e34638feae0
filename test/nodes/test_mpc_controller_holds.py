"""The controller node over real DDS: what stops the arm, under which name, and what ends it."""

import numpy as np
import pytest
from support.controller_bench import GOAL, Bench

from mbrl_ros.ros import convert
from mbrl_ros.types import Phase


def silent_states(bench: Bench) -> None:
    bench.sends_states = False


def silent_manager(bench: Bench) -> None:
    bench.phase = None


def jump(bench: Bench) -> None:
    bench.offset = np.full(7, 0.5)


def states_with_nan(bench: Bench) -> None:
    bench.offset = np.full(7, np.nan)


def standing(bench: Bench) -> None:
    bench.phase = Phase.TRAINING


def without_a_model(bench: Bench) -> None:
    bench.phase = Phase.RUNNING


def silent_guard(bench: Bench) -> None:
    bench.guard_hold = None


def holding_guard(bench: Bench) -> None:
    bench.guard_hold = 'not_following', 'panda_joint1 moved 0.000 rad'


def sound(bench: Bench) -> None:
    bench.phase, bench.sends_states, bench.guard_hold = Phase.EXPLORING, True, ('', '')
    bench.offset = np.nan_to_num(bench.offset)


@pytest.mark.parametrize(('spoil', 'hold'), [
    (silent_states, 'stale_state'), (states_with_nan, 'stale_state'), (jump, 'state_jump'), (silent_manager, 'stale_mandate'),
    (standing, 'phase'), (without_a_model, 'no_model'), (silent_guard, 'no_guard'), (holding_guard, 'not_following')])
def test_what_is_wrong_stops_the_arm_under_its_name_and_ends_by_itself(moving, spoil, hold):
    spoil(moving)
    assert moving.spin_until(lambda: hold in {status['hold'] for status in moving.statuses[-5:]})
    assert hold == 'state_jump' or moving.spin_until(lambda: moving.rests)
    sound(moving)
    assert moving.spin_until(lambda: moving.moves)
    moving.assert_bounded()


def test_without_a_state_nothing_is_sent_and_the_reason_is_named(make_bench):
    bench = make_bench()
    bench.sends_states = False
    assert bench.spin_until(lambda: bench.hold == 'no_state' and 'rate_hz' in bench.diagnostics)
    assert not bench.commands


def test_without_a_guard_nothing_is_asked_for_and_the_reason_is_named(make_bench):
    bench = make_bench()
    bench.guard_hold = None
    assert bench.spin_until(lambda: bench.hold == 'no_guard' and 'rate_hz' in bench.diagnostics)
    assert not any(command.any() for command in bench.commands)
    sound(bench)
    assert bench.spin_until(lambda: bench.moves)


def test_after_a_stop_zeros_are_said_and_then_nothing(moving):
    moving.phase = Phase.TRAINING
    assert moving.spin_until(lambda: moving.rests)
    moving.spin_for(0.7)
    count = len(moving.commands)
    moving.spin_for(0.3)
    assert len(moving.commands) == count
    assert not np.array(moving.commands[-5:]).any()


def test_a_guard_that_waits_for_commands_holds_nothing(moving):
    moving.guard_hold = 'no_command', ''
    before = len(moving.statuses)
    assert moving.spin_until(lambda: len(moving.statuses) > before + 5 and moving.moves)
    assert 'no_command' not in {status['hold'] for status in moving.statuses[before:]}


def test_a_goal_out_of_reach_holds(make_bench):
    bench = make_bench(control__require_mandate=False)
    bench.phase = None
    for point, hold in (((3.0, 0.0, 0.5), 'goal_out_of_reach'), (GOAL, 'no_model')):
        bench.goal_pub.publish(convert.goal_to_msg(point, 0, 'panda_link0'))
        assert bench.spin_until(lambda wanted=hold: bench.hold == wanted)
