"""A table at which the joints are what moves: what is seen, what an action asks for, and what the dynamics are learned in."""

import dataclasses

import numpy as np
import pytest
import torch

from mbrl_ros.agents.experts.demonstrator import Demonstrator
from mbrl_ros.agents.experts.scripted import ScriptedEpisodes
from mbrl_ros.errors import ModelMismatchError
from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.framed import out_of_frame
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.joint_tool import JointToolSpace
from mbrl_ros.spaces.space import state_at_home
from mbrl_ros.spaces.tabletop import BODY, GRIP, OPENING, SIZE, TILT, TOOL
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.types import ArmCommand, EpisodeReport, Phase, RobotState

PANDA = load_robot('panda')
TASK, TWIST_TASK = (make_task('lift', PANDA, actions=actions) for actions in ('joints', 'twist'))
SPACE, TOOLS = TASK.space, TWIST_TASK.space
HOME_STATE = state_at_home(PANDA, SPACE)
PERIOD_S = 0.05
#: Where velocities of what `ToolSpace` sees end, and where the joints' positions begin.
SCENE, JOINTS = 2 * SIZE, TILT.stop


def moved(state, velocity, period_s=PERIOD_S):
    """The state of an arm that went on with a joint velocity for a while."""
    position, rate = state.position.copy(), state.velocity.copy()
    position[:7] += period_s * velocity
    rate[:7] = velocity
    return RobotState(state.stamp_ns, state.names, position, rate)


def test_observations_begin_with_those_of_tool_space():
    assert isinstance(SPACE, JointToolSpace) and isinstance(TOOLS, ToolSpace)
    state = moved(HOME_STATE, np.linspace(-0.4, 0.4, 7))
    obs = SPACE.observe(state)
    assert obs.shape == (TASK.obs_size,) == (2 * len(SPACE.state_names),)
    np.testing.assert_array_equal(obs[:SCENE], TOOLS.observe(state))
    np.testing.assert_array_equal(obs[JOINTS:JOINTS + 7], state.positions(PANDA.joints))
    np.testing.assert_array_equal(obs[-7:], state.velocities(PANDA.joints))


def test_tilt_is_zero_where_the_tool_points_down_and_its_rate_is_its_derivative():
    assert np.abs(SPACE.observe(HOME_STATE)[TILT]).max() < 1e-3
    velocity, step_s = np.linspace(-0.5, 0.7, 7), 1e-5
    before, after = (SPACE.observe(moved(HOME_STATE, velocity, time_s)) for time_s in (0.0, step_s))
    rate = (after - before)[TILT] / step_s
    assert np.abs(rate).max() > 0.1
    np.testing.assert_allclose(before[JOINTS + 7:JOINTS + 9], rate, rtol=1e-3)


def test_a_command_is_the_action_that_it_came_from():
    for action in np.random.default_rng(0).uniform(-1.0, 1.0, (5, 8)):
        command = SPACE.command(action, HOME_STATE)
        np.testing.assert_allclose(command.velocity, 0.8 * action[:GRIP])
        np.testing.assert_allclose(SPACE.action(command, HOME_STATE), action)
    assert SPACE.action(ArmCommand(np.zeros(7)), HOME_STATE)[GRIP] == 1.0


def test_what_an_expert_shows_as_a_twist_moves_the_tool_likewise():
    slow, fast = np.array([0.2, -0.1, 0.1, 0.2, -1.0]), np.array([1.0, 1.0, 1.0, 1.0, -1.0])
    for shown, share in ((slow, 1.0), (fast, None)):
        action = SPACE.of_twist(shown, HOME_STATE)
        assert action.shape == (8,) and np.abs(action).max() <= 1.0 and action[GRIP] == -1.0
        twist = TOOLS.action(SPACE.command(action, HOME_STATE), HOME_STATE)
        share = twist[0] / shown[0] if share is None else share
        np.testing.assert_allclose(twist[:GRIP], share * shown[:GRIP], atol=5e-3)
    assert 0.2 < share < 0.9
    np.testing.assert_array_equal(TOOLS.of_twist(slow, HOME_STATE), slow)


def test_a_scripted_expert_answers_in_joint_velocities():
    scripted = ScriptedEpisodes(TASK, Demonstrator('lift', noise_std=0.0))
    scripted.on_state(HOME_STATE)
    answer = scripted.on_report(EpisodeReport(0, Phase.DEMONSTRATED, 0, 0, 0, 0, 0.0, 0.0, 0.0, False, (0.5, 0.0, 0.1), 0, 0))
    assert answer.names == TASK.action_names == (*PANDA.joints, 'gripper')
    assert answer.action.shape == (8,) and np.abs(answer.action[:GRIP]).max() > 0.1


def test_in_the_frame_the_tool_goes_where_the_features_of_an_action_say():
    rng = np.random.default_rng(1)
    state = moved(HOME_STATE, rng.uniform(-0.2, 0.2, 7))
    action = np.array([*rng.uniform(-1.0, 1.0, 7), 1.0])
    after = moved(state, SPACE.command(action, state).velocity, 1e-4)
    obs, next_obs = (torch.from_numpy(SPACE.observe(one)) for one in (state, after))
    features, inner = SPACE.frame.encode(obs, torch.from_numpy(action))
    assert (features.shape, inner.shape) == ((TASK.obs_size,), (14,))
    assert not features[JOINTS:JOINTS + 7].any() and not features[-7:].any()
    torch.testing.assert_close(features[TILT], obs[TILT])
    change = SPACE.frame.change(obs, next_obs)
    np.testing.assert_allclose(change[TOOL] / 1e-4, 0.4 * inner[:3], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(inner[-7:], torch.from_numpy(action[:7]))
    torch.testing.assert_close(SPACE.frame.moved(obs, change), next_obs, atol=1e-9, rtol=0.0)


def scene(height_m, beside_m=0.0):
    """What is seen of a body at the tool, or beside it, at some height."""
    obs = torch.from_numpy(SPACE.observe(moved(HOME_STATE, np.linspace(-0.3, 0.3, 7))))
    obs[TOOL.stop - 1] = height_m
    obs[BODY.start:SIZE], obs[SIZE + BODY.start:SCENE] = obs[:OPENING], obs[SIZE:SIZE + OPENING]
    obs[BODY.start] += beside_m
    return obs


def test_what_a_body_in_the_air_does_with_the_tool_at_it_is_no_change_of_its_own():
    obs = scene(height_m=0.2)
    next_obs, together = obs.clone(), 0.02 * torch.randn(2, OPENING, generator=torch.Generator().manual_seed(1), dtype=obs.dtype)
    for halves in (next_obs[:SCENE].view(2, SIZE)[:, :OPENING], next_obs[:SCENE].view(2, SIZE)[:, BODY.start:]):
        halves += together
    change = SPACE.frame.change(obs, next_obs)
    torch.testing.assert_close(change[BODY], torch.zeros_like(change[BODY]))
    torch.testing.assert_close(change[SIZE + BODY.start:SCENE], torch.zeros(OPENING, dtype=obs.dtype))
    assert change[TOOL].abs().max() > 0.01
    torch.testing.assert_close(SPACE.frame.moved(obs, change), next_obs)
    next_obs[BODY.stop - 1] -= 0.01  # It slips.
    assert float(SPACE.frame.change(obs, next_obs)[BODY.stop - 1]) == pytest.approx(-0.01)


@pytest.mark.parametrize('height_m, beside_m', [(0.03, 0.0), (0.2, 0.15)], ids=['on the table', 'beside the tool'])
def test_of_a_body_that_nothing_holds_the_change_is_all_its_own(height_m, beside_m):
    obs = scene(height_m, beside_m)
    next_obs = obs.clone()
    next_obs[TOOL] += 0.02
    change = SPACE.frame.change(obs, next_obs)
    torch.testing.assert_close(change[BODY], torch.zeros_like(change[BODY]))
    torch.testing.assert_close(SPACE.frame.moved(obs, change), next_obs)


def test_in_a_counterfactual_the_joints_go_with_the_tool():
    rng = np.random.default_rng(2)
    begins = [SPACE.observe(moved(HOME_STATE, rng.uniform(-0.2, 0.2, 7))) for _ in range(30)]
    ends = [SPACE.observe(moved(HOME_STATE, rng.uniform(-0.2, 0.2, 7))) for _ in range(30)]
    obs, next_obs, action = (torch.from_numpy(np.array(rows)) for rows in (begins, ends, rng.uniform(-1.0, 1.0, (30, 8))))
    imagined = SPACE.frame.counterfactuals(obs, action, next_obs, torch.Generator().manual_seed(0))
    assert len(imagined[0]) > 10
    for one, begin, end in zip(*(rows.numpy() for rows in (imagined[1], imagined[0], imagined[2]))):
        row = int((action == torch.from_numpy(one)).all(dim=1).nonzero())
        for made, real in ((begin, begins[row]), (end, ends[row])):
            np.testing.assert_array_equal(made[SCENE:], real[SCENE:])
            np.testing.assert_array_equal(made[TOOL], real[TOOL])


def test_a_model_takes_the_features_that_the_frame_gives_and_no_others():
    right, wrong = (Predictor(stand_in(TASK.obs_size, size)) for size in (14, 8))
    members = right.ensemble_size
    mean, _ = out_of_frame(SPACE.frame, right, TASK.action_size).predict(torch.zeros(members, 2, 36), torch.zeros(members, 2, 8))
    assert mean.shape == (members, 2, 36)
    for frame, model in ((SPACE.frame, wrong), (None, right)):
        with pytest.raises(ModelMismatchError, match='the (inner )?model takes'):
            out_of_frame(frame, model, TASK.action_size)


def test_features_of_what_tool_space_sees_are_those_of_its_frame():
    obs = torch.from_numpy(SPACE.observe(moved(HOME_STATE, np.full(7, 0.1)))).expand(2, 3, -1)
    features, _ = SPACE.frame.encode(obs, torch.zeros(2, 3, 8, dtype=torch.float64))
    alone, _ = TOOLS.frame.encode(obs[..., :SCENE], torch.zeros(2, 3, 5, dtype=torch.float64))
    torch.testing.assert_close(features[..., :SCENE], alone)


@pytest.mark.parametrize('name', ['lift', 'push', 'pick_place'])
def test_rewards_are_those_of_twists_less_the_tilt(name):
    joints, twist = (make_task(name, PANDA, actions=actions) for actions in ('joints', 'twist'))
    goal, still = (0.5, 0.1, 0.1), {'joints': torch.zeros(8), 'twist': torch.zeros(5)}
    obs = torch.from_numpy(joints.space.observe(HOME_STATE)).float()
    obs[TILT] = torch.tensor([0.3, -0.4])
    with_tilt = joints.terms(obs, still['joints'], goal)
    without = twist.terms(obs[:SCENE], still['twist'], goal)
    assert float(with_tilt.pop('upright')) == pytest.approx(-10.0 * 0.25) and float(without.pop('upright')) == 0.0
    assert with_tilt == without


@pytest.mark.parametrize('name', ['lift', 'push', 'pick_place'])
def test_joints_away_from_home_cost_what_twists_never_see(name):
    joints, twist = (make_task(name, PANDA, actions=actions) for actions in ('joints', 'twist'))
    away = torch.from_numpy(joints.space.observe(moved(HOME_STATE, np.array([0.0, 0.0, 14.0, 0.0, 0.0, 0.0, 0.0]))))
    assert float(joints.terms(away, torch.zeros(8), (0.5, 0.1, 0.1))['posture']) == pytest.approx(-0.5 * 0.7**2 / 7)
    assert float(twist.terms(away[:SCENE], torch.zeros(5), (0.5, 0.1, 0.1))['posture']) == 0.0


def test_directions_move_the_tool_along_an_axis_turn_it_tilt_it_or_leave_it():
    state = moved(HOME_STATE, np.linspace(-3.0, 3.0, 7))
    directions = SPACE.directions(SPACE.observe(state))
    assert np.linalg.matrix_rank(directions) == 8
    np.testing.assert_array_equal(directions[GRIP], np.eye(8)[GRIP])
    np.testing.assert_array_equal(directions[:, GRIP], np.eye(8)[GRIP])
    joints = torch.from_numpy(state.positions(PANDA.joints))
    motions = SPACE._kinematics.jacobian(joints).numpy() @ directions[:GRIP, :GRIP]
    shares = np.abs(motions) / np.abs(motions).sum(axis=0).clip(1e-9)
    np.testing.assert_allclose(shares[[0, 1, 2, 5, 3, 4], range(6)], 1.0, atol=1e-6)
    np.testing.assert_allclose(motions[:, 6], 0.0, atol=1e-9)
    np.testing.assert_allclose(np.abs(directions).max(axis=0), [1.0] * 4 + [0.1] * 3 + [1.0])


def test_where_the_arm_cannot_move_its_tool_every_way_the_directions_are_those_at_home():
    home = SPACE.observe(HOME_STATE)
    stretched = home.copy()
    stretched[JOINTS:JOINTS + 7] = 0.0  # Upright: its elbow, wrist and base turn about axes in one plane.
    np.testing.assert_allclose(SPACE.directions(stretched), SPACE.directions(home), atol=1e-12)


def test_with_fewer_joints_than_a_tool_has_motions_each_is_tried_by_itself():
    of_joints = ('joints', 'position_lower_rad', 'position_upper_rad', 'max_velocity_rad_s', 'max_acceleration_rad_s2',
                 'max_jerk_rad_s3', 'home_rad')
    robot = dataclasses.replace(PANDA, capsules=(), **{name: getattr(PANDA, name)[:5] for name in of_joints})
    space = JointToolSpace(robot, KinematicChain.of_robot(PANDA))
    assert not space.is_directed and space.directions(np.zeros(32)) is None


def test_the_filter_decides_how_fast_an_action_may_change():
    change = SPACE.largest_change(0.5, PERIOD_S)
    np.testing.assert_allclose(change[:GRIP], np.array(PANDA.max_acceleration_rad_s2) * 0.5 * PERIOD_S / 0.8)
    assert change[GRIP] == 2.0


def test_settings_of_a_task_say_what_its_actions_are():
    assert TaskLoopConfig.of_task('lift').actions == 'twist'
    assert dataclasses.replace(TaskLoopConfig(), actions='joints').actions == 'joints'
    with pytest.raises(ValueError, match="actions needs one of twist, joints, got 'torques'"):
        TaskLoopConfig(actions='torques')
