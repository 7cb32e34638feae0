"""The replay buffer keeps the newest transitions, in order, in bounded memory."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.experience.buffer import ReplayBuffer, Transitions
from mbrl_ros.types import Tag, Transition


def transition(index: int) -> Transition:
    return Transition(np.full(4, index), np.full(2, -index), np.full(4, index + 1), index, index // 10)


@given(capacity=st.integers(1, 50), count=st.integers(0, 200))
def test_the_newest_capacity_transitions_remain_oldest_first(capacity, count):
    buffer = ReplayBuffer(4, 2, capacity)
    buffer.extend(transition(index) for index in range(count))
    kept = list(range(max(0, count - capacity), count))
    arrays = buffer.arrays()
    assert len(buffer) == len(kept)
    assert buffer.num_dropped == count - len(kept)
    assert arrays.stamp_ns.tolist() == kept
    assert arrays.episode.tolist() == [index // 10 for index in kept]
    assert arrays.obs[:, 0].tolist() == kept
    assert arrays.action[:, 1].tolist() == [-index for index in kept]
    assert arrays.next_obs[:, 3].tolist() == [index + 1 for index in kept]


def test_arrays_taken_before_stay_what_they_were():
    buffer = ReplayBuffer(4, 2, 8)
    for index in range(100):
        buffer.append(transition(index))
        if index == 20:
            before = buffer.arrays()
            copy = before.obs.copy()
    assert (before.obs == copy).all()


def test_arrays_are_read_only_views():
    buffer = ReplayBuffer(4, 2)
    buffer.append(transition(0))
    arrays = buffer.arrays()
    assert not arrays.obs.flags.owndata
    with pytest.raises(ValueError, match='read-only'):
        arrays.obs[0] = 1.0


def test_memory_stays_within_a_few_times_the_capacity():
    buffer = ReplayBuffer(4, 2, 100)
    buffer.extend(transition(index) for index in range(10_000))
    assert len(buffer._memory['obs']) <= 2 * 101


def test_a_transition_of_another_size_is_refused_by_shape():
    buffer = ReplayBuffer(6, 2)
    with pytest.raises(ShapeError, match=r'obs of shape \(4,\), the buffer holds \(6,\)'):
        buffer.append(transition(0))


def test_a_capacity_below_one_is_refused():
    with pytest.raises(ConfigError, match='capacity of at least 1, got 0'):
        ReplayBuffer(4, 2, 0)


def test_every_column_is_kept_and_what_is_not_given_is_unknown():
    buffer = ReplayBuffer(4, 2)
    buffer.append(transition(0))
    buffer.append(dataclasses.replace(transition(1), goal=(0.1, 0.2, 0.3), reward=-2.0, terminated=True, tags=Tag.DEMONSTRATED))
    rows = buffer.arrays()
    assert np.isnan(rows.goal[0]).all() and np.isnan(rows.reward[0])
    assert (rows.terminated[0], rows.truncated[0], rows.tags[0]) == (False, False, 0)
    assert rows.goal[1].tolist() == [0.1, 0.2, 0.3]
    assert (rows.reward[1], rows.terminated[1], rows.truncated[1], Tag(rows.tags[1])) == (-2.0, True, False, Tag.DEMONSTRATED)


@given(capacity=st.integers(1, 50), sizes=st.lists(st.integers(0, 40), max_size=8))
def test_many_at_once_are_as_one_after_another(capacity, sizes):
    one_by_one, at_once = ReplayBuffer(4, 2, capacity), ReplayBuffer(4, 2, capacity)
    begin = 0
    for size in sizes:
        new = [transition(index) for index in range(begin, begin + size)]
        one_by_one.extend(new)
        if new:
            at_once.extend(Transitions.gathered(new))
        begin += size
    assert (one_by_one.num_dropped, one_by_one.num_seen) == (at_once.num_dropped, at_once.num_seen)
    for name, values in one_by_one.arrays().columns().items():
        np.testing.assert_array_equal(at_once.arrays().columns()[name], values)


def test_older_transitions_go_before_the_newest_and_those_that_are_missing_are_told_by_their_stamps():
    buffer = ReplayBuffer(4, 2, 12)
    buffer.extend(transition(index) for index in [0, 1, 2, 20, 22])
    loaded = [transition(index) for index in (19, 20, 21, 22)]
    missing = buffer.missing(loaded, newest=2)
    assert [one.stamp_ns for one in missing] == [19, 21]
    buffer.insert(missing, before=2)
    assert buffer.arrays().stamp_ns.tolist() == [0, 1, 2, 19, 21, 20, 22]
    buffer.insert([transition(index) for index in range(30, 40)], before=0)
    assert (len(buffer), buffer.num_dropped, buffer.num_seen) == (12, 5, 17)
    assert buffer.arrays().stamp_ns.tolist() == [20, 22, *range(30, 40)]


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ShapeError, match='action has 2 rows, obs has 3'):
        Transitions.of(np.zeros((3, 4)), np.zeros((2, 2)), np.zeros((3, 4)), np.arange(3))
