"""The simulator node over DDS: in real time, in lockstep, reset, and what it says of bad commands."""

import time

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from PIL import Image
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from support.bench import NodeBench, made
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_ros.errors import ConfigError
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_sim.arm_simulator_node import ArmSimulatorNode
from mbrl_sim.scene import tabletop_config

COMMAND_HZ = 20.0
PERIOD_NS = round(1e9 / COMMAND_HZ)
ROBOT = load_robot('panda')


class Bench(NodeBench):
    """The simulator of a slow driver, and a client beside it."""

    def __init__(self, **parameters):
        super().__init__('client')
        #: Joint states from the simulator's very first word on.
        self.early = self.hear(JointState, 'joint_states')
        self.simulator = self.start(ArmSimulatorNode, **{'command_rate_hz': COMMAND_HZ, **parameters})

    def publisher(self, kind, topic):
        """Publisher that the simulator has already found."""
        publisher = self.peer.create_publisher(kind, topic, qos.DRIVER)
        self.spin_until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def reset(self):
        """Call the reset service; the stamp in its reply."""
        answer = self.call(Trigger, 'arm_simulator/reset', Trigger.Request())
        assert answer.success
        return int(answer.message)


@pytest.fixture
def bench():
    yield from made(Bench)


def stamp(message):
    return convert.stamp_from_msg(message.header.stamp)


def arm(message):
    """Arm positions of a joint state, by name."""
    return np.array([message.position[message.name.index(joint)] for joint in ROBOT.joints])


def send(publisher, values):
    publisher.publish(Float64MultiArray(data=[float(value) for value in values]))


VELOCITY = 'forward_velocity_controller/commands'


def test_in_lockstep_each_command_is_exactly_one_period(bench):
    bench = bench(lockstep=True)
    states, poses, clocks = (bench.hear(JointState, 'joint_states'), bench.hear(PoseStamped, 'object_pose'),
                             bench.hear(Clock, '/clock'))
    commands = bench.publisher(Float64MultiArray, VELOCITY)
    bench.spin_until(lambda: states and poses)
    start = stamp(states[-1])
    assert start % PERIOD_NS == 0
    for count in range(1, 21):
        send(commands, [0.2] * 7)
        bench.spin_until(lambda: stamp(states[-1]) == start + count * PERIOD_NS and stamp(poses[-1]) == stamp(states[-1]))  # noqa: B023
    bench.spin_for(0.3)
    assert stamp(states[-1]) == start + 20 * PERIOD_NS
    assert convert.stamp_from_msg(clocks[-1].clock) == stamp(states[-1])
    assert len({stamp(state) for state in states}) == 1 + 20 * 6
    assert len({stamp(pose) for pose in poses}) == 1 + 20 * 3
    np.testing.assert_allclose(arm(states[-1]) - ROBOT.home_rad, 0.2, atol=0.02)


def test_in_lockstep_what_the_gripper_is_told_before_the_arm_counts_in_the_same_period(bench):
    bench = bench(lockstep=True)
    states = bench.hear(JointState, 'joint_states')
    arms, grippers = (bench.publisher(Float64MultiArray, topic) for topic in (VELOCITY, 'gripper_controller/commands'))
    bench.spin_until(lambda: states)
    start, finger = stamp(states[-1]), states[-1].name.index(ROBOT.gripper.joints[0])
    openings = [states[-1].position[finger]]
    for opening_m in (0.0, 0.08, 0.0, 0.08):
        send(grippers, [opening_m])
        send(arms, [0.0] * 7)
        bench.spin_until(lambda: stamp(states[-1]) == start + len(openings) * PERIOD_NS)
        openings.append(states[-1].position[finger])
    assert (np.sign(np.diff(openings)) == [-1, 1, -1, 1]).all()


def test_in_lockstep_early_and_late_listeners_begin_with_the_same_measurement(bench):
    bench = bench(lockstep=True)
    bench.spin_until(lambda: len(bench.early) > 3)
    late = bench.hear(JointState, 'joint_states')
    bench.spin_until(lambda: late)
    assert {stamp(state) for state in bench.early} == {stamp(state) for state in late}
    assert len({stamp(state) for state in late}) == 1


def test_in_lockstep_a_late_listener_gets_the_last_measurement_again(bench):
    bench = bench(lockstep=True)
    bench.spin_for(0.3)
    states = bench.hear(JointState, 'joint_states')
    bench.spin_until(lambda: len(states) > 2)
    assert len({stamp(state) for state in states}) == 1
    send(bench.publisher(Float64MultiArray, VELOCITY), [0.0] * 7)
    bench.spin_until(lambda: stamp(states[-1]) == stamp(states[0]) + PERIOD_NS)
    count = len(states)
    bench.spin_until(lambda: len(states) > count)
    assert stamp(states[-1]) == stamp(states[0]) + PERIOD_NS


def test_in_lockstep_the_same_seed_gives_the_same_world_after_any_motion(bench):
    bench = bench(lockstep=True)
    states, poses = bench.hear(JointState, 'joint_states'), bench.hear(PoseStamped, 'object_pose')
    commands = bench.publisher(Float64MultiArray, VELOCITY)
    results = []
    for _ in range(2):
        bench.simulator.set_parameters([Parameter('seed', value=5)])
        fresh = bench.reset()
        bench.spin_until(lambda: states and stamp(states[-1]) == fresh and stamp(poses[-1]) == fresh)  # noqa: B023
        send(commands, [0.5] * 7)
        bench.spin_until(lambda: stamp(states[-1]) == stamp(poses[-1]) == fresh + PERIOD_NS)  # noqa: B023
        place = poses[-1].pose.position
        results.append((list(states[-1].position), place.x, place.y, place.z))
    assert results[0] == results[1]
    unseeded = bench.reset()
    bench.spin_until(lambda: stamp(poses[-1]) == unseeded)
    assert abs(poses[-1].pose.position.x - results[0][1]) > 1e-4


def test_in_real_time_measurements_come_at_their_rates_stamped_by_the_clock(bench):
    bench = bench()
    states, poses = bench.hear(JointState, 'joint_states'), bench.hear(PoseStamped, 'object_pose')
    bench.spin_until(lambda: states and poses)
    now = time.time_ns()
    bench.spin_until(lambda: stamp(states[-1]) > now + 1_000_000_000)
    during = [each for each in states if now < stamp(each) <= now + 1_000_000_000]
    assert len(during) == pytest.approx(120, abs=3)
    assert len([each for each in poses if now < stamp(each) <= now + 1_000_000_000]) == pytest.approx(60, abs=3)
    steps = np.diff([stamp(each) for each in during])
    assert np.median(steps) == pytest.approx(1e9 / 120, abs=2e5)
    assert states[-1].header.frame_id == poses[-1].header.frame_id == ROBOT.base_link


def test_in_real_time_the_arm_moves_then_holds_when_commands_stop(bench):
    bench = bench()
    states = bench.hear(JointState, 'joint_states')
    commands = bench.publisher(Float64MultiArray, VELOCITY)
    for _ in range(10):
        send(commands, [0.4] * 7)
        bench.spin_for(0.05)
    assert (arm(states[-1]) - ROBOT.home_rad).min() > 0.05
    bench.spin_for(0.6)
    held = arm(states[-1])
    bench.spin_for(1.0)
    assert np.abs(arm(states[-1]) - held).max() < 1e-3


def test_in_real_time_a_reset_puts_the_arm_home(bench):
    bench = bench()
    states = bench.hear(JointState, 'joint_states')
    commands = bench.publisher(Float64MultiArray, VELOCITY)
    send(commands, [1.0] * 7)
    bench.spin_for(0.15)
    fresh = bench.reset()
    bench.spin_until(lambda: stamp(states[-1]) > fresh)
    first = next(state for state in states if stamp(state) > fresh)
    np.testing.assert_allclose(arm(first), ROBOT.home_rad, atol=1e-3)


def test_the_position_face_is_obeyed(bench):
    bench = bench(lockstep=True, driver='forward_position')
    states = bench.hear(JointState, 'joint_states')
    commands = bench.publisher(Float64MultiArray, 'forward_position_controller/commands')
    bench.spin_until(lambda: states)
    start, target = stamp(states[-1]), np.array(ROBOT.home_rad) + 0.1
    for count in range(1, 11):
        send(commands, target)
        bench.spin_until(lambda: stamp(states[-1]) == start + count * PERIOD_NS)  # noqa: B023
    np.testing.assert_allclose(arm(states[-1]), target, atol=5e-3)


def test_commands_come_in_the_joint_order_of_the_driver_profile(bench, tmp_path):
    profile = yaml.safe_load((share_directory() / 'config' / 'drivers' / 'forward_position.yaml').read_text())
    path = tmp_path / 'reversed.yaml'
    path.write_text(yaml.safe_dump({**profile, 'command_joints': list(ROBOT.joints[::-1])}))
    bench = bench(lockstep=True, driver=str(path))
    states = bench.hear(JointState, 'joint_states')
    commands = bench.publisher(Float64MultiArray, 'forward_position_controller/commands')
    bench.spin_until(lambda: states)
    start, target = stamp(states[-1]), np.array(ROBOT.home_rad) + np.linspace(-0.1, 0.1, 7)
    for count in range(1, 11):
        send(commands, target[::-1])
        bench.spin_until(lambda: stamp(states[-1]) == start + count * PERIOD_NS)  # noqa: B023
    np.testing.assert_allclose(arm(states[-1]), target, atol=5e-3)


def test_a_driver_profile_with_the_joints_of_another_arm_is_refused(bench, tmp_path):
    path = tmp_path / 'foreign.yaml'
    path.write_text('name: foreign\ncommand_joints: [elbow]\n')
    with pytest.raises(ConfigError, match="driver 'foreign': command_joints needs the joints panda_joint1"):
        bench(driver=str(path))


def test_the_trajectory_face_is_obeyed_in_any_joint_order(bench):
    bench = bench(driver='joint_trajectory')
    states = bench.hear(JointState, 'joint_states')
    commands = bench.publisher(JointTrajectory, 'joint_trajectory_controller/joint_trajectory')
    target = np.array(ROBOT.home_rad) + np.linspace(0.05, 0.15, 7)
    point = JointTrajectoryPoint(positions=target[::-1].tolist(), velocities=[0.0] * 7)
    point.time_from_start.nanosec = 400_000_000
    commands.publish(JointTrajectory(joint_names=list(ROBOT.joints[::-1]), points=[point]))
    bench.spin_until(lambda: states and np.abs(arm(states[-1]) - target).max() < 2e-3)


def test_the_trajectory_controller_tells_how_it_interpolates(bench):
    bench = bench(driver='joint_trajectory', interpolate_from_desired_state=False)
    names = ['interpolate_from_desired_state', 'allow_nonzero_velocity_at_trajectory_end', 'unknown']
    answer = bench.call(GetParameters, 'joint_trajectory_controller/get_parameters', GetParameters.Request(names=names))
    assert [(value.type, value.bool_value) for value in answer.values] == [(1, False), (1, False), (0, False)]


def test_a_driver_with_a_topic_for_the_gripper_sends_its_joints_there(bench):
    bench = bench(lockstep=True, driver='franka')
    arms, grippers = (bench.hear(JointState, topic) for topic in ('franka/joint_states', 'franka_gripper/joint_states'))
    bench.spin_until(lambda: arms and grippers)
    assert tuple(arms[-1].name) == ROBOT.joints
    assert tuple(grippers[-1].name) == ROBOT.gripper.joints


def test_the_gripper_closes(bench):
    bench = bench()
    states = bench.hear(JointState, 'joint_states')
    send(bench.publisher(Float64MultiArray, 'gripper_controller/commands'), [0.0])
    fingers = ROBOT.gripper.joints
    bench.spin_until(lambda: states and sum(states[-1].position[states[-1].name.index(joint)] for joint in fingers) < 0.004)


def test_bad_commands_and_two_commanders_are_told_in_diagnostics(bench):
    bench = bench()
    heard = bench.hear(DiagnosticArray, '/diagnostics')

    def said(text):
        return any(text in status.message for array in heard for status in array.status)

    first = bench.publisher(Float64MultiArray, VELOCITY)
    send(first, [0.1] * 3)
    bench.spin_until(lambda: said('velocity command needs 7 numbers'))
    send(first, [float('nan')] * 7)
    bench.spin_until(lambda: said('not finite'))
    bench.publisher(Float64MultiArray, VELOCITY)
    bench.spin_until(lambda: said(f'2 publishers on /{VELOCITY} (client, client); the arm needs one'))


def test_the_robot_description_reaches_those_who_come_late(bench):
    bench = bench(robot='iiwa')
    descriptions = bench.hear(String, 'robot_description', qos.LATCHED)
    bench.spin_until(lambda: descriptions)
    assert 'lbr_iiwa_joint_1' in descriptions[0].data


def test_faults_and_ground_truth_are_parameters_and_faults_change_live(bench):
    bench = bench(lockstep=True, publish_ground_truth=True, **{'faults.position_noise_std': 0.05})
    states, truths = bench.hear(JointState, 'joint_states'), bench.hear(JointState, 'arm_simulator/ground_truth')
    commands = bench.publisher(Float64MultiArray, VELOCITY)
    bench.spin_until(lambda: states)
    send(commands, [0.0] * 7)
    bench.spin_until(lambda: len(truths) == 6 and stamp(states[-1]) == stamp(truths[-1]))
    exact = np.array(truths[-1].position[:7])
    assert np.abs(arm(states[-1]) - exact).max() > 1e-3
    assert truths[-1].name[7:] == ['gripper', 'object_x', 'object_y', 'object_z', 'object_roll', 'object_pitch', 'object_yaw']
    bench.simulator.set_parameters([Parameter('faults.position_noise_std', value=0.0),
                                    Parameter('faults.separate_gripper', value=True)])
    send(commands, [0.0] * 7)
    bench.spin_until(lambda: len(truths) == 12 and stamp(states[-1]) == stamp(truths[-1]))
    bench.spin_for(0.1)
    newest = [state for state in states if stamp(state) == stamp(truths[-1])]
    assert sorted(len(state.name) for state in newest)[:2] == [2, 7]
    assert np.array_equal(arm(next(state for state in newest if len(state.name) == 7)), truths[-1].position[:7])


def test_in_mujoco_the_defaults_are_an_imperfect_arms_and_what_is_given_comes_before_them(bench):
    pytest.importorskip('mujoco')
    bench = bench(lockstep=True, simulator='mujoco', **{'world.cube': False, 'command_timeout_s': 0.5})
    config = bench.simulator._config
    assert (config.joint_state_hz, config.world.physics_hz, config.command_latency_s) == (480, 960, (0.01, 0.02))
    assert config.faults.shuffle_joints and not config.interpolate_from_desired_state and config.command_timeout_s == 0.5
    states = bench.hear(JointState, 'joint_states')
    commands = bench.publisher(Float64MultiArray, VELOCITY)
    bench.spin_until(lambda: states)
    start, count = stamp(states[-1]), len(states)
    send(commands, [0.3] * 7)
    bench.spin_until(lambda: stamp(states[-1]) == start + PERIOD_NS)
    period = states[count:]
    assert len({stamp(state) for state in period}) == 24 and len({tuple(state.name) for state in period}) > 10
    moved = arm(states[-1]) - arm(states[0])
    assert (moved > 1e-4).all() and (moved < 0.3 * 0.04).all()  # The latency and the lag hold it back.


def test_faults_of_commands_and_arm_change_live_and_no_joint_is_stuck_that_there_is_not(bench):
    bench = bench(lockstep=True)
    states = bench.hear(JointState, 'joint_states')
    commands = bench.publisher(Float64MultiArray, VELOCITY)
    bench.spin_until(lambda: states)

    def moved(**faults):
        """How far one period of commands moves the arm under faults."""
        results = bench.simulator.set_parameters([Parameter(f'faults.{name}', value=value) for name, value in faults.items()])
        assert all(result.successful for result in results)
        begin = stamp(states[-1])
        before = arm(states[-1])
        send(commands, [0.4] * 7)
        bench.spin_until(lambda: stamp(states[-1]) == begin + PERIOD_NS)
        return arm(states[-1]) - before

    assert moved().min() > 0.01
    assert not moved(frozen_positions=True).any()
    assert moved(frozen_positions=False).min() > 0.03  # Two periods of motion are seen at once.
    stuck = moved(stuck_joint='panda_joint3')
    assert abs(stuck[2]) < 1e-3 and np.delete(stuck, 2).min() > 0.01
    assert moved(stuck_joint='', command_drop_probability=1.0).min() > 0.01  # The one before stays in force.
    moved(command_drop_probability=0.0, protective_stop=True)
    assert np.abs(moved()).max() < 2e-3
    assert moved(protective_stop=False).min() > 0.01
    [result] = bench.simulator.set_parameters([Parameter('faults.stuck_joint', value='elbow')])
    assert result.reason == f'faults.stuck_joint needs one of {", ".join(ROBOT.joints)}'
    with pytest.raises(ConfigError, match="no joint 'elbow' to be stuck"):
        Bench(**{'faults.stuck_joint': 'elbow'})


def test_simulated_time_without_lockstep_is_refused(bench):
    with pytest.raises(ConfigError, match='use_sim_time needs lockstep: true'):
        bench(use_sim_time=True)


def test_a_command_period_of_uneven_steps_is_refused(bench):
    with pytest.raises(ConfigError, match='command_rate_hz needs a divisor of the 240 Hz of physics'):
        bench(lockstep=True, command_rate_hz=99.0)


def test_against_the_wall_clock_any_command_rate_will_do(bench):
    bench = bench(command_rate_hz=99.0)
    bench.spin_until(lambda: bench.early)


def test_over_the_table_each_reset_draws_another_cube_and_changes_count_from_the_next(bench):
    bench = bench(lockstep=True, tabletop=True)
    config, world = bench.simulator._config.world, bench.simulator._driver.world
    assert config == tabletop_config()
    cubes = [world.cube]
    bench.reset()
    cubes.append(world.cube)
    result = bench.simulator.set_parameters([Parameter('world.cube_friction_range', value=[0.2, 0.25]),
                                             Parameter('world.cube_region_m', value=[0.4, 0.0, 0.5, 0.1])])
    assert [each.successful for each in result] == [True, False]
    assert world.cube is cubes[1]
    bench.reset()
    cubes.append(world.cube)
    assert len({cube.size_m for cube in cubes}) == len({cube.mass_kg for cube in cubes}) == 3
    assert all(0.5 <= cube.friction <= 1.0 for cube in cubes[:2]) and 0.2 <= cubes[2].friction <= 0.25


def test_the_first_episodes_are_filmed_at_ten_pictures_a_second_and_no_others(bench, tmp_path):
    path = tmp_path / 'new' / 'episodes.gif'
    bench = bench(lockstep=True, command_rate_hz=120.0, video_path=str(path), video_episodes=2)
    states, commands = bench.hear(JointState, 'joint_states'), bench.publisher(Float64MultiArray, VELOCITY)
    saved = []
    for _ in range(3):
        fresh = bench.reset()
        saved.append(path.exists())
        for count in range(1, 14):
            send(commands, [0.3] * 7)
            bench.spin_until(lambda: states and stamp(states[-1]) >= fresh + count * PERIOD_NS // 6)  # noqa: B023
    assert saved == [False, False, True]
    with Image.open(path) as video:
        assert (video.n_frames, video.size, video.info['duration']) == (4, (400, 300), 100)


def test_a_video_that_cannot_be_written_is_named_and_the_arm_goes_on(bench, tmp_path, capfd):
    (tmp_path / 'file').touch()
    bench = bench(lockstep=True, video_path=str(tmp_path / 'file' / 'episodes.gif'), video_episodes=1)
    states, commands = bench.hear(JointState, 'joint_states'), bench.publisher(Float64MultiArray, VELOCITY)
    for _ in range(2):
        fresh = bench.reset()
        send(commands, [0.3] * 7)
        bench.spin_until(lambda: states and stamp(states[-1]) == fresh + PERIOD_NS)  # noqa: B023
    assert 'episodes.gif: cannot be written' in capfd.readouterr().err


def test_a_video_of_an_engine_without_pictures_is_refused(bench, tmp_path):
    with pytest.raises(ConfigError, match='video_path needs the simulator pybullet'):
        bench(simulator='mujoco', video_path=str(tmp_path / 'a.gif'))


def test_a_video_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="episodes.avi: a video needs the suffix .gif or .mp4"):
        Bench(video_path='episodes.avi')
