"""The episode manager node: what must not end it."""

import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from support.bench import NodeBench, wait_until

from mbrl_ros.nodes.episode_manager_node import EpisodeManagerNode
from mbrl_ros.robots import load_robot
from mbrl_ros.ros import convert
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.types import RobotState, TrainingReport

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
