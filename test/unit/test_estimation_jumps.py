"""Facts about telling jumps from outliers."""

import numpy as np

from mbrl_ros.estimation.jumps import JumpDetector

STEP_NS = 10_000_000


def make_detector(channels: int = 1) -> JumpDetector:
    return JumpDetector(np.full(channels, 0.01), np.full(channels, 1.0), needed=3)


def feed(detector: JumpDetector, readings: list[float], accepted: list[bool]) -> list[bool]:
    return [bool(detector.note(np.array([0]), np.array([ok]), index * STEP_NS, np.array([reading]))[0])
            for index, (reading, ok) in enumerate(zip(readings, accepted))]


def test_readings_that_agree_are_a_jump():
    assert feed(make_detector(), [5.0, 5.005, 5.01], [False] * 3) == [False, False, True]


def test_readings_that_scatter_are_not():
    assert not any(feed(make_detector(), [5.0, -3.0, 8.0, 1.0, 5.0], [False] * 5))


def test_moving_on_after_a_jump_agrees_up_to_the_largest_speed():
    assert feed(make_detector(), [5.0, 5.015, 5.03], [False] * 3)[-1]
    assert not any(feed(make_detector(), [5.0, 5.03, 5.06], [False] * 3))


def test_an_accepted_reading_starts_the_count_again():
    assert not any(feed(make_detector(), [5.0, 5.0, 0.0, 5.0, 5.0], [False, False, True, False, False]))


def test_a_jump_is_told_once():
    assert feed(make_detector(), [5.0] * 4, [False] * 4) == [False, False, True, False]


def test_channels_that_belong_together_jump_together():
    detector = make_detector(2)
    jumps = [detector.note(np.arange(2), np.zeros(2, bool), index * STEP_NS, np.array([5.0, other]), together=True)
             for index, other in enumerate([9.0, 1.0, 1.0, 1.0])]
    assert [jump.tolist() for jump in jumps] == [[False, False]] * 3 + [[True, True]]
