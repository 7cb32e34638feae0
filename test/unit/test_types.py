"""States are looked up by name, and what is missing is named."""

import numpy as np
import pytest

from mbrl_ros.errors import MeasurementError
from mbrl_ros.types import EpisodeReport, Phase, RobotState, body_joint_names


def test_obs_is_positions_then_velocities_in_the_order_asked_for():
    state = RobotState(1, ('a', 'b', 'c'), np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]))
    np.testing.assert_array_equal(state.obs(('c', 'a')), [3.0, 1.0, 30.0, 10.0])


def test_missing_name_is_told_with_those_that_exist():
    state = RobotState(1, ('a',), np.zeros(1), np.zeros(1))
    with pytest.raises(MeasurementError, match='state lacks b; it has a'):
        state.obs(('a', 'b'))


@pytest.mark.parametrize(('names', 'position', 'text'), [
    (('a', 'a'), np.zeros(2), "repeats the name 'a'"),
    (('a', 'b'), np.zeros(3), r'has 2 names but position has shape \(3,\)'),
])
def test_state_that_does_not_fit_its_names_is_refused(names, position, text):
    with pytest.raises(MeasurementError, match=text):
        RobotState(1, names, position, np.zeros(len(names)))


def test_body_has_six_virtual_joints():
    assert body_joint_names('object') == ('object_x', 'object_y', 'object_z', 'object_roll', 'object_pitch', 'object_yaw')


def test_only_demonstrated_exploring_and_running_episodes_are_learned_from():
    assert [phase for phase in Phase if phase.is_episode] == [Phase.DEMONSTRATED, Phase.EXPLORING, Phase.RUNNING]


@pytest.mark.parametrize('label', ['episode', 'step', 'total_steps', 'model_version'])
def test_negative_counts_of_a_report_are_refused(label):
    values = {'stamp_ns': 1, 'phase': Phase.RUNNING, 'start_ns': 0, 'episode': 0, 'step': 0, 'total_steps': 0, 'reward': 0.0,
              'episode_return': 0.0, 'distance_m': 0.0, 'success': False, 'goal_m': (0.5, 0.0, 0.4), 'goal_stamp_ns': 0,
              'model_version': 0}
    EpisodeReport(**values)
    with pytest.raises(MeasurementError, match=f'EpisodeReport.{label} cannot be negative, got -1'):
        EpisodeReport(**{**values, label: -1})
