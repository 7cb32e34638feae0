"""Holds have a meaning and a way back; a stop brakes, says zero a few times, and falls silent."""

import numpy as np
import pytest

from mbrl_ros.control.safety.command_filter import CommandFilter, CommandFilterConfig
from mbrl_ros.control.safety.hold import EmergencyStop, StopSequence
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot

PANDA = load_robot('panda')
CHAIN = KinematicChain.of_robot(PANDA)


def moving_filter():
    command_filter = CommandFilter(PANDA, CommandFilterConfig())
    for _ in range(3):
        command_filter.apply(np.full(7, 1.0), np.array(PANDA.home_rad), 0.05)
    return command_filter


def test_every_hold_says_what_it_means_and_how_it_ends():
    assert len({reason.value for reason in HoldReason}) == len(HoldReason)
    for reason in HoldReason:
        assert reason.explanation.endswith('.') and reason.way_back.endswith('.')
        assert HoldReason(reason.value) is reason


def test_a_stop_brakes_then_says_zero_five_times_then_is_silent():
    command_filter, stop = moving_filter(), StopSequence(5)
    stop.restart()
    sent = [stop.step(command_filter, 0.05) for _ in range(20)]
    commands = [velocity for velocity in sent if velocity is not None]
    zeros = [velocity for velocity in commands if not velocity.any()]
    speeds = [np.abs(velocity).max() for velocity in commands]
    assert len(zeros) == 5
    assert speeds == sorted(speeds, reverse=True)
    assert sent[len(commands):] == [None] * (20 - len(commands))


def test_before_the_first_motion_there_is_nothing_to_stop():
    assert StopSequence().step(moving_filter(), 0.05) is None


def test_a_pressed_stop_outlives_the_process_until_it_is_released(tmp_path):
    latch = tmp_path / 'run' / 'emergency_stop'
    EmergencyStop(latch).press()
    restarted = EmergencyStop(latch)
    assert restarted.is_pressed
    restarted.release()
    assert not EmergencyStop(latch).is_pressed


def test_a_stop_that_cannot_be_kept_on_disk_is_pressed_all_the_same(tmp_path):
    (tmp_path / 'file').touch()
    stop = EmergencyStop(tmp_path / 'file' / 'emergency_stop')
    with pytest.raises(OSError):
        stop.press()
    assert stop.is_pressed
    stop.release()
    assert not stop.is_pressed


@pytest.mark.parametrize('presses', [1, 2])
def test_an_emergency_stop_stays_pressed_until_it_is_released(presses):
    stop = EmergencyStop()
    for _ in range(presses):
        stop.press()
    assert stop.is_pressed
    stop.release()
    assert not stop.is_pressed
