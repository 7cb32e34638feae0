"""Nodes of the running stack killed or frozen: the arm stands when it must, and everything goes on by itself."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseStamped
from support.asserts import some
from support.live_stack import ROBOT, STANDING_RAD_S, Stack
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.experience.bags.reader import read_messages
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import Phase

#: Why the arm may be held though every node of its loop is well: it is told to, or a slow machine was late.
HELD_ANYWAY = {'', 'phase', 'deadline_missed', 'stale_state', 'stale_mandate'}
#: From the kill to standing: the longest wait for a sign of life, and the braking.
STOP_S = 1.5
#: Fastest that an arm may be told to go in the first command after a pause: two of the guard's periods of acceleration, rad/s.
FIRST_RAD_S = 2.0 * max(ROBOT.max_acceleration_rad_s2) / 120.0


@pytest.fixture(scope='module')
def live(tmp_path_factory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp('live'), lockstep=False)
    yield stack
    stack.close()


@pytest.mark.parametrize('node', ['command_guard', 'mpc_controller', 'state_estimator', 'episode_manager'])
def test_a_killed_node_of_the_loop_stops_the_arm_until_it_is_back(live, node):
    listener = live.listener
    killed_s = live.kill_in_motion(node)
    # Its successor is kept from speaking, so that it is certain how long nobody does.
    live.launch.signal(node, signal.SIGSTOP)
    listener.spin_until(lambda: listener.motion[-1].arrival_s > killed_s + STOP_S + 0.5, what='joint states')
    alone = [motion for motion in listener.motion if motion.arrival_s > killed_s]
    live.launch.signal(node, signal.SIGCONT)
    assert alone[0].speed > STANDING_RAD_S
    assert max(motion.speed for motion in alone if motion.arrival_s > killed_s + STOP_S) < STANDING_RAD_S
    listener.spin_until(lambda: listener.moves_in_an_episode, what='motion')


@pytest.mark.parametrize('node', ['command_guard', 'mpc_controller', 'state_estimator'])
def test_a_frozen_node_of_the_loop_stops_the_arm_and_when_it_goes_on_nothing_jumps(live, node):
    frozen_s, thawed_s = live.freeze_in_motion(node)
    standing = [motion.speed for motion in live.listener.motion if frozen_s + STOP_S < motion.arrival_s < thawed_s]
    assert max(standing) < STANDING_RAD_S
    # However late the node was, the arm sets off from where it stands.
    live.listener.spin_until(lambda: live.listener.driven and live.listener.driven[-1][0] > thawed_s, what='a command')
    assert next(speed for arrival_s, speed in live.listener.driven if arrival_s > thawed_s) < FIRST_RAD_S


def test_a_killed_logger_and_trainer_disturb_no_motion_and_lose_nothing_logged(live):
    listener = live.listener
    listener.spin_until(lambda: listener.moves_in_an_episode and listener.statuses[-1][1]['model_version'] != '0', what='a model')
    before = len(listener.statuses)
    live.launch.signal('experience_logger', signal.SIGKILL)
    saved = live.folder / 'saved'
    shutil.copytree(live.folder / 'run' / 'bag', saved)
    live.kill_in_motion('model_trainer')
    live.go_on()
    during = [values for _, values in listener.statuses[before:]]
    assert {values['hold'] for values in during} <= HELD_ANYWAY
    assert all(int(values['model_version']) > 0 for values in some(during))
    listener.spin_until(lambda: listener.said('started in the middle of a run', 'model_trainer'), what='the trainer')
    listener.spin_until(lambda: len(list((live.folder / 'run' / 'bag').glob('*.mcap'))) > 1, what='the next file')
    kept = [(message.topic, message.log_time_ns, message.data) for message in read_messages(saved)]
    final = {(message.topic, message.log_time_ns, message.data) for message in read_messages(live.folder / 'run' / 'bag')}
    assert len(kept) > 1000
    assert set(kept) <= final


def test_a_killed_simulator_comes_back_and_the_stack_goes_on(live):
    live.kill_in_motion('arm_simulator')
    live.go_on()
    assert len(live.launch.pids('mpc_controller')) == 2


@pytest.mark.parametrize(('node', 'topic'), [
    ('mpc_controller', '/command'), ('command_guard', '/forward_velocity_controller/commands')])
def test_with_two_who_command_the_arm_stands_until_one_is_gone(live, node, topic):
    listener = live.listener
    command = [sys.executable, '-m', 'mbrl_ros.cli.node', node, '--ros-args', '-r', '__node:=second']
    listener.spin_until(lambda: listener.moves_in_an_episode, what='motion')
    before = len(listener.said('holding (other_commander)', 'mpc_controller'))
    second = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        listener.spin_until(lambda: len(listener.said('holding (other_commander)', 'mpc_controller')) > before, what='a hold')
        assert f'on {topic})' in listener.said('holding (other_commander)', 'command_guard')[-1]
        listener.spin_until(lambda: listener.motion[-1].speed < STANDING_RAD_S, what='standing')
        listener.spin_for(0.5)
        assert listener.motion[-1].speed < STANDING_RAD_S
    finally:
        second.send_signal(signal.SIGTERM)
        assert second.wait(60.0) == 0
    live.go_on()


@pytest.fixture
def goals(live) -> Iterator:
    publisher = qos.advertise(live.listener.peer, PoseStamped, 'goal', qos.LATCHED)
    live.listener.spin_until(lambda: publisher.get_subscription_count() >= 3, what='listeners of goals')

    def send(point) -> int:
        stamp_ns = live.listener.peer.get_clock().now().nanoseconds
        publisher.publish(convert.goal_to_msg(point, stamp_ns, ROBOT.base_link))
        return stamp_ns

    yield send
    live.listener.peer.destroy_publisher(publisher)


def test_a_goal_changed_in_an_episode_is_pursued_with_the_very_next_plan(live, goals):
    listener, chain = live.listener, KinematicChain.of_robot(ROBOT)
    plans: list[tuple[int, np.ndarray]] = []

    def on_plan(message: JointTrajectory) -> None:
        end = chain.position(torch.tensor(message.points[-1].positions)).numpy()
        plans.append((convert.stamp_from_msg(message.header.stamp), end))

    subscription = listener.peer.create_subscription(JointTrajectory, 'plan', on_plan, qos.RECORD)
    listener.spin_until(lambda: listener.reports and listener.report.phase is Phase.RUNNING
                        and 1 < listener.report.step < 6 and plans, what='a plan')
    old = np.array(listener.report.goal_m)
    new = np.array([0.45, -np.copysign(0.3, old[1]), 0.4])
    sent_ns = goals(new)
    listener.spin_until(lambda: plans[-1][0] > sent_ns + 200_000_000, what='plans')
    listener.peer.destroy_subscription(subscription)
    before = [end for stamp_ns, end in plans if stamp_ns < sent_ns]
    # The tick that was under way still knew the old goal; the next one knows the new.
    after = [end for stamp_ns, end in plans if stamp_ns > sent_ns + 60_000_000]
    assert np.linalg.norm(after[0] - new) < np.linalg.norm(before[-1] - new) - 0.02
    listener.spin_until(lambda: tuple(map(float, new)) in {report.goal_m for _, report in listener.reports}, what='the goal')


def test_a_goal_out_of_reach_is_refused_with_one_message_and_the_next_episode_goes_on(live, goals):
    listener = live.listener
    listener.spin_until(lambda: listener.reports and listener.report.phase is Phase.RUNNING and listener.report.step > 1,
                        what='an episode')
    before = len(listener.said('goal', 'episode_manager'))
    goals((3.0, 0.0, 0.5))
    listener.spin_until(lambda: len(listener.said('goal', 'episode_manager')) > before, what='a refusal')
    assert 'goal (3.000, 0.000, 0.500) m lies outside the workspace' in listener.said('goal', 'episode_manager')[-1]
    live.go_on()
    assert len(listener.said('goal', 'episode_manager')) == before + 1


def test_an_interrupt_stops_the_arm_first_and_everything_in_time(live):
    live.end_cleanly()
