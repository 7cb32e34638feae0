"""A state is used only when it is there, complete, fresh and possible."""

import numpy as np
import pytest

from mbrl_ros.control.safety.hold import HoldReason
from mbrl_ros.control.safety.state_watch import StateWatch, StateWatchConfig
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.types import RobotState

PANDA = load_robot('panda')
HOME = np.array(PANDA.home_rad)
SECOND = 1_000_000_000


def make_state(stamp_ns, q=HOME):
    return RobotState(stamp_ns, PANDA.joints, q, np.zeros(7))


@pytest.fixture
def watch():
    return StateWatch(PANDA, StateWatchConfig())


def test_a_fresh_complete_state_is_fine(watch):
    assert watch.check(make_state(SECOND), SECOND) is None


@pytest.mark.parametrize(('age_s', 'reason'), [(0.2, HoldReason.STALE_STATE), (-0.2, HoldReason.FUTURE_STATE)])
def test_a_state_of_the_wrong_age_holds_until_a_fresh_one_comes(watch, age_s, reason):
    assert watch.check(make_state(10 * SECOND - int(age_s * SECOND)), 10 * SECOND) is reason
    assert watch.check(make_state(10 * SECOND), 10 * SECOND) is None


def test_no_state_holds(watch):
    assert watch.check(None, SECOND) is HoldReason.NO_STATE


def test_a_state_without_a_joint_or_with_nan_is_incomplete(watch):
    partial = RobotState(SECOND, PANDA.joints[:6], HOME[:6], np.zeros(6))
    assert watch.check(partial, SECOND) is HoldReason.STATE_INCOMPLETE
    assert watch.detail == PANDA.joints[6]
    broken = HOME.copy()
    broken[2] = np.nan
    assert watch.check(make_state(SECOND, broken), SECOND) is HoldReason.STATE_INCOMPLETE
    assert watch.detail == PANDA.joints[2]
    assert watch.check(make_state(SECOND), SECOND) is None
    assert watch.detail == ''


def test_an_old_state_is_told_with_its_age(watch):
    watch.check(make_state(SECOND), SECOND + 300_000_000)
    assert watch.detail == '0.300 s old, at most 0.1 s is allowed'


def test_a_jump_holds_for_the_settling_time(watch):
    watch.check(make_state(SECOND), SECOND)
    jumped = HOME + 0.5
    held = []
    for tick in range(1, 15):
        now = SECOND + tick * SECOND // 20
        held.append(watch.check(make_state(now, jumped), now))
        if tick == 1:
            assert watch.detail.startswith(f'{PANDA.joints[0]} by 0.50 rad')
    assert held[:10] == [HoldReason.STATE_JUMP] * 10
    assert watch.detail == ''
    assert held[10:] == [None] * 4


def test_fast_motion_is_no_jump(watch):
    for tick in range(10):
        now = SECOND + tick * SECOND // 20
        moving = HOME + np.array(PANDA.max_velocity_rad_s) * tick * 0.05
        assert watch.check(make_state(now, moving), now) is None


def test_after_a_reset_a_jump_is_forgotten(watch):
    watch.check(make_state(SECOND), SECOND)
    watch.reset()
    assert watch.check(make_state(2 * SECOND, HOME + 1.0), 2 * SECOND) is None
