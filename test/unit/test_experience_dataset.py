"""The dataset keeps the newest transitions, in order, in bounded memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.experience.dataset import TransitionDataset
from mbrl_ros.types import Transition


def transition(index: int) -> Transition:
    return Transition(np.full(4, index), np.full(2, -index), np.full(4, index + 1), index, index // 10)


@given(capacity=st.integers(1, 50), count=st.integers(0, 200))
def test_the_newest_capacity_transitions_remain_oldest_first(capacity, count):
    dataset = TransitionDataset(4, 2, capacity)
    dataset.extend(transition(index) for index in range(count))
    kept = list(range(max(0, count - capacity), count))
    arrays = dataset.arrays()
    assert len(dataset) == len(kept)
    assert dataset.num_dropped == count - len(kept)
    assert arrays.stamp_ns.tolist() == kept
    assert arrays.episode.tolist() == [index // 10 for index in kept]
    assert arrays.obs[:, 0].tolist() == kept
    assert arrays.action[:, 1].tolist() == [-index for index in kept]
    assert arrays.next_obs[:, 3].tolist() == [index + 1 for index in kept]


def test_arrays_taken_before_stay_what_they_were():
    dataset = TransitionDataset(4, 2, 8)
    for index in range(100):
        dataset.append(transition(index))
        if index == 20:
            before = dataset.arrays()
            copy = before.obs.copy()
    assert (before.obs == copy).all()


def test_arrays_are_read_only_views():
    dataset = TransitionDataset(4, 2)
    dataset.append(transition(0))
    arrays = dataset.arrays()
    assert not arrays.obs.flags.owndata
    with pytest.raises(ValueError, match='read-only'):
        arrays.obs[0] = 1.0


def test_memory_stays_within_a_few_times_the_capacity():
    dataset = TransitionDataset(4, 2, 100)
    dataset.extend(transition(index) for index in range(10_000))
    assert len(dataset._buffers[0]) <= 2 * 101


def test_a_transition_of_another_size_is_refused_by_shape():
    dataset = TransitionDataset(6, 2)
    with pytest.raises(ShapeError, match=r'shapes \(\(4,\), \(2,\), \(4,\)\), the dataset holds \(\(6,\), \(2,\), \(6,\)\)'):
        dataset.append(transition(0))


def test_a_capacity_below_one_is_refused():
    with pytest.raises(ConfigError, match='capacity of at least 1, got 0'):
        TransitionDataset(4, 2, 0)
