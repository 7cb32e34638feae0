"""The controller node over real DDS: what stops the arm, under which name, and what ends it."""

import numpy as np
import pytest
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from support.controller_bench import GOAL, TOPIC, Bench

from mbrl_ros.ros import convert, qos
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


def sound(bench: Bench) -> None:
    bench.phase, bench.sends_states = Phase.EXPLORING, True
    bench.offset = np.nan_to_num(bench.offset)


@pytest.mark.parametrize(('spoil', 'hold'), [
    (silent_states, 'stale_state'), (states_with_nan, 'stale_state'), (jump, 'state_jump'), (silent_manager, 'stale_mandate'),
    (standing, 'phase'), (without_a_model, 'no_model')])
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


def test_after_a_stop_zeros_are_said_and_then_nothing(moving):
    moving.phase = Phase.TRAINING
    assert moving.spin_until(lambda: moving.rests)
    moving.spin_for(0.7)
    count = len(moving.commands)
    moving.spin_for(0.3)
    assert len(moving.commands) == count
    assert not np.array(moving.commands[-5:]).any()


def test_the_emergency_stop_is_latched_until_released(moving):
    assert moving.call(Trigger, 'mpc_controller/stop', Trigger.Request()).success
    assert moving.spin_until(lambda: moving.hold == 'emergency_stop' and moving.rests)
    moving.spin_for(0.5)
    assert moving.hold == 'emergency_stop'
    assert moving.call(Trigger, 'mpc_controller/release', Trigger.Request()).success
    assert moving.spin_until(lambda: moving.moves)
    moving.assert_bounded()


def test_a_stop_that_is_still_pressed_is_said_as_an_error(make_bench, tmp_path, capfd):
    (tmp_path / 'emergency_stop').touch()
    make_bench(output_dir=str(tmp_path), autostart=False)
    line, = (line for line in capfd.readouterr().err.splitlines() if 'still pressed' in line)
    assert line.startswith('[ERROR]')


def test_a_second_commander_stops_the_arm_until_it_is_gone(moving):
    other = moving.node.create_publisher(Float64MultiArray, TOPIC, qos.COMMAND)
    assert moving.spin_until(lambda: moving.hold == 'other_commander' and moving.rests)
    moving.node.destroy_publisher(other)
    assert moving.spin_until(lambda: moving.moves)


def test_a_goal_out_of_reach_holds(make_bench):
    bench = make_bench(control__require_mandate=False)
    bench.phase = None
    for point, hold in (((3.0, 0.0, 0.5), 'goal_out_of_reach'), (GOAL, 'no_model')):
        bench.goal_pub.publish(convert.goal_to_msg(point, 0, 'panda_link0'))
        assert bench.spin_until(lambda wanted=hold: bench.hold == wanted)
