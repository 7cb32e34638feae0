"""The scripted expert answers each word on a demonstrated episode once, with the state that the word speaks of."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.agents.experts.demonstrator import Demonstrator
from mbrl_ros.agents.experts.scripted import ScriptedEpisodes
from mbrl_ros.errors import MeasurementError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.types import EpisodeReport, Phase, RobotState, body_joint_names

ROBOT = load_robot('panda')
LIFT = make_task('lift', ROBOT)
NAMES = (*ROBOT.state_names, *body_joint_names('object'))
POSITION = np.array([*ROBOT.home_rad, 0.08, 0.5, 0.1, 0.025, 0.0, 0.0, 0.3])
TICK_NS = 50_000_000
REPORT = EpisodeReport(0, Phase.DEMONSTRATED, 0, 0, 0, 0, 0.0, 0.0, 0.0, False, (0.5, 0.1, 0.145), 0, 0)


@pytest.fixture
def episodes():
    return ScriptedEpisodes(LIFT, Demonstrator('lift', seed=3))


def state(stamp_ns):
    return RobotState(stamp_ns, NAMES, POSITION, np.zeros(len(NAMES)))


def report(stamp_ns, **changes):
    return dataclasses.replace(REPORT, stamp_ns=stamp_ns, **changes)


def test_one_action_a_report_whichever_of_state_and_report_comes_first(episodes):
    first = [episodes.on_state(state(0)), episodes.on_report(report(0)), episodes.on_state(state(10_000_000))]
    assert [shown and shown.stamp_ns for shown in first] == [None, 0, None]
    second = [episodes.on_report(report(TICK_NS)), episodes.on_state(state(TICK_NS)), episodes.on_state(state(TICK_NS + 1))]
    assert [shown and shown.stamp_ns for shown in second] == [None, TICK_NS, None]


def test_an_action_is_the_expert_s_with_the_entries_of_the_task(episodes):
    expert = Demonstrator('lift', seed=3)
    expert.reset(REPORT.goal_m, 0)
    for tick in range(5):
        episodes.on_state(state(tick * TICK_NS))
        shown = episodes.on_report(report(tick * TICK_NS))
        assert shown.names == LIFT.action_names
        np.testing.assert_array_equal(shown.action, expert.action(LIFT.space.observe(state(tick * TICK_NS))))


def test_each_episode_begins_anew_with_its_own_noise(episodes):
    def act(tick, **changes):
        episodes.on_state(state(tick * TICK_NS))
        return episodes.on_report(report(tick * TICK_NS, **changes)).action

    first, same, other = act(0), act(1, start_ns=1), act(2, episode=1)
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize('phase', [phase for phase in Phase if phase is not Phase.DEMONSTRATED])
def test_nothing_is_shown_in_other_phases(episodes, phase):
    episodes.on_state(state(0))
    assert episodes.on_report(report(0, phase=phase)) is None


def test_a_state_without_the_body_is_refused_by_name(episodes):
    episodes.on_report(report(0))
    with pytest.raises(MeasurementError, match='state lacks object_x'):
        episodes.on_state(RobotState(0, ROBOT.state_names, POSITION[:8], np.zeros(8)))
