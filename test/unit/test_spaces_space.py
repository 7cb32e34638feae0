"""What tasks plan in: observations keep their layout, and a command's action is the action that was commanded."""

import dataclasses

import numpy as np
import pytest
import torch

from mbrl_ros.errors import ConfigError, MeasurementError
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.robots.twist import TwistConfig
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.spaces.tabletop import BODY, BODY_VELOCITY, BODY_YAW, GRIP, OPENING, SIZE, TOOL, TOOL_VELOCITY, TOOL_YAW, TWIST_YAW
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.types import ArmCommand, RobotState, body_joint_names

PANDA = load_robot('panda')
CHAIN = KinematicChain.of_robot(PANDA)
HOME = np.array(PANDA.home_rad)
JOINTS, TOOLS = JointSpace(PANDA), ToolSpace(PANDA, CHAIN)
CLOSED_M, OPEN_M = PANDA.gripper.closed_m, PANDA.gripper.open_m
#: x, y, z, roll, pitch, yaw of the body, and their rates: each entry another number.
BODY_AT, BODY_RATES = np.array([0.5, 0.1, 0.02, 0.01, -0.01, 0.3]), np.array([0.11, 0.12, 0.13, 0.14, 0.15, 0.16])
ACTIONS = np.random.default_rng(0).uniform(-1.0, 1.0, (20, 5))


def state(q=HOME, speed=None, opening_m=OPEN_M, opening_rate=0.0, body='object', order=1):
    names = (*PANDA.joints, PANDA.gripper.name, *body_joint_names(body))
    position = np.array([*q, opening_m, *BODY_AT])
    velocity = np.array([*(np.zeros(7) if speed is None else speed), opening_rate, *BODY_RATES])
    return RobotState(0, names[::order], position[::order], velocity[::order])


HOME_STATE = state()


def test_joint_space_is_the_arm_joints_positions_then_velocities():
    speed = np.arange(7.0)
    assert JOINTS.state_names == JOINTS.action_names == JOINTS.raw_names == PANDA.joints
    np.testing.assert_array_equal(JOINTS.observe(state(speed=speed)), [*HOME, *speed])


def test_an_action_in_joint_space_is_joint_velocity_in_units_of_its_limit():
    action = np.linspace(-1.0, 1.0, 7)
    command = JOINTS.command(action, HOME_STATE)
    np.testing.assert_allclose(command.velocity, action * PANDA.max_velocity_rad_s)
    assert command.opening_m is None
    np.testing.assert_allclose(JOINTS.action(command, HOME_STATE), action)


def test_layout_of_tool_space_is_positions_then_velocities_where_the_slices_say():
    assert len(TOOLS.state_names) == SIZE and len(TOOLS.observe(HOME_STATE)) == 2 * SIZE
    assert TOOLS.state_names[TOOL] == ('tool_x', 'tool_y', 'tool_z')
    assert TOOLS.state_names[BODY] == ('object_x', 'object_y', 'object_z')
    assert [TOOLS.state_names[index] for index in (TOOL_YAW, OPENING, BODY_YAW)] == ['tool_yaw', 'gripper', 'object_yaw']
    assert [TOOLS.action_names[index] for index in (TWIST_YAW, GRIP)] == ['twist_yaw', 'gripper']
    assert TOOLS.raw_names == (*PANDA.joints, 'gripper', *body_joint_names('object'))


def test_what_is_observed_of_gripper_and_body_is_what_the_state_has():
    obs = TOOLS.observe(state(opening_m=0.03, opening_rate=-0.05))
    np.testing.assert_array_equal(obs[BODY], BODY_AT[:3])
    np.testing.assert_array_equal(obs[BODY_VELOCITY], BODY_RATES[:3])
    assert (obs[BODY_YAW], obs[SIZE + BODY_YAW]) == (BODY_AT[5], BODY_RATES[5])
    assert (obs[OPENING], obs[SIZE + OPENING]) == (0.03, -0.05)


def test_the_order_of_the_state_does_not_matter():
    np.testing.assert_array_equal(TOOLS.observe(state(order=-1)), TOOLS.observe(state()))


def test_the_tool_is_where_kinematics_says():
    q = HOME + np.linspace(-0.2, 0.2, 7)
    place, rotation = CHAIN.pose(torch.from_numpy(q))
    obs = TOOLS.observe(state(q))
    np.testing.assert_allclose(obs[TOOL], place.numpy())
    assert obs[TOOL_YAW] == pytest.approx(float(torch.atan2(rotation[1, 0], rotation[0, 0])))


def test_observed_tool_velocities_are_the_rates_of_observed_tool_positions():
    speed, step_s = np.linspace(-0.3, 0.3, 7), 1e-6
    before, after = (TOOLS.observe(state(HOME + sign * step_s * speed)) for sign in (-1.0, 1.0))
    rates, obs = (after - before) / (2.0 * step_s), TOOLS.observe(state(speed=speed))
    np.testing.assert_allclose(obs[TOOL_VELOCITY], rates[TOOL], atol=1e-6)
    # The tool points down, where the rate of the yaw is the turning about the vertical.
    assert obs[SIZE + TOOL_YAW] == pytest.approx(rates[TOOL_YAW], abs=1e-6)


@pytest.mark.parametrize('q', [HOME, HOME + [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3]], ids=['home', 'turned'])
def test_the_action_of_a_command_is_the_action_that_was_commanded(q):
    for action in ACTIONS:
        np.testing.assert_allclose(TOOLS.action(TOOLS.command(action, state(q)), state(q)), action, atol=5e-3)


def test_twists_are_in_units_of_the_speeds_that_were_set():
    slow = ToolSpace(PANDA, CHAIN, config=TwistConfig(max_linear_m_s=0.1, max_yaw_rad_s=0.5))
    command = slow.command(np.ones(5), HOME_STATE)
    moving = TOOLS.observe(state(speed=command.velocity))
    np.testing.assert_allclose([*moving[TOOL_VELOCITY], moving[SIZE + TOOL_YAW]], [0.1, 0.1, 0.1, 0.5], atol=2e-3)
    np.testing.assert_allclose(slow.action(command, HOME_STATE), np.ones(5), atol=1e-2)


def test_a_still_arm_at_home_is_told_to_stay():
    np.testing.assert_allclose(TOOLS.command(np.zeros(5), HOME_STATE).velocity, 0.0, atol=1e-6)


@pytest.mark.parametrize(('grip', 'opening_m'), [(-1.0, CLOSED_M), (0.0, 0.5 * (CLOSED_M + OPEN_M)), (1.0, OPEN_M)])
def test_the_gripper_goes_from_closed_at_minus_one_to_open_at_one(grip, opening_m):
    assert TOOLS.command(np.array([0.0, 0.0, 0.0, 0.0, grip]), HOME_STATE).opening_m == pytest.approx(opening_m)


@pytest.mark.parametrize(('opening_m', 'grip'), [(CLOSED_M, -1.0), (0.25 * OPEN_M, -0.5), (OPEN_M, 1.0)])
def test_without_an_opening_in_the_command_the_gripper_counts_as_told_to_stay(opening_m, grip):
    assert TOOLS.action(ArmCommand(np.zeros(7)), state(opening_m=opening_m))[GRIP] == pytest.approx(grip)


@pytest.mark.parametrize(('opening_m', 'grip'), [(CLOSED_M - 0.01, -1.0), (OPEN_M + 0.01, 1.0)])
def test_an_opening_beyond_the_fingers_counts_as_their_end(opening_m, grip):
    assert TOOLS.action(ArmCommand(np.zeros(7), opening_m), HOME_STATE)[GRIP] == grip


def test_a_robot_without_gripper_is_refused():
    iiwa = load_robot('iiwa')
    with pytest.raises(ConfigError, match='iiwa has no gripper, which a task over a table needs'):
        ToolSpace(iiwa, KinematicChain.of_robot(iiwa))


def test_a_state_without_the_body_is_refused_with_what_is_missing():
    with pytest.raises(MeasurementError, match='state lacks object_x, object_y, object_z, object_yaw; it has panda_joint1'):
        TOOLS.observe(state(body='mug'))
    assert ToolSpace(PANDA, CHAIN, 'mug').observe(state(body='mug')).shape == (18,)


def test_a_state_without_an_arm_joint_is_refused_with_what_is_missing():
    for space in (JOINTS, TOOLS):
        with pytest.raises(MeasurementError, match='state lacks panda_joint1; it has panda_joint2'):
            space.observe(RobotState(0, HOME_STATE.names[1:], HOME_STATE.position[1:], HOME_STATE.velocity[1:]))


@pytest.mark.parametrize('space', [JOINTS, TOOLS], ids=['joints', 'tool'])
def test_the_largest_change_of_an_action_grows_with_period_and_acceleration(space):
    change, longer, harder = (space.largest_change(*arguments) for arguments in ((0.5, 0.05), (0.5, 0.1), (1.0, 0.05)))
    assert change.shape == (len(space.action_names),) and (change > 0.0).all()
    limited = slice(None) if space is JOINTS else slice(TWIST_YAW + 1)
    np.testing.assert_allclose(longer[limited], 2.0 * change[limited])
    np.testing.assert_allclose(harder, longer)


def test_the_largest_change_keeps_to_the_accelerations_of_the_joints():
    change = JOINTS.largest_change(0.5, 0.05) * PANDA.max_velocity_rad_s
    np.testing.assert_allclose(change, 0.5 * 0.05 * np.array(PANDA.max_acceleration_rad_s2))


def test_the_largest_change_keeps_to_the_accelerations_of_the_tool():
    config = TwistConfig()
    change = TOOLS.largest_change(0.5, 0.05)[:GRIP] * [*[config.max_linear_m_s] * 3, config.max_yaw_rad_s]
    accelerations = [*[config.max_linear_acceleration_m_s2] * 3, config.max_yaw_acceleration_rad_s2]
    np.testing.assert_allclose(change, 0.5 * 0.05 * np.array(accelerations))


def test_the_gripper_may_go_from_closed_to_open_in_any_period():
    assert [TOOLS.largest_change(1.0, period_s)[GRIP] for period_s in (0.01, 0.1)] == [2.0, 2.0]


def test_a_body_that_flies_off_is_seen_no_faster_than_things_move():
    fast = dataclasses.replace(HOME_STATE, velocity=np.where(np.arange(len(HOME_STATE.names)) > 7, -1e9, HOME_STATE.velocity))
    seen = TOOLS.observe(fast)
    np.testing.assert_array_equal(seen[BODY_VELOCITY], [-1.0] * 3)
    assert seen[SIZE + BODY_YAW] == -10.0
