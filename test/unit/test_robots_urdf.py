"""A URDF is read once and alike for planner, guard and simulator; a profile that goes beyond it is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_kinematics
import torch
from support.made_arms import FULL, Made, write_profile, write_urdf

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.origins import JointOrigins
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.robots.urdf import read_chain

ENDLESS = {'position_lower_rad': [-np.inf, -2.2], 'position_upper_rad': [np.inf, 2.2]}
#: Every type of joint, none of which lies or turns along an axis of its parent.
SKEWED = [Made('continuous', None, axis='0 0 1', rpy='0.3 -0.2 0.5'), Made(axis='1 2 -2', xyz='0.1 -0.05 0.2', rpy='1.2 0 0'),
          Made('prismatic', {'lower': -0.2, 'upper': 0.3, 'velocity': 2, 'effort': 9}, axis='0 -1 0.5', rpy='0 0.7 -2.0'),
          Made(axis='-1 0 0')]


@pytest.fixture(params=['panda', 'iiwa', 'made'])
def robot(request, tmp_path):
    if request.param != 'made':
        return load_robot(request.param)
    return load_robot(write_profile(tmp_path, SKEWED, joints=['j2', 'j4', 'j1', 'j3'], home_rad=[0.1, 0.2, 0.3, 0.1],
                                    position_lower_rad=[-2.2, -2.2, -2.2, -0.1], position_upper_rad=[2.2, 2.2, 2.2, 0.2]))


def some_positions(robot):
    return np.random.default_rng(5).uniform(robot.position_lower_rad, robot.position_upper_rad, (40, len(robot.joints)))


def test_the_guards_origins_are_the_planners(robot):
    q = some_positions(robot)
    expected = KinematicChain.of_robot(robot).points(torch.from_numpy(q)).numpy()
    np.testing.assert_allclose(JointOrigins(robot).points(q), expected, atol=1e-12)


def test_the_last_origin_is_the_tool_as_another_library_reads_it(robot):
    library = pytorch_kinematics.build_serial_chain_from_urdf(
        Path(robot.urdf_path).read_bytes(), robot.tool_link, robot.base_link).to(dtype=torch.float64)
    q = some_positions(robot)
    order = [robot.joints.index(name) for name in library.get_joint_parameter_names()]
    expected = library.forward_kinematics(torch.from_numpy(q[:, order])).get_matrix()[:, :3, 3]
    np.testing.assert_allclose(JointOrigins(robot).points(q)[:, -1], expected.numpy(), atol=1e-6)


def test_positions_of_another_shape_have_no_origins(robot):
    with pytest.raises(ShapeError, match=rf'need shape \(N, {len(robot.joints)}\), got \(3, 2\)'):
        JointOrigins(robot).points(np.zeros((3, 2)))


def read(folder, joints, names=('j1',)):
    return read_chain(write_urdf(folder / 'made.urdf', joints), 'base', 'tool', names)


@pytest.mark.parametrize(('limit', 'expected'), [
    (FULL, (-2.5, 2.5, 3.0, 80.0)),
    (None, (-np.inf, np.inf, np.inf, np.inf)),
    ({'lower': 0, 'upper': 0, 'velocity': 0, 'effort': 0}, (-np.inf, np.inf, np.inf, np.inf)),
    ({'lower': 1, 'upper': -1, 'velocity': -2, 'effort': -3}, (-np.inf, np.inf, np.inf, np.inf)),
    ({'upper': 2, 'velocity': 1}, (0.0, 2.0, 1.0, np.inf)),
])
def test_limits_that_are_missing_zero_or_crossed_count_as_absent(tmp_path, limit, expected):
    joint, flange = read(tmp_path, [Made(limit=limit)])
    assert (joint.lower, joint.upper, joint.max_velocity, joint.max_effort) == expected
    assert joint.is_moving and not flange.is_moving


def test_a_continuous_joint_has_no_ends_whatever_its_limits_say(tmp_path):
    joint, _ = read(tmp_path, [Made('continuous', FULL)])
    assert (joint.lower, joint.upper, joint.max_velocity) == (-np.inf, np.inf, 3.0)


@pytest.mark.parametrize(('joint', 'text'), [
    (Made('floating'), "joint 'j1' is of type 'floating'; an arm has revolute, continuous, prismatic and fixed ones"),
    (Made(more='<mimic joint="j9"/>'), "joint 'j1' mimics 'j9'; the joints from base to tool need to move by themselves"),
    (Made(axis='0 0 0'), "joint 'j1' has an axis of length 0"),
    (Made(axis='0 1'), "joint 'j1' cannot be read .three numbers wanted, got '0 1'"),
    (Made(xyz='0 nan 0'), "three numbers wanted, got '0 nan 0'"),
    (Made(rpy='0 0 up'), "joint 'j1' cannot be read .could not convert string to float: 'up'"),
    (Made(limit={'velocity': '${speed}'}), "joint 'j1' cannot be read .could not convert string to float"),
    (Made('fixed'), 'the chain base to tool moves , the profile lists j1'),
])
def test_a_joint_that_is_no_serial_arms_is_refused_by_name(tmp_path, joint, text):
    with pytest.raises(ConfigError, match=text) as caught:
        read(tmp_path, [joint])
    assert str(tmp_path / 'made.urdf') in str(caught.value)


@pytest.mark.parametrize(('text', 'error'), [
    ('<robot><link', 'is no URDF .unclosed token'),
    ('', 'is no URDF .no element found'),
    ('<robot/>', "no chain from 'base' to 'tool'"),
    ('<robot><joint type="fixed"/></robot>', "no chain from 'base' to 'tool'"),
    ('<robot><joint name="j" type="fixed"><parent link="tool"/><child link="tool"/></joint></robot>', 'no chain from'),
    ('<robot xmlns:x="http://www.ros.org/wiki/xacro"><x:property name="r" value="1"/></robot>',
     r'is xacro source, no URDF; expand it with "xacro made.urdf > arm.urdf"'),
])
def test_a_file_that_is_no_urdf_of_an_arm_is_refused(tmp_path, text, error):
    path = tmp_path / 'made.urdf'
    path.write_text(text)
    with pytest.raises(ConfigError, match=error):
        read_chain(path, 'base', 'tool', ())
    with pytest.raises(ConfigError, match='gone.urdf: is no URDF .*No such file'):
        read_chain(tmp_path / 'gone.urdf', 'base', 'tool', ())


def test_an_expanded_urdf_may_still_name_xacro(tmp_path):
    path = write_urdf(tmp_path / 'made.urdf', [Made()])
    path.write_text(path.read_text().replace('<robot ', '<robot xmlns:xacro="http://www.ros.org/wiki/xacro" '))
    assert [joint.name for joint in read_chain(path, 'base', 'tool', ['j1'])] == ['j1', 'flange']


@pytest.mark.parametrize(('joint', 'values', 'text'), [
    (Made(), {'position_upper_rad': [2.6, 2.2]}, r'limits of j1 need to lie within \[-2.5, 2.5\] rad, got \[-2.2, 2.6\] '),
    (Made(), {'position_lower_rad': [-2.6, -2.2]}, r'limits of j1 need to lie within \[-2.5, 2.5\] rad, got \[-2.6, 2.2\] '),
    (Made(), {'position_lower_rad': [-143, -2.2], 'position_upper_rad': [143, 2.2]}, r'\[-143, 143\]; 143 looks like degrees'),
    (Made(limit=None), {'position_lower_rad': [-143, -2.2], 'position_upper_rad': [120, 2.2]},
     r'position limits of j1 need to lie within \[-30, 30\] rad, got \[-143, 120\]; 143 looks like degrees'),
    (Made(), {'max_velocity_rad_s': [3.1, 1.0]}, 'the velocity limit of j1 needs to be at most 3 rad/s, got 3.1 '),
    (Made(), {'max_velocity_rad_s': [57, 1.0]}, 'needs to be at most 3 rad/s, got 57; 57 looks like degrees'),
    (Made(limit={'velocity': 0}), {'max_velocity_rad_s': [57, 1.0]}, 'at most 30 rad/s, got 57; 57 looks like degrees'),
    (Made('prismatic'), {'max_velocity_rad_s': [57, 1.0]}, r'needs to be at most 3 m/s, got 57 \('),
    (Made(), ENDLESS, r'position limits of j1 need to lie within \[-2.5, 2.5\] rad, got \[-inf, inf\]; only'),
    (Made(limit=None), ENDLESS, r'need to lie within \[-30, 30\] rad, got \[-inf, inf\]; only a joint of type continuous'),
    (Made('continuous'), {'position_upper_rad': [np.inf, 2.2]}, r'need to lie within \[-30, 30\] rad, got \[-2.2, inf\]'),
])
def test_a_profile_beyond_its_urdf_is_one_error_with_joint_and_numbers(tmp_path, joint, values, text):
    path = write_profile(tmp_path, [joint, Made()], **values)
    with pytest.raises(ConfigError, match=text) as caught:
        load_robot(path)
    assert path in str(caught.value) and str(tmp_path / 'made.urdf') in str(caught.value)


def test_every_limit_that_does_not_fit_is_in_the_error(tmp_path):
    path = write_profile(tmp_path, [Made(), Made()], position_upper_rad=[126, 126], max_velocity_rad_s=[57, 57])
    with pytest.raises(ConfigError, match='limits of j1 .* limit of j1 .* limits of j2 .* limit of j2'):
        load_robot(path)


@pytest.mark.parametrize(('joint', 'values'), [
    (Made(), {'position_upper_rad': [2.5004, 2.2], 'max_velocity_rad_s': [3.0, 3.0]}),
    (Made(limit=None), {'position_upper_rad': [6.3, 2.2], 'max_velocity_rad_s': [9.0, 1.0]}),
    (Made(limit={'lower': 0, 'upper': 0, 'velocity': 0}), {'position_upper_rad': [6.3, 2.2], 'max_velocity_rad_s': [9.0, 1.0]}),
    (Made('continuous', FULL), {'position_upper_rad': [6.3, 2.2]}),
    (Made('continuous', None), ENDLESS),
])
def test_limits_within_the_urdf_or_beside_absent_ones_load(tmp_path, joint, values):
    assert load_robot(write_profile(tmp_path, [joint, Made()], **values)).joints == ('j1', 'j2')


def test_joints_that_the_urdf_lacks_are_refused_on_loading(tmp_path):
    path = write_profile(tmp_path, [Made(), Made()], joints=['j1', 'elbow'])
    with pytest.raises(ConfigError, match='the chain base to tool moves j1, j2, the profile lists j1, elbow'):
        load_robot(path)


def test_loading_a_robot_needs_no_torch():
    code = "import sys; from mbrl_ros.robots.profile import load_robot; load_robot('panda'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
