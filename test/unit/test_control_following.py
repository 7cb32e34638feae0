"""Whether an arm follows: sound arms with any lag do, and one that stalls is named within a third of a second."""

import numpy as np
import pytest

from mbrl_ros.control.safety.following import FollowingConfig, FollowingWatch

DT = 1.0 / 120.0
JOINTS = ('a', 'b', 'c')


class Servo:
    """Joints with a dead time and a first-order lag, told random ramped velocities; from `fault_s` on something happens."""

    def __init__(self, lag_s, dead_s, seed=0, scale=1.0, noise=0.0):
        self.lag_s, self.dead_steps, self.scale, self.noise = lag_s, round(dead_s / DT), scale, noise
        self.rng = np.random.default_rng(seed)
        self.q, self.told, self.velocity, self.target = np.zeros(3), [np.zeros(3)], np.zeros(3), np.zeros(3)

    def run(self, watch, seconds, obeys=lambda time_s: True):
        """First time at which the watch speaks, and what it says; None if it does not."""
        for step in range(round(seconds / DT)):
            if step % 24 == 0:
                self.target = self.scale * np.clip(self.rng.normal(0.0, 0.5, 3) + 0.3 * self.told[-1], -1.5, 1.5)
            self.told.append(self.told[-1] + np.clip(self.target - self.told[-1], -10.0 * DT, 10.0 * DT))
            watch.told(round(step * DT * 1e9), self.told[-1])
            heard = self.told[max(len(self.told) - 1 - self.dead_steps, 0)]
            self.velocity += (heard - self.velocity) * (1.0 - np.exp(-DT / self.lag_s) if self.lag_s else 1.0)
            if obeys(step * DT):
                self.q = self.q + self.velocity * DT
            detail = watch.check(round((step + 1) * DT * 1e9), self.q + self.noise * self.rng.standard_normal(3))
            if detail:
                return step * DT, detail
        return None


@pytest.mark.parametrize(('lag_s', 'dead_s'), [(0.0, 0.0), (0.03, 0.01), (0.045, 0.02), (0.08, 0.03), (0.1, 0.05)])
@pytest.mark.parametrize('noise', [0.0, 0.002])
def test_a_sound_arm_follows_however_late_it_is(lag_s, dead_s, noise):
    for seed in range(2):
        watch = FollowingWatch(JOINTS, FollowingConfig())
        assert Servo(lag_s, dead_s, seed, noise=noise).run(watch, 6.0) is None
        assert watch.response_s == pytest.approx(lag_s + dead_s, abs=0.05)


@pytest.mark.parametrize(('lag_s', 'dead_s'), [(0.0, 0.0), (0.045, 0.02)])
def test_an_arm_that_stands_still_is_named_within_a_third_of_a_second(lag_s, dead_s):
    for seed in range(5):
        watch = FollowingWatch(JOINTS, FollowingConfig())
        time_s, detail = Servo(lag_s, dead_s, seed).run(watch, 5.0, obeys=lambda time_s: time_s < 4.0)
        assert 4.0 <= time_s <= 4.34
        assert ' moved ' in detail and 'told was' in detail


def test_an_arm_that_does_not_move_at_all_is_not_taken_for_a_late_one():
    watch = FollowingWatch(JOINTS, FollowingConfig())
    for step in range(18):
        watch.told(round(step * DT * 1e9), np.full(3, min(step * DT, 0.2)))
        assert not watch.check(round((step + 1) * DT * 1e9), np.zeros(3))
    assert np.isnan(watch.response_s)


def test_a_steady_motion_that_stops_is_named_by_its_joint():
    watch = FollowingWatch(JOINTS, FollowingConfig())
    for step in range(60):
        watch.told(round(step * DT * 1e9), np.array([0.0, 0.5, 0.0]))
        q = np.array([0.0, 0.5 * min(step + 1, 40) * DT, 0.0])
        if detail := watch.check(round((step + 1) * DT * 1e9), q):
            break
    assert detail.startswith('b moved ')
    assert (step - 40) * DT <= 0.1


def test_an_arm_that_moves_though_it_is_told_to_stand_does_not_follow():
    watch = FollowingWatch(JOINTS, FollowingConfig())
    watch.told(0, np.zeros(3))
    assert not watch.check(10_000_000, np.zeros(3))
    assert watch.check(20_000_000, np.array([0.0, 0.0, 0.05])) == 'c moved 0.050 rad in 0.01 s, told was 0.000 rad'


def test_what_may_lead_is_what_was_commanded_within_the_longest_response():
    config = FollowingConfig(max_response_s=0.2, tolerance_rad=0.01)
    watch = FollowingWatch(JOINTS, config)
    watch.told(0, np.array([1.0, 0.0, -0.5]))
    lower, upper = watch.lead(1_000_000_000)
    np.testing.assert_allclose(upper, [0.21, 0.01, 0.01], atol=1e-9)
    np.testing.assert_allclose(lower, [-0.01, -0.01, -0.11], atol=1e-9)
    watch.told(1_000_000_000, np.zeros(3))
    np.testing.assert_allclose(watch.lead(1_200_000_000)[1], [0.01, 0.01, 0.01], atol=1e-9)


def test_a_reset_forgets_motion_and_keeps_the_response():
    watch = FollowingWatch(JOINTS, FollowingConfig())
    Servo(0.03, 0.01).run(watch, 5.0)
    response_s = watch.response_s
    watch.reset()
    watch.told(100_000_000_000, np.zeros(3))
    assert not watch.check(100_010_000_000, np.full(3, 2.0))
    assert watch.response_s == response_s
