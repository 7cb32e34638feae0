"""The command guard node over real DDS: what reaches the driver, what stops it, under which name, and what ends that."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger
from support.asserts import some
from support.bench import made
from support.guard_bench import ACCELERATION, HOME, MOVING, PERIOD_S, ROBOT, LockstepBench, RealtimeBench, points, reached

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import load_driver
from mbrl_ros.ros import convert, qos

TOPIC = 'forward_velocity_controller/commands'
CHANGE = ACCELERATION * PERIOD_S
#: Commands of the guard in a control period, and its length.
TICKS, CONTROL_NS = 6, LockstepBench.CONTROL_NS


@pytest.fixture
def realtime() -> Iterator[Callable[..., RealtimeBench]]:
    yield from made(RealtimeBench)


@pytest.fixture
def lockstep() -> Iterator[Callable[..., LockstepBench]]:
    yield from made(LockstepBench)


@pytest.fixture
def moving(realtime) -> RealtimeBench:
    """A bench whose arm does what the controller asks for."""
    return set_moving(realtime())


def set_moving(bench: RealtimeBench) -> RealtimeBench:
    bench.begin()
    bench.wanted = MOVING
    bench.spin_until(lambda: bench.moves, what='motion')
    return bench


def trigger(bench: RealtimeBench, name: str) -> str:
    answer = bench.call(Trigger, f'command_guard/{name}', Trigger.Request())
    assert answer.success
    return answer.message


# What reaches the driver.

def test_a_command_reaches_the_driver_as_a_ramp_and_then_time_stands_until_the_next(lockstep):
    bench = lockstep()
    bench.begin()
    first, second = bench.period(np.full(7, 0.3)), bench.period(np.full(7, -1.0))
    assert len(first) == len(second) == TICKS
    bench.spin_for(0.5)
    assert len(bench.told) == 2 * TICKS
    velocities = np.array([message.data for message in bench.told])
    assert (np.abs(np.diff([np.zeros(7), *velocities], axis=0)) <= CHANGE + 1e-9).all()
    np.testing.assert_array_equal(velocities[TICKS - 1], np.full(7, 0.3))
    assert (np.diff(velocities[TICKS - 1:], axis=0) < 0.0).all()


def test_a_simulator_with_another_command_rate_is_told_what_fits(lockstep):
    bench = lockstep(rate_hz=60.0)
    bench.begin()
    bench.ask(MOVING, bench.now_ns)
    bench.spin_until(lambda: bench.said('time stands 8.3 ms after a command, which is for 16.7 ms; give the simulator '
                                        'command_rate_hz: 60', 'command_guard'), what='a word about the rates')


def demands() -> np.ndarray:
    """Two seconds of commands beyond every limit, in all directions, and two more into the position limits."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(-9.0, 9.0, (40, 7)), np.full((20, 7), 9.0), np.full((20, 7), -9.0)])


@pytest.mark.parametrize('driver', ['simulated', 'forward_position', 'joint_trajectory'])
def test_whatever_is_asked_for_every_command_interface_is_told_motion_within_the_limits(lockstep, driver):
    bench = lockstep(driver)
    bench.begin()
    path = [HOME]
    for velocity in demands():
        bench.period(velocity)
        path.append(bench.q)
    speeds = np.diff([HOME, *followed(bench)], axis=0) / PERIOD_S
    assert (np.abs(speeds) <= np.array(ROBOT.max_velocity_rad_s) + 1e-6).all() and np.abs(speeds).max() > 1.0
    # Positions integrate the mean of two velocities, so that their second difference bounds the acceleration as well.
    assert (np.abs(np.diff(speeds, axis=0)) <= CHANGE + 1e-6).all()
    assert (np.array(path) >= ROBOT.position_lower_rad).all() and (np.array(path) <= ROBOT.position_upper_rad).all()
    assert {status['hold'] for status in some(bench.statuses)} == {''}


def followed(bench: LockstepBench) -> list[np.ndarray]:
    """Positions that the driver was told to be at, command by command."""
    kind = bench.profile.command_type
    if kind == 'velocity':
        return list(HOME + PERIOD_S * np.cumsum([message.data for message in bench.told], axis=0))
    if kind == 'position':
        return [np.array(message.data) for message in bench.told]
    return [reached(message, PERIOD_S) for message in bench.told]


def test_each_trajectory_brakes_within_the_limits_and_ends_standing(lockstep):
    bench = lockstep('joint_trajectory')
    bench.begin()
    for velocity in demands()[:20]:
        bench.period(velocity)
    for message in some(bench.told):
        assert message.joint_names == list(ROBOT.joints)
        times, positions, velocities = points(message)
        steps = np.diff(times)[:, None]
        assert (np.abs(np.diff(velocities, axis=0)) <= ACCELERATION * steps + 1e-6).all()
        # Where the mean of two velocities is the speed between them, the spline's acceleration is constant.
        np.testing.assert_allclose(np.diff(positions, axis=0), 0.5 * (velocities[1:] + velocities[:-1]) * steps, atol=1e-6)
        assert not velocities[-1].any()


def test_what_was_applied_is_said_once_a_control_period(lockstep):
    bench = lockstep()
    bench.begin()
    for opening_m in (0.08, None, 0.0):
        bench.period(MOVING, opening_m)
    bench.spin_until(lambda: len(bench.applied) == 3)
    applied = [convert.applied_from_msg(message) for message in bench.applied]
    assert [each.stamp_ns for each in applied] == [0, CONTROL_NS, 2 * CONTROL_NS]
    assert [each.opening_m for each in applied] == [0.08, None, 0.0]
    for index, each in enumerate(applied):
        np.testing.assert_array_equal(each.velocity, bench.told[TICKS * (index + 1) - 1].data)


def test_the_gripper_is_told_an_opening_once(lockstep):
    bench = lockstep()
    openings = bench.hear(Float64MultiArray, 'gripper_controller/commands')
    bench.begin()
    while not openings:
        bench.period(MOVING, 0.08)
    openings.clear()
    for opening_m in (None, 0.04, None, 0.0):
        bench.period(MOVING, opening_m)
    bench.spin_until(lambda: len(openings) >= 2)
    assert [list(message.data) for message in openings] == [[0.04], [0.0]]


@pytest.mark.parametrize('is_pressed', [False, True])
def test_the_gripper_opens_at_the_start_unless_the_stop_is_pressed(realtime, tmp_path, is_pressed):
    if is_pressed:
        (tmp_path / 'emergency_stop').touch()
    bench = realtime(gripper_opening_m=0.08, output_dir=str(tmp_path))
    openings = bench.hear(Float64MultiArray, 'gripper_controller/commands')
    bench.begin()
    if is_pressed:
        bench.spin_for(2.5)
        assert not openings
        trigger(bench, 'release')
    bench.spin_until(lambda: openings)
    bench.spin_for(1.5)
    assert [list(message.data) for message in openings] == [[0.08]]


def test_the_arm_is_slowed_down_while_it_moves(moving):
    request = SetParameters.Request(parameters=[Parameter('guard.safety.velocity_scale', value=0.02).to_parameter_msg()])
    assert moving.call(SetParameters, 'command_guard/set_parameters', request).results[0].successful
    moving.spin_until(lambda: 0.0 < np.abs(moving.qd).max() <= 0.02 * max(ROBOT.max_velocity_rad_s))


# What stops the arm.

def test_a_silent_controller_brakes_the_arm_and_the_driver_then_hears_nothing(moving):
    moving.wanted = None
    moving.spin_until(lambda: moving.hold == 'no_command' and moving.is_left_alone, what='silence')
    assert not np.array([message.data for message in moving.told[-20:]]).any()
    moving.wanted = MOVING
    moving.spin_until(lambda: moving.moves, what='motion')


class Spoil:
    """Ways to spoil a bench; `sound` mends all of them."""

    def __init__(self) -> None:
        self._strangers: list = []

    def silent_driver(self, bench: RealtimeBench) -> None:
        bench.sends_joints = False

    def positions_that_are_no_numbers(self, bench: RealtimeBench) -> None:
        bench.measured = lambda stamp_ns: [JointState(header=convert.header(stamp_ns), name=ROBOT.joints, position=[np.nan] * 7)]

    def stuck_arm(self, bench: RealtimeBench) -> None:
        bench.is_stuck = True

    def wild_arm(self, bench: RealtimeBench) -> None:
        def measured(stamp_ns: int) -> list[JointState]:
            message = bench.joints(stamp_ns)
            message.velocity[4] = 5.0
            return [message]

        bench.measured = measured

    def stranger(self, bench: RealtimeBench) -> None:
        node = bench.add(rclpy.create_node('stranger', context=bench.context))
        self._strangers.append(node.create_publisher(Float64MultiArray, TOPIC, qos.COMMAND))
        self._strangers.append(node)

    def sound(self, bench: RealtimeBench) -> None:
        bench.sends_joints, bench.is_stuck = True, False
        vars(bench).pop('measured', None)
        if self._strangers:
            publisher, node = self._strangers
            node.destroy_publisher(publisher)


@pytest.mark.parametrize(('spoil', 'hold', 'detail'), [
    ('silent_driver', 'stale_state', r'0\.\d+ s old, at most 0\.1 s is allowed'),
    ('positions_that_are_no_numbers', 'stale_state', r'0\.\d+ s old'),
    ('stuck_arm', 'not_following', r'panda_joint\d moved -?0\.\d+ rad in 0\.\d+ s, told was -?0\.\d+ rad'),
    ('wild_arm', 'too_fast', r'panda_joint5 at 5\.00 rad/s, at most \d\.\d+ rad/s is allowed'),
    ('stranger', 'other_commander', f'stranger on /{TOPIC}'),
])
def test_what_is_wrong_stops_the_arm_under_its_name_and_ends_by_itself(moving, spoil, hold, detail):
    before, way = len(moving.statuses), Spoil()
    getattr(way, spoil)(moving)

    def is_named() -> bool:
        return any(status['hold'] == hold and re.match(detail, status['detail']) for status in moving.statuses[before:])

    moving.spin_until(lambda: is_named() and not moving.qd.any(), what=hold)
    way.sound(moving)
    moving.spin_until(lambda: moving.moves, what='motion')


def test_the_guard_names_why_it_stands_from_its_first_tick_on(realtime):
    bench = realtime()
    bench.begin()
    bench.spin_until(lambda: bench.hold == 'no_command' and bench.is_left_alone, what='silence')
    holds = [status['hold'] for status in bench.statuses]
    assert list(dict.fromkeys(holds))[:3] == ['no_state', 'late_tick', 'no_command']
    assert 'the first tick' in {status['detail'] for status in bench.statuses}


def test_a_latency_that_the_arm_does_not_have_is_named_with_what_fits(realtime, tmp_path):
    profile = dataclasses.replace(load_driver('simulated'), command_latency_s=0.2)
    (tmp_path / 'late.yaml').write_text(yaml.safe_dump(profile.to_mapping()))
    bench = set_moving(realtime(str(tmp_path / 'late.yaml')))
    bench.spin_until(lambda: bench.said('after a command, and plans count on 200 ms; command_latency_s: 0.0', 'command_guard'),
                     what='a word about the latency')


def test_without_a_controller_diagnostics_say_so(realtime):
    bench = realtime()
    heard = bench.hear(DiagnosticArray, '/diagnostics')
    bench.begin()
    bench.spin_until(lambda: 'No command of the controller has arrived for 1.5 control periods.' in {
        status.message for array in heard for status in array.status}, what='diagnostics')
    assert not any(np.array(message.data).any() for message in bench.told)


def test_a_guard_that_finds_the_arm_moving_brakes_it(realtime):
    bench = realtime(qd=np.full(7, 0.4))
    bench.begin()
    bench.spin_until(lambda: bench.is_left_alone, what='silence')
    velocities = np.array([message.data for message in some(bench.told)])
    assert (velocities[0] > 0.1).all() and (velocities[0] < 0.4).all()
    assert (np.diff(velocities, axis=0) <= 0.0).all()


def test_a_guard_that_is_told_to_end_stops_the_arm_first(realtime):
    bench = realtime()
    process = subprocess.Popen([sys.executable, '-m', 'mbrl_ros.cli.node', 'command_guard'], env=os.environ)
    try:
        bench.sends_joints, bench.wanted = True, MOVING
        bench.spin_until(lambda: bench.moves, what='motion')
        process.send_signal(signal.SIGTERM)
        bench.spin_until(lambda: process.poll() is not None, what='the end')
        bench.spin_for(0.2)
        assert process.returncode == 0
        assert not bench.qd.any()
    finally:
        process.kill()
        process.wait()


# The emergency stop.

def test_the_emergency_stop_is_latched_until_released(moving):
    assert trigger(moving, 'stop') == 'the arm is stopped until ~/release'
    moving.spin_until(lambda: moving.hold == 'emergency_stop' and moving.is_left_alone, what='silence')
    assert moving.hold == 'emergency_stop'
    assert trigger(moving, 'release') == 'released'
    moving.spin_until(lambda: moving.moves, what='motion')
    assert trigger(moving, 'release') == 'it was not pressed'


def test_a_stop_on_the_topic_is_heard_by_a_guard_that_comes_later_and_only_a_release_lifts_it(realtime):
    bench = realtime()
    stop = bench.peer.create_publisher(Bool, 'emergency_stop', qos.LATCHED)
    stop.publish(Bool(data=True))
    bench.wanted = MOVING
    bench.begin()
    bench.spin_until(lambda: bench.hold == 'emergency_stop', what='the stop')
    stop.publish(Bool(data=False))
    bench.spin_for(1.0)
    assert bench.hold == 'emergency_stop' and not bench.qd.any()
    trigger(bench, 'release')
    bench.spin_until(lambda: bench.moves, what='motion')


def test_a_pressed_stop_outlives_the_guard(realtime, tmp_path, capfd):
    bench = set_moving(realtime(output_dir=str(tmp_path)))
    trigger(bench, 'stop')
    bench.end()
    bench.begin()
    line, = (line for line in capfd.readouterr().err.splitlines() if 'still pressed' in line)
    assert line.startswith('[ERROR]')
    bench.spin_for(0.5)
    assert bench.hold == 'emergency_stop' and not bench.qd.any()
    trigger(bench, 'release')
    bench.spin_until(lambda: bench.moves, what='motion')
    assert not (tmp_path / 'emergency_stop').exists()


# What the guard hears.

def reordered(message: JointState) -> JointState:
    names, position, velocity = (list(values)[::-1] for values in (message.name, message.position, message.velocity))
    return JointState(header=message.header, name=['finger', *names], position=[0.04, *position], velocity=[0.0, *velocity])


def without_velocities(message: JointState) -> JointState:
    return JointState(header=message.header, name=message.name, position=message.position)


def with_unmeasured_velocities(message: JointState) -> JointState:
    return JointState(header=message.header, name=message.name, position=message.position, velocity=[np.nan] * 7)


@pytest.mark.parametrize('change', [reordered, without_velocities, with_unmeasured_velocities])
def test_the_arm_moves_whatever_form_its_joint_states_have(realtime, change):
    bench = realtime()
    bench.measured = lambda stamp_ns: [change(bench.joints(stamp_ns))]
    set_moving(bench)


def test_the_joint_states_of_a_gripper_on_a_topic_of_its_own_do_no_harm(realtime):
    bench = realtime('franka')
    bench.measured = lambda stamp_ns: [bench.joints(stamp_ns), JointState(
        header=convert.header(stamp_ns), name=list(ROBOT.gripper.joints), position=[0.04, 0.04], velocity=[0.0, 0.0])]
    bench.obey = lambda message: setattr(bench, 'qd', points(message)[2][0])
    set_moving(bench)
    assert len(bench.joints_pubs) == 2


@pytest.mark.parametrize('topic', ['joint_states', 'command'])
def test_huge_messages_are_refused_in_a_few_lines_and_the_guard_goes_on(moving, capfd, topic):
    publisher = moving.peer.create_publisher(JointState, topic, qos.RECORD)
    moving.spin_until(lambda: publisher.get_subscription_count() > 0)
    for _ in range(50):
        publisher.publish(JointState(header=convert.header(0, 'x' * 70_000)))
        moving.spin_for(0.02)
    moving.peer.destroy_publisher(publisher)
    refusals = [line for line in capfd.readouterr().err.splitlines() if 'bytes; at most' in line]
    assert 0 < len(refusals) < 20 and all(f'{topic}: a message of 70' in line for line in refusals)
    moving.spin_until(lambda: moving.moves, what='motion')


def test_a_command_of_other_joints_is_refused_by_name(realtime, said):
    bench = realtime()
    bench.begin()
    publisher = bench.peer.create_publisher(JointState, 'command', qos.COMMAND)

    def ask() -> None:
        bench.drive()
        publisher.publish(JointState(name=['elbow'], velocity=[0.2]))

    bench.spin_until(lambda: said('command: command of elbow; the arm has panda_joint1, panda_joint2'), ask)
    bench.peer.destroy_publisher(publisher)
    bench.spin_until(lambda: bench.hold == 'no_command' and bench.is_left_alone, what='silence')


# Who comes late, in lockstep.

def test_a_simulator_that_did_not_listen_yet_is_told_the_last_command_again_once(lockstep):
    bench = lockstep(listens=False)
    bench.begin()
    bench.ask(MOVING, bench.now_ns)
    bench.spin_for(0.5)
    bench.listen()
    bench.spin_until(lambda: bench.now_ns >= CONTROL_NS, what='the end of the control period')
    assert len(bench.told) == TICKS


def test_a_guard_that_is_restarted_in_mid_period_is_told_the_command_again_and_ends_the_period(lockstep):
    bench = lockstep()
    bench.begin()
    bench.period(MOVING)
    bench.ask(MOVING, bench.now_ns)
    bench.spin_until(lambda: len(bench.told) == TICKS + 2)
    bench.end()
    told = len(bench.told)
    bench.begin()
    bench.spin_until(lambda: bench.now_ns >= 2 * CONTROL_NS, what='the end of the control period')
    assert len(bench.told) == 2 * TICKS
    velocities = np.array([message.data for message in bench.told])
    assert (np.abs(np.diff(velocities[told - 1:], axis=0)) <= CHANGE + 1e-9).all()


def test_after_the_world_was_put_back_nothing_goes_on_before_the_next_command(lockstep):
    bench = lockstep()
    bench.begin()
    for _ in range(4):
        bench.period(np.full(7, 0.5))
    bench.restart_world()
    count = len(bench.told)
    bench.spin_for(3.0)
    assert len(bench.told) == count
    told = bench.period(np.full(7, 0.5))
    assert len(told) == TICKS and (np.array(told[0].data) <= CHANGE + 1e-9).all()


def test_in_lockstep_the_rate_needs_a_whole_number_of_periods(lockstep):
    with pytest.raises(ConfigError, match='rate_hz needs a multiple of control_rate_hz 50 Hz in lockstep, got 120'):
        lockstep(control_rate_hz=50.0).begin()
