"""The episode manager node: what must not end it."""

import itertools
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from support.bench import NodeBench, wait_until

from mbrl_ros.nodes.episode_manager_node import EpisodeManagerNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos, topics
from mbrl_ros.runs.scores import HELD, EpisodeScore, load_scores
from mbrl_ros.types import EpisodeReport, RobotState, TrainingReport

ROBOT = load_robot('panda')
TINY = {'driver': 'forward_velocity', 'wait_for': ['nobody'], 'wait_for_s': 0.0, 'episodes.max_episode_steps': 1,
        'episodes.wait_for_training': False}


def exit_code_after_an_episode(output_dir):
    settings = {**TINY, 'output_dir': str(output_dir), 'exit_when_finished': True, 'episodes.episodes': 1}
    bench = NodeBench()
    node = bench.start(EpisodeManagerNode, **settings)
    try:
        node.on_timer()
        for tick in range(1, 100):
            state = RobotState(tick * 50_000_000, ROBOT.joints, np.array(ROBOT.home_rad), np.zeros(7))
            node.on_state(convert.state_to_msg(state, ROBOT.base_link))
        return node.exit_code
    finally:
        bench.close()


def test_episodes_go_on_to_their_verdict_where_nothing_can_be_written(tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert exit_code_after_an_episode(tmp_path / 'file') == 1
    assert 'too few episodes to tell' in capsys.readouterr().out


def test_what_there_is_of_results_is_listed_at_the_end_a_video_too(tmp_path, capsys):
    (tmp_path / 'episodes.gif').touch()
    exit_code_after_an_episode(tmp_path)
    assert [line.split() for line in capsys.readouterr().out.splitlines()[-3:]] == [
        ['learning', 'curve:', str(tmp_path / 'learning_curve.png')], ['scores:', str(tmp_path / 'scores.csv')],
        ['video:', str(tmp_path / 'episodes.gif')]]


def test_a_score_has_the_wall_time_since_the_episode_before_ended_and_the_first_since_episodes_could_begin():
    bench = NodeBench()
    node = bench.start(EpisodeManagerNode, **{**TINY, 'episodes.episodes': 2})
    try:
        begin_s = time.monotonic()
        node.on_timer()
        ends_s = []
        for tick in range(1, 200):
            state = RobotState(tick * 50_000_000, ROBOT.joints, np.array(ROBOT.home_rad), np.zeros(7))
            node.on_state(convert.state_to_msg(state, ROBOT.base_link))
            ends_s += [time.monotonic()] * (len(node._board.scores) - len(ends_s))
        first, second = (score.wall_s for score in node._board.scores)
        assert 0.0 < first < ends_s[0] - begin_s
        assert second > 0.0 and first + second < ends_s[1] - begin_s
    finally:
        bench.close()


@pytest.mark.parametrize(('phase', 'is_said'), [('exploring', False), ('running', True)])
def test_that_the_arm_has_changed_is_said_between_the_lines_of_planned_episodes(phase, is_said, capsys):
    bench = NodeBench()
    node = bench.start(EpisodeManagerNode)
    try:
        node._board.add(EpisodeScore(0, 50, phase, False, 0.1, -1.0, 1, 0.1, 1.0, 1.0, 0))
        report = TrainingReport(1, 0, 1, True, 'the arm has changed; accepted', 50, 0.1, 0.0, 1.0, changed=True)
        node.on_training(convert.report_to_msg(report))
        assert ('the arm has changed; accepted' in capsys.readouterr().out) is is_said
        assert node._board.scores[-1].changed is is_said
    finally:
        bench.close()


def test_a_simulator_that_came_back_is_asked_for_a_reset_though_its_predecessor_never_answered():
    bench, calls = NodeBench('driver'), []

    def on_reset(_, response: Trigger.Response) -> Trigger.Response:
        calls.append(response)
        response.success, response.message = True, '0'
        return response

    bench.peer.create_service(Trigger, 'arm_simulator/reset', on_reset)
    node = EpisodeManagerNode(context=bench.context, parameter_overrides=[
        Parameter('wait_for', value=['nobody']), Parameter('wait_for_s', value=0.0)])
    try:
        node.on_timer()
        for stamp_ns in (5_000_000_000, 250_000_000):
            state = RobotState(stamp_ns, ROBOT.joints, np.array(ROBOT.home_rad), np.zeros(7))
            node.on_state(convert.state_to_msg(state, ROBOT.base_link))
            wait_until(lambda: node._reset is not None, node.on_timer)
        bench.spin_until(lambda: len(calls) == 2)
    finally:
        node.destroy_node()
        bench.close()


@pytest.fixture
def make_manager():
    """Makes managers that begin at once, in a context of their own."""
    context = rclpy.Context()
    context.init()
    nodes = []

    def make(**settings) -> EpisodeManagerNode:
        nodes.append(EpisodeManagerNode(context=context, parameter_overrides=[
            Parameter(name, value=value) for name, value in {**TINY, **settings}.items()]))
        nodes[-1].on_timer()
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


def state_at(tick: int) -> JointState:
    state = RobotState(tick * 50_000_000, ROBOT.joints, np.array(ROBOT.home_rad), np.zeros(7))
    return convert.state_to_msg(state, ROBOT.base_link)


@pytest.mark.parametrize(('use_sim_time', 'is_last_alone'), [(False, True), (True, False)])
def test_a_slow_manager_speaks_of_the_newest_state_and_in_simulated_time_of_each(make_manager, use_sim_time, is_last_alone):
    manager = make_manager(**{'use_sim_time': use_sim_time, 'episodes.max_episode_steps': 1000})
    driver, executor = rclpy.create_node('driver', context=manager.context), SingleThreadedExecutor(context=manager.context)
    publisher, reports = qos.advertise(driver, JointState, topics.STATE, qos.STATE), []
    qos.subscribe(driver, DiagnosticArray, topics.EPISODE, reports.append, qos.LATCHED_RECORD)
    executor.add_node(driver)
    end_s = time.monotonic() + 10.0
    while not (publisher.get_subscription_count() and manager.count_subscribers(topics.EPISODE)):
        assert time.monotonic() < end_s, 'they do not find each other'
        time.sleep(0.01)
    for tick in range(1, 101):
        publisher.publish(state_at(tick))
        time.sleep(0.002)  # A publisher of depth 1 is no faster than the network.
    time.sleep(0.2)
    executor.add_node(manager)
    while not reports or convert.report_from_msg(reports[-1], EpisodeReport).stamp_ns < 100 * 50_000_000:
        assert time.monotonic() < end_s, 'waited in vain'
        executor.spin_once(timeout_sec=0.1)
    assert len(reports) < 5 if is_last_alone else len(reports) > 50
    executor.shutdown()
    driver.destroy_node()


def play_a_planned_episode(manager, *holds, plan_ms=float('nan'), hold_of=None):
    """The score of an episode in which the controller says after each state what it does.

    Args:
        manager: The manager.
        holds: What it says on each tick.
        plan_ms: Its planning time.
        hold_of: In place of `holds`, what it says on the n-th step.
    """
    manager.on_training(convert.report_to_msg(TrainingReport(10**15, -1, 3, True, '', 100, 0.1, -1.0, 0.5)))
    tick, steps = 0, itertools.count()
    while not manager._board.scores:
        tick += 1
        assert tick < 100
        manager.on_state(state_at(tick))
        for hold in holds if hold_of is None else [hold_of(next(steps)) if manager._machine.phase.is_episode else 'phase']:
            manager.on_controller_status(convert.status_to_msg(tick * 50_000_000, 'Tick', {'hold': hold, 'plan_ms': plan_ms}))
    return manager._board.scores[0]


@pytest.mark.parametrize('hold', ['stale_mandate', 'emergency_stop', 'no_model'])
def test_an_episode_in_which_the_arm_was_held_all_the_time_is_no_failure_and_says_why(make_manager, capsys, hold):
    manager = make_manager(**{'episodes.exploration_episodes': 0, 'episodes.max_episode_steps': 50, 'episodes.max_held_steps': 3,
                              'use_sim_time': True})
    score = play_a_planned_episode(manager, 'phase', hold)
    assert (score.phase, score.success, score.total_steps + score.held_steps) == (HELD, None, 4)
    assert score.held_steps == 3
    assert manager._board.last == []
    assert f'not scored: nothing was planned, the arm was held ({hold})' in capsys.readouterr().out


@pytest.mark.parametrize(('holds', 'plan_ms'), [
    (('stale_mandate', ''), 5.0), (('stale_mandate', 'planning_failed'), float('nan')), (('disagreement',), 5.0), ((), 5.0)])
def test_an_episode_in_which_the_policy_planned_or_could_not_is_its_own(make_manager, holds, plan_ms):
    manager = make_manager(**{'episodes.exploration_episodes': 0, 'episodes.max_episode_steps': 3, 'use_sim_time': True})
    score = play_a_planned_episode(manager, *holds, plan_ms=plan_ms)
    assert (score.phase, score.success) == ('running', False)


def test_steps_in_which_the_arm_was_held_are_in_the_scores_and_do_not_use_up_the_episode(make_manager, tmp_path, capsys):
    manager = make_manager(**{'episodes.exploration_episodes': 0, 'episodes.max_episode_steps': 6, 'use_sim_time': True,
                              'output_dir': str(tmp_path)})
    score = play_a_planned_episode(manager, hold_of=lambda step: 'not_following' if 2 <= step < 5 else '', plan_ms=5.0)
    assert (score.phase, score.total_steps, score.held_steps) == ('running', 6, 3)
    assert 'and 3 steps in which the arm was held (not_following)' in capsys.readouterr().out
    assert load_scores(tmp_path / 'scores.csv')[0].held_steps == 3


def play(manager, episodes):
    """Play some episodes; each lasts one step."""
    tick, before = 0, len(manager._board.scores)
    while len(manager._board.scores) < before + episodes:
        tick += 1
        assert tick < 100
        manager.on_state(state_at(tick))


def test_a_manager_that_the_launch_starts_again_after_a_crash_goes_on_counting(make_manager, tmp_path):
    settings = {'output_dir': str(tmp_path), 'episodes.episodes': 4}
    killed = make_manager(**settings)
    play(killed, 2)
    successor = make_manager(**settings)
    play(successor, 2)
    assert [(score.episode, score.total_steps) for score in load_scores(tmp_path / 'scores.csv')] == [
        (0, 1), (1, 2), (2, 3), (3, 4)]
    assert sorted(path.name for path in tmp_path.glob('scores*')) == ['scores.csv']


def test_a_manager_of_another_run_counts_from_zero_and_leaves_the_earlier_scores_there(make_manager, tmp_path):
    settings = {'output_dir': str(tmp_path), 'episodes.episodes': 4}
    ended = make_manager(**settings)
    play(ended, 2)
    ended.close()
    play(make_manager(**settings), 1)
    play(make_manager(**settings, seed=7), 1)
    assert [score.episode for score in load_scores(tmp_path / 'scores.csv')] == [0]
    assert len(list(tmp_path.glob('scores-*.csv'))) >= 1


def test_scores_that_a_crash_has_damaged_are_put_aside_and_said(make_manager, tmp_path):
    play(make_manager(output_dir=str(tmp_path)), 1)
    (tmp_path / 'scores.csv').write_text('episode,total_steps\nnothing,1\n')
    play(make_manager(output_dir=str(tmp_path)), 1)
    assert [score.episode for score in load_scores(tmp_path / 'scores.csv')] == [0]
    assert len(list(tmp_path.glob('scores-*.csv'))) == 1


def proceed(manager):
    answer = manager.on_proceed(Trigger.Request(), Trigger.Response())
    return answer.success, answer.message


def test_a_person_lets_one_episode_begin_beside_an_arm_that_nothing_resets(make_manager):
    manager = make_manager(**{'episodes.wait_for_operator': True})
    assert proceed(manager) == (False, "call this while the episode manager waits for a person; its phase is 'waiting'")
    tick = 0
    for episode in range(2):
        while manager._machine.report is None or manager._machine.report.reason != 'a person has to call ~/proceed':
            tick += 1
            assert tick < 100
            manager.on_state(state_at(tick))
        assert proceed(manager) == (True, 'the next episode begins')
        assert (manager._machine.phase.value, manager._machine.report.episode) == ('exploring', episode)
        assert proceed(manager) == (
            False, "call this while the episode manager waits for a person; its phase is 'exploring'")


def test_an_arm_that_cannot_get_home_is_named_in_log_and_diagnostics_and_tried_again_on_demand():
    bench = NodeBench()
    node = bench.start(EpisodeManagerNode, **TINY, **{'episodes.phase_timeout_s': 0.5})
    try:
        words, reports = bench.hear(DiagnosticArray, topics.DIAGNOSTICS), bench.hear(DiagnosticArray, topics.EPISODE)
        bench.spin_until(lambda: node.count_subscribers(topics.DIAGNOSTICS) and node.count_subscribers(topics.EPISODE))
        node.on_timer()
        away = np.array(ROBOT.home_rad) + np.eye(7)[1] * 0.31
        for tick in range(1, 20):
            node.on_state(convert.state_to_msg(RobotState(tick * 50_000_000, ROBOT.joints, away, np.zeros(7)), ROBOT.base_link))
        reason = 'homing for 1 s: panda_joint2 is 0.31 rad from home (tolerance 0.02)'
        bench.spin_until(lambda: bench.said(f'waiting: {reason}'))
        bench.spin_until(lambda: any(status.message == f'waiting: {reason}' for word in words for status in word.status))
        bench.spin_until(lambda: convert.report_from_msg(reports[-1], EpisodeReport).reason == reason)
        assert proceed(node) == (True, 'the arm goes home first')
        bench.spin_until(lambda: convert.report_from_msg(reports[-1], EpisodeReport).phase.value == 'homing')
    finally:
        bench.close()
