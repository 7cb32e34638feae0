"""Facts about grid times."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mbrl_ros.estimation.grid import LockstepSchedule, StampGrid


def test_times_are_multiples_of_the_period_and_include_the_end():
    grid = StampGrid(10)
    assert grid.due(25) == [20]
    assert grid.due(50) == [30, 40, 50]
    assert grid.due(50) == []
    assert grid.next_ns == 60


def test_leap_in_time_leaves_old_times_out():
    grid = StampGrid(10, max_due=3)
    grid.due(0)
    assert grid.due(1000) == [980, 990, 1000]


def test_restart_allows_earlier_times():
    grid = StampGrid(10)
    grid.due(1000)
    grid.restart()
    assert grid.due(20) == [20]


@given(ends=st.lists(st.integers(0, 500), min_size=1))
def test_every_time_is_given_once_however_the_calls_are_cut(ends):
    grid = StampGrid(10, max_due=1000)
    given_out = [stamp for end in ends for stamp in grid.due(end)]
    first = ends[0] // 10 * 10
    assert given_out == list(range(first, max(ends) // 10 * 10 + 1, 10))


def stamps(*values: int) -> np.ndarray:
    return np.array(values)


def test_state_is_due_once_every_entry_delivered():
    schedule = LockstepSchedule(10, patience_s=0.25)
    assert schedule.due(stamps(0, 0), 0, 0.0) == [0]
    assert schedule.due(stamps(20, 0), 20, 0.0) == []
    assert schedule.due(stamps(20, 20), 20, 0.1) == [10, 20]


def test_nothing_is_due_before_every_entry_was_seen():
    schedule = LockstepSchedule(10, patience_s=0.25)
    assert schedule.due(stamps(20, -1), 20, 0.0) == []
    assert schedule.due(stamps(20, -1), 20, 9.0) == []


def test_silent_entry_is_waited_for_once_and_again_after_it_delivered():
    schedule = LockstepSchedule(10, patience_s=0.25)
    schedule.due(stamps(0, 0), 0, 0.0)
    assert schedule.due(stamps(10, 0), 10, 1.0) == []
    assert schedule.due(stamps(10, 0), 10, 1.2) == []
    assert schedule.due(stamps(10, 0), 10, 1.25) == [10]
    assert schedule.due(stamps(20, 0), 20, 1.3) == [20]
    assert schedule.due(stamps(30, 25), 30, 1.4) == []
    assert schedule.due(stamps(30, 30), 30, 1.5) == [30]


def test_clock_alone_makes_the_schedule_go_on_when_all_entries_are_silent():
    schedule = LockstepSchedule(10, patience_s=0.25)
    schedule.due(stamps(0, 0), 0, 0.0)
    assert schedule.due(stamps(0, 0), 20, 1.0) == []
    assert schedule.due(stamps(0, 0), 20, 1.3) == [10, 20]


def test_standing_time_is_not_waiting():
    schedule = LockstepSchedule(10, patience_s=0.25)
    schedule.due(stamps(0, 0), 0, 0.0)
    assert schedule.due(stamps(0, 0), 0, 100.0) == []
    assert schedule.due(stamps(10, 0), 10, 100.1) == []


def test_schedule_follows_time_that_starts_again():
    schedule = LockstepSchedule(10, patience_s=0.25)
    schedule.due(stamps(3_000_000_000), 3_000_000_000, 0.0)
    assert schedule.due(stamps(20), 20, 1.0) == [20]


def test_schedule_follows_time_that_starts_again_a_moment_before():
    schedule = LockstepSchedule(10, patience_s=0.25)
    assert schedule.due(stamps(100, 100), 100, 0.0) == [100]
    assert schedule.due(stamps(50, -1), 50, 1.0) == []
    assert schedule.due(stamps(50, 50), 50, 1.0) == [50]
    assert schedule.due(stamps(60, 60), 60, 1.1) == [60]
