"""Demonstrated episodes come out of a bag as they were; a bag that does not fit is refused with what it is."""

import dataclasses

import numpy as np
import pytest
from support.demonstration_examples import NAMES, OPEN_M, demonstration, write_bag
from support.experience_examples import ROBOT

from mbrl_ros.errors import BagError
from mbrl_ros.experience.demonstrations import load_demonstrations
from mbrl_ros.experience.replay import load_transitions
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState

LIFT = make_task('lift', ROBOT)
PERIOD_S = 0.05


def load(*paths, task='lift', period_s=PERIOD_S, robot=ROBOT, space=LIFT.space):
    return load_demonstrations(paths, robot, task, space, period_s)


def refusal(*paths, **changes):
    with pytest.raises(BagError) as caught:
        load(*paths, **changes)
    return str(caught.value)


def test_every_episode_has_its_steps_its_outcome_and_actions_of_the_task(tmp_path):
    episodes = load(write_bag(tmp_path / 'bag', demonstration(3)))
    assert [(episode.steps, episode.success) for episode in episodes] == [(12, True), (12, False), (12, True)]
    assert [episode.distance_m for episode in episodes] == [0.01, 0.02, 0.03]
    assert episodes[0].episode_return == pytest.approx(-1.2)
    for episode in episodes:
        assert [rows.shape for rows in episode.transitions.dynamics] == [(12, 18), (12, 5), (12, 18)]
        np.testing.assert_allclose(episode.transitions.action[:, 4], 2.0 * OPEN_M / ROBOT.gripper.open_m - 1.0)
        np.testing.assert_array_equal(episode.transitions.next_obs[:-1], episode.transitions.obs[1:])


def test_its_steps_are_the_transitions_of_the_bag(tmp_path):
    path = write_bag(tmp_path / 'bag', demonstration(2))
    rows = load_transitions(path, ROBOT, LIFT.space, PERIOD_S)
    episodes = load(path)
    for name in ('obs', 'action', 'next_obs'):
        np.testing.assert_array_equal(np.concatenate([getattr(episode.transitions, name) for episode in episodes]),
                                      [getattr(row, name) for row in rows])


def test_bags_are_taken_in_their_order(tmp_path):
    bags = [write_bag(tmp_path / str(seed), demonstration(1, seed=seed)) for seed in range(2)]
    first, second = load(*bags)
    np.testing.assert_array_equal(first.transitions.obs, load(bags[0])[0].transitions.obs)
    np.testing.assert_array_equal(second.transitions.obs, load(bags[1])[0].transitions.obs)


def test_only_demonstrated_episodes_are_taken(tmp_path):
    shown, others = demonstration(1), demonstration(2, phase=Phase.RUNNING, seed=1)
    end_ns = shown[-1].stamp_ns + 50_000_000
    later = [shifted(value, end_ns) for value in others]
    assert len(load(write_bag(tmp_path / 'bag', shown + later))) == 1


def shifted(value, by_ns):
    changes = {'stamp_ns': value.stamp_ns + by_ns}
    if isinstance(value, EpisodeReport):
        changes |= {'start_ns': value.start_ns + by_ns, 'episode': value.episode + 1}
    return dataclasses.replace(value, **changes)


def test_two_runs_in_one_bag_are_told_apart_though_their_clock_began_anew(tmp_path):
    long_gap = [shifted(value, 10**10) if not isinstance(value, EpisodeReport)
                else dataclasses.replace(value, stamp_ns=value.stamp_ns + 10**10, start_ns=value.start_ns + 10**10)
                for value in demonstration(1, 8)]
    episodes = load(write_bag(tmp_path / 'bag', long_gap + demonstration(1, 12, seed=1)))
    assert [(episode.steps, len(episode.transitions)) for episode in episodes] == [(8, 8), (12, 12)]


def test_steps_that_cannot_be_learned_from_count_all_the_same(tmp_path):
    def is_lost(value):
        return isinstance(value, RobotState) and 200_000_000 < value.stamp_ns < 300_000_000

    [episode] = load(write_bag(tmp_path / 'bag', [value for value in demonstration(1) if not is_lost(value)]))
    assert episode.steps == 12 and len(episode.transitions) < 12


def test_a_recording_that_ends_within_an_episode_gives_what_there_is(tmp_path):
    [episode] = load(write_bag(tmp_path / 'bag', [value for value in demonstration(1) if value.stamp_ns <= 450_000_000]))
    assert (episode.steps, episode.success) == (9, False)


def test_a_bag_that_is_not_there_is_named(tmp_path):
    assert refusal(tmp_path / 'none') == f'{tmp_path}/none: no such file or directory'


@pytest.mark.parametrize(('kind', 'topic'), [
    (RobotState, 'state'), (AppliedCommand, 'applied_command'), (EpisodeReport, 'episode')])
def test_a_missing_topic_is_named_with_those_that_are_there(tmp_path, kind, topic):
    text = refusal(write_bag(tmp_path / 'bag', [value for value in demonstration(1) if not isinstance(value, kind)]))
    assert f'on {topic}; its topics are /' in text


def test_other_joints_are_named(tmp_path):
    names = tuple(name.replace('panda', 'other') for name in NAMES)
    text = refusal(write_bag(tmp_path / 'bag', demonstration(1, names=names)))
    assert 'state lacks panda_joint1' in text and 'it has other_joint1' in text


def test_another_robot_is_refused(tmp_path):
    iiwa = load_robot('iiwa')
    text = refusal(write_bag(tmp_path / 'bag', demonstration(1)), robot=iiwa, space=make_task('reach', iiwa).space)
    assert 'lacks' in text and iiwa.joints[0] in text


def test_states_without_a_body_are_refused(tmp_path):
    assert 'state lacks object_x' in refusal(write_bag(tmp_path / 'bag', demonstration(1, names=NAMES[:8])))


def test_another_control_rate_is_refused_with_both(tmp_path):
    path = write_bag(tmp_path / 'bag', demonstration(1, period_ns=100_000_000))
    assert refusal(path) == f'{path}: was recorded with a control step each 0.1 s, here it is 0.05 s'


def test_another_task_is_refused_with_both(tmp_path):
    path = write_bag(tmp_path / 'bag', demonstration(1), task='push')
    assert refusal(path) == f"{path}: was recorded for the task 'push', not for 'lift'"


def test_a_bag_without_a_demonstrated_episode_is_refused_with_what_it_holds(tmp_path):
    path = write_bag(tmp_path / 'bag', demonstration(2, phase=Phase.RUNNING))
    assert refusal(path) == f'{path}: holds no demonstrated episode; its episodes are running'


def test_episodes_of_which_nothing_can_be_used_are_refused_with_the_reason(tmp_path):
    values = [value for value in demonstration(1) if not (isinstance(value, RobotState) and value.stamp_ns % 200_000_000)]
    text = refusal(write_bag(tmp_path / 'bag', values))
    assert 'nothing of its 1 demonstrated episodes can be learned from: ' in text
    assert 'gap or jump in the states (' in text
