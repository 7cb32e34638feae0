"""Laws of the transition assembler."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.asserts import some

from mbrl_ros.errors import MeasurementError
from mbrl_ros.experience.assembler import AssemblerConfig, TransitionAssembler
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.spaces.tabletop import BODY, BODY_YAW, GRIP, OPENING
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState, Tag, body_joint_names

ROBOT = load_robot('panda')
TOOLS = ToolSpace(ROBOT, KinematicChain.of_robot(ROBOT))
PERIOD_S = 0.05
MS = 1_000_000


def make_assembler(**limits) -> TransitionAssembler:
    return TransitionAssembler(ROBOT, JointSpace(ROBOT), PERIOD_S, AssemblerConfig(**limits))


def state_at(ms: float, offset_rad: float = 0.0) -> RobotState:
    """A state on a line in time: positions 0.1 t + joint index, velocities 0.2 t."""
    t = ms / 1000.0
    position = 0.1 * t + np.arange(7) + offset_rad
    return RobotState(round(ms * MS), ROBOT.joints, position, np.full(7, 0.2 * t))


def command_at(ms: float, value: float = 0.3) -> AppliedCommand:
    return AppliedCommand(round(ms * MS), ROBOT.joints, np.full(7, value))


def report_at(ms: float, phase: Phase = Phase.RUNNING, episode: int = 3) -> EpisodeReport:
    return EpisodeReport(stamp_ns=round(ms * MS), phase=phase, start_ns=0, episode=episode, step=0, total_steps=0, reward=0.0,
                         episode_return=0.0, distance_m=0.1, success=False, goal_m=(0.5, 0.0, 0.5), goal_stamp_ns=0,
                         model_version=0)


def feed(assembler: TransitionAssembler, messages: list) -> list:
    handlers = {RobotState: assembler.on_state, AppliedCommand: assembler.on_applied, EpisodeReport: assembler.on_report}
    return [transition for message in messages for transition in handlers[type(message)](message)]


def lockstep_messages(num_steps: int, phase_of=lambda step: Phase.RUNNING) -> list:
    """The chain of one lockstep run: each tick gives state, report and command; states come at 100 Hz."""
    messages = []
    for step in range(num_steps + 1):
        tick = 50 * step
        messages += [state_at(ms) for ms in range(tick - 40 if step else 0, tick + 1, 10)]
        messages += [report_at(tick, phase_of(step)), command_at(tick, 0.01 * step)]
    return messages


def fields(transitions: list) -> list:
    return [(t.stamp_ns, t.episode, t.obs.tobytes(), t.action.tobytes(), t.next_obs.tobytes()) for t in transitions]


def test_lockstep_gives_one_exact_transition_per_step_as_soon_as_the_next_command_is_known():
    assembler = make_assembler()
    transitions = feed(assembler, lockstep_messages(20))
    assert [t.stamp_ns for t in transitions] == [50 * MS * step for step in range(20)]
    for step, transition in enumerate(transitions):
        assert (transition.obs == state_at(50 * step).obs(ROBOT.joints)).all()
        assert (transition.next_obs == state_at(50 * (step + 1)).obs(ROBOT.joints)).all()
        assert (transition.action == 0.01 * step / np.array(ROBOT.max_velocity_rad_s)).all()
        assert transition.episode == 3
    assert not assembler.dropped


def test_each_next_observation_is_the_following_observation():
    transitions = feed(make_assembler(), lockstep_messages(10))
    assert all((a.next_obs == b.obs).all() for a, b in some(zip(transitions, transitions[1:])))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_interleaving_of_the_topics_gives_the_same_transitions(data):
    messages = lockstep_messages(24, lambda step: Phase.RUNNING if step % 12 < 9 else Phase.STOPPING)
    expected = fields(feed(make_assembler(), messages))
    queues = [[m for m in messages if isinstance(m, kind)] for kind in (RobotState, AppliedCommand, EpisodeReport)]
    shuffled = []
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        taken = data.draw(st.integers(1, len(queue)))
        shuffled += queue[:taken]
        del queue[:taken]
    assert fields(feed(make_assembler(), shuffled)) == expected
    assert len(expected) == 18


def test_jittered_commands_are_interpolated_on_a_linear_motion_exactly():
    rng = np.random.default_rng(0)
    stamps = np.cumsum(rng.uniform(48, 53, 30)) + 7.3
    messages = [state_at(ms) for ms in np.arange(0, 2000, 10) + rng.uniform(-3, 3, 200)]
    assembler = make_assembler()
    transitions = feed(assembler, messages + [command_at(ms) for ms in stamps]) + assembler.flush()
    assert len(transitions) == 30
    for transition, ms in zip(transitions, stamps, strict=True):
        np.testing.assert_allclose(transition.obs, state_at(ms).obs(ROBOT.joints), atol=1e-8)
        np.testing.assert_allclose(transition.next_obs, state_at(ms + 50).obs(ROBOT.joints), atol=1e-8)


def test_a_gap_in_the_states_drops_the_commands_across_it_and_no_other():
    messages = [m for m in lockstep_messages(20) if not (isinstance(m, RobotState) and 410 <= m.stamp_ns / MS <= 470)]
    assembler = make_assembler()
    transitions = feed(assembler, messages)
    assert sorted({50 * MS * step for step in range(20)} - {t.stamp_ns for t in transitions}) == [400 * MS, 450 * MS]
    assert assembler.dropped == {'gap or jump in the states': 2}


def test_a_jump_of_the_arm_is_not_learned_as_motion():
    messages = [dataclasses.replace(m, position=m.position + 1.0) if isinstance(m, RobotState) and m.stamp_ns > 420 * MS else m
                for m in lockstep_messages(20)]
    assembler = make_assembler()
    missing = {50 * MS * step for step in range(20)} - {t.stamp_ns for t in feed(assembler, messages)}
    assert missing == {400 * MS}
    assert assembler.dropped == {'gap or jump in the states': 1}


def test_a_command_superseded_before_nine_tenths_of_its_period_is_dropped():
    messages = sorted([*lockstep_messages(10), command_at(220)], key=lambda m: m.stamp_ns)
    assembler = make_assembler()
    kept = {t.stamp_ns // MS for t in feed(assembler, messages)}
    assert kept == {0, 50, 100, 150, 250, 300, 350, 400, 450}
    assert assembler.dropped == {'superseded early': 2}


@pytest.mark.parametrize('phase', [phase for phase in Phase if not phase.is_episode])
def test_only_episode_phases_are_learned_from(phase):
    assembler = make_assembler()
    transitions = feed(assembler, lockstep_messages(10, lambda step: Phase.EXPLORING if step < 4 else phase))
    assert [t.stamp_ns // MS for t in transitions] == [0, 50, 100, 150]
    assert assembler.dropped['outside an episode'] >= 5


def test_commands_before_the_first_report_are_outside_an_episode():
    messages = [m for m in lockstep_messages(10) if not (isinstance(m, EpisodeReport) and m.stamp_ns < 200 * MS)]
    assert [t.stamp_ns // MS for t in feed(make_assembler(), messages)] == [200, 250, 300, 350, 400, 450]


def test_without_any_report_every_command_counts_once_the_patience_is_over():
    messages = [m for m in lockstep_messages(60) if not isinstance(m, EpisodeReport)]
    assembler = make_assembler(patience_s=1.0)
    transitions = feed(assembler, messages)
    assert [t.stamp_ns // MS for t in transitions] == list(range(0, 2000, 50))
    assert len(transitions + assembler.flush()) == 60


def test_the_last_command_of_an_episode_is_kept_when_the_arm_then_stands():
    messages = lockstep_messages(5)[:-2] + [report_at(250, Phase.TRAINING)]
    assert len(feed(make_assembler(), messages)) == 5


def test_repeated_and_late_messages_change_nothing():
    messages = lockstep_messages(10)
    noisy = [copy for message in messages for copy in (message, message)] + [state_at(300), command_at(310), report_at(320)]
    assembler = make_assembler()
    assert fields(feed(assembler, noisy)) == fields(feed(make_assembler(), messages))
    assert assembler.dropped['state is repeated or late'] == 52


def test_a_clock_set_back_starts_anew():
    later = [dataclasses.replace(m, stamp_ns=m.stamp_ns + 10_000 * MS) for m in lockstep_messages(5)]
    transitions = feed(make_assembler(), later + lockstep_messages(5))
    assert [t.stamp_ns // MS for t in transitions] == [10_000, 10_050, 10_100, 10_150, 10_200, 0, 50, 100, 150, 200]


def test_a_clock_set_back_by_little_starts_anew_where_messages_come_in_order():
    later = [dataclasses.replace(m, stamp_ns=m.stamp_ns + 400 * MS) for m in lockstep_messages(5)]
    assembler = TransitionAssembler(ROBOT, JointSpace(ROBOT), 0.05, in_order=True)
    transitions = feed(assembler, later + lockstep_messages(5))
    assert [t.stamp_ns // MS for t in transitions] == [400, 450, 500, 550, 600, 0, 50, 100, 150, 200]
    assert assembler.dropped == {'no state one period after the command': 1}


def test_names_are_matched_in_any_order():
    order = ROBOT.joints[::-1]
    messages = lockstep_messages(3)
    turned = [dataclasses.replace(m, names=order, velocity=m.velocity[::-1]) if isinstance(m, AppliedCommand) else
              RobotState(m.stamp_ns, order, m.position[::-1], m.velocity[::-1]) if isinstance(m, RobotState) else m
              for m in messages]
    assert fields(feed(make_assembler(), turned)) == fields(feed(make_assembler(), messages))


@pytest.mark.parametrize('value', [np.nan, np.inf, -1e30])
def test_impossible_values_never_reach_a_transition(value):
    messages = lockstep_messages(10)
    bad = dataclasses.replace(state_at(205), velocity=np.full(7, value))
    assembler = make_assembler()
    transitions = feed(assembler, sorted([*messages, bad, command_at(225, value)], key=lambda m: m.stamp_ns))
    assert fields(transitions) == fields(feed(make_assembler(), messages))
    assert assembler.dropped == {'state is not finite or not plausible': 1, 'command is not finite or not plausible': 1}


def test_memory_is_bounded_whichever_stream_goes_on_alone():
    for stream in ([state_at(10 * i) for i in range(3000)], [command_at(50 * i) for i in range(3000)],
                   [report_at(50 * i) for i in range(3000)]):
        assembler = make_assembler(max_pending=500)
        feed(assembler, stream)
        assert len(assembler._states) + len(assembler._commands) + len(assembler._reports) <= 500


def test_missing_joints_are_named():
    assembler = make_assembler()
    with pytest.raises(MeasurementError, match='applied command lacks panda_joint7; it has panda_joint1'):
        assembler.on_applied(AppliedCommand(0, ROBOT.joints[:-1], np.zeros(6)))
    with pytest.raises(MeasurementError, match='state lacks panda_joint1'):
        assembler.on_state(RobotState(0, ('elbow',), np.zeros(1), np.zeros(1)))


def test_the_last_word_on_a_stamp_holds():
    first_says_reset = [state_at(ms) for ms in range(0, 111, 10)]
    first_says_reset += [report_at(0, Phase.RESETTING), report_at(0, Phase.RUNNING), command_at(0), report_at(50), command_at(50)]
    assert [t.stamp_ns for t in feed(make_assembler(), first_says_reset)] == [0]


def scene_at(ms: float, x_m: float = 0.5, yaw_rad: float = 0.3, opening_m: float = 0.06) -> RobotState:
    """A still arm over a still body."""
    names = (*ROBOT.state_names, *body_joint_names('object'))
    position = np.array([*ROBOT.home_rad, opening_m, x_m, 0.1, 0.025, 0.0, 0.0, yaw_rad])
    return RobotState(round(ms * MS), names, position, np.zeros(len(names)))


def over_the_table(states: list, commands: list, reports: list) -> list:
    assembler = TransitionAssembler(ROBOT, TOOLS, PERIOD_S)
    return feed(assembler, states + reports + commands) + assembler.flush()


def told_at(ms: float, opening_m: float | None = None) -> AppliedCommand:
    return AppliedCommand(round(ms * MS), ROBOT.joints, np.full(7, 0.05), opening_m)


def test_in_tool_space_observations_and_actions_are_those_of_the_space():
    states = [scene_at(ms) for ms in range(0, 111, 10)]
    first, second = over_the_table(states, [told_at(0, 0.02), told_at(50, 0.02)], [report_at(0)])
    np.testing.assert_array_equal(first.obs, TOOLS.observe(states[0]))
    np.testing.assert_array_equal(first.next_obs, second.obs)
    np.testing.assert_array_equal(first.action, TOOLS.action(told_at(0, 0.02), states[0]))
    assert first.obs[OPENING] == 0.06 and first.action[GRIP] == pytest.approx(-0.5)


def test_the_gripper_keeps_what_it_was_told_in_the_same_episode_and_forgets_it_with_the_next():
    states = [scene_at(ms) for ms in range(0, 361, 10)]
    reports = [report_at(0, episode=0), report_at(150, Phase.RESETTING, 0), report_at(200, episode=1)]
    commands = [told_at(0), told_at(50, 0.0), told_at(100), told_at(150), told_at(200), told_at(250, 0.08), told_at(300)]
    kept = over_the_table(states, commands, reports)
    assert [(t.stamp_ns // MS, round(t.action[GRIP], 6)) for t in kept] == [
        (0, 0.5), (50, -1.0), (100, -1.0), (200, 0.5), (250, 1.0), (300, 1.0)]


def test_a_body_that_is_put_elsewhere_is_not_learned_as_motion_and_one_that_is_carried_is():
    speed_m_s = 1.0
    carried = [scene_at(ms, 0.4 + speed_m_s * ms / 1000.0) for ms in range(0, 211, 10)]
    moved = [scene_at(state.stamp_ns / MS, 0.6) if state.stamp_ns > 70 * MS else scene_at(state.stamp_ns / MS, 0.4)
             for state in carried]
    commands = [told_at(ms) for ms in (0, 50, 100, 150)]
    assert [t.stamp_ns // MS for t in over_the_table(carried, commands, [report_at(0)])] == [0, 50, 100, 150]
    assert [t.stamp_ns // MS for t in over_the_table(moved, commands, [report_at(0)])] == [0, 100, 150]


def test_between_states_a_body_turns_the_shorter_way_and_its_place_is_in_between():
    states = [scene_at(0, 0.5, 3.1), scene_at(10, 0.52, -3.1), scene_at(60, 0.52, -3.1)]
    (kept,) = over_the_table(states, [told_at(5)], [report_at(0)])
    np.testing.assert_allclose(kept.obs[BODY], [0.51, 0.1, 0.025])
    assert kept.obs[BODY_YAW] == pytest.approx(np.pi)


@pytest.mark.parametrize(('success', 'phase', 'tags'), [
    (True, Phase.RUNNING, Tag(0)), (False, Phase.DEMONSTRATED, Tag.DEMONSTRATED), (False, Phase.EXPLORING, Tag.EXPLORED)])
def test_a_transition_has_the_goal_and_the_last_one_of_an_episode_its_end_which_is_never_for_good(success, phase, tags):
    assembler = make_assembler()
    messages = lockstep_messages(6, lambda step: phase if step < 4 else Phase.STOPPING)
    messages = [dataclasses.replace(message, success=success) if isinstance(message, EpisodeReport) and
                message.phase is Phase.STOPPING else message for message in messages]
    transitions = feed(assembler, messages) + assembler.flush()
    assert [t.goal for t in transitions] == [(0.5, 0.0, 0.5)] * 4
    assert {t.tags for t in transitions} == {tags}
    assert not any(t.terminated for t in transitions)
    assert [t.truncated for t in transitions] == [False] * 3 + [True]


def test_without_an_episode_manager_nothing_is_known_of_goals_and_ends():
    assembler = make_assembler()
    messages = [message for message in lockstep_messages(4) if not isinstance(message, EpisodeReport)]
    transitions = feed(assembler, messages) + assembler.flush()
    assert transitions and not any(t.terminated or t.truncated or t.tags for t in transitions)
    assert np.isnan([t.goal for t in transitions]).all()
