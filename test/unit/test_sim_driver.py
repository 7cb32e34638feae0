"""The simulated driver: what is measured when, holding when commands stop, and pacing."""

import numpy as np
import pytest
from support.asserts import some
from support.made_arms import Made, write_profile

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.types import RobotState
from mbrl_sim.command_interfaces import TrajectoryCommand, TrajectoryPoint
from mbrl_sim.engines import make_world
from mbrl_sim.faults import FaultConfig, JointSample, PoseSample
from mbrl_sim.pacing import Pacer
from mbrl_sim.scene import WorldConfig
from mbrl_sim.simulated_driver import DriverConfig, SimulatedDriver


@pytest.fixture
def make_driver():
    drivers = []

    def make(seed=0, robot='panda', command_type='velocity', **settings):
        config = DriverConfig(**settings)
        drivers.append(SimulatedDriver(make_world(load_robot(robot), config, seed), config, seed, command_type))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()


@pytest.fixture(params=['pybullet', 'mujoco'])
def engine(request):
    pytest.importorskip(request.param)
    return request.param


def run(driver, steps):
    """Every measurement of some steps, with the stamp at which it was sent."""
    return [(driver.stamp_ns, sample) for _ in range(steps) for sample in driver.step(driver.next_stamp_ns)]


def arm_positions(driver):
    return driver.world.joint_positions(driver.world.robot.joints)


def test_joint_states_come_at_120_hz_and_poses_at_60_the_last_at_the_tick(make_driver):
    driver = make_driver()
    sent = run(driver, 12)
    joints = [stamp for stamp, sample in sent if isinstance(sample, JointSample)]
    poses = [stamp for stamp, sample in sent if isinstance(sample, PoseSample)]
    assert joints == [8333333, 16666666, 25000000, 33333333, 41666666, 50000000]
    assert poses == [16666666, 33333333, 50000000]
    assert all(stamp == sample.stamp_ns for stamp, sample in some(sent))


def test_ground_truth_is_sent_when_asked_and_knows_no_faults(make_driver):
    driver = make_driver(publish_ground_truth=True, faults=FaultConfig(position_noise_std=0.1, drop_probability=1.0))
    (stamp, truth), = run(driver, 2)
    assert isinstance(truth, RobotState) and truth.stamp_ns == stamp
    assert np.array_equal(truth.positions(driver.world.robot.joints), arm_positions(driver))


def test_latency_delays_sending_and_keeps_stamps(make_driver):
    driver = make_driver(faults=FaultConfig(latency_s=0.05))
    assert run(driver, 12) == []
    assert [stamp - sample.stamp_ns for stamp, sample in run(driver, 12)] == pytest.approx([50_000_000] * 9, abs=5_000_000)


def test_messages_keep_their_order_when_the_latency_changes_and_do_not_outlive_a_reset(make_driver):
    driver = make_driver(faults=FaultConfig(latency_s=0.05))
    run(driver, 6)
    driver.set_faults(FaultConfig())
    assert run(driver, 2) == []
    stamps = [sample.stamp_ns for _, sample in run(driver, 12)]
    assert len(stamps) > 6 and stamps == sorted(stamps)
    driver.set_faults(FaultConfig(latency_s=0.05))
    run(driver, 6)
    driver.reset()
    reset_ns = driver.stamp_ns
    assert all(sample.stamp_ns > reset_ns for _, sample in run(driver, 24))


@pytest.mark.parametrize('robot', ['panda', 'iiwa'])
@pytest.mark.parametrize('command_type', ['velocity', 'position'])
def test_the_arm_stops_and_holds_when_commands_stop(make_driver, engine, robot, command_type):
    driver = make_driver(simulator=engine, robot=robot, command_type=command_type)
    for _ in range(10):
        offset = 0.0 if command_type == 'velocity' else arm_positions(driver)
        assert driver.command(offset + np.full(7, 0.02)) == ''
        run(driver, 12)
    assert not driver.holding
    run(driver, 120)
    assert driver.holding
    place = arm_positions(driver)
    run(driver, 1200)
    assert np.abs(arm_positions(driver) - place).max() < 1e-3


def test_positions_beyond_half_a_turn_are_followed_by_a_joint_without_end(make_driver, tmp_path):
    joints = [Made('continuous', {'effort': 80, 'velocity': 3}, axis='0 0 1'), *[Made()] * 4]
    robot = write_profile(tmp_path, joints, home_rad=[3.0, 0.5, 1.0, 0.1, 0.4], position_lower_rad=[-np.inf, *[-2.2] * 4],
                          position_upper_rad=[np.inf, *[2.2] * 4])
    driver = make_driver(robot=robot, command_type='position', world=WorldConfig(cube=False))
    for angle in np.linspace(3.0, 4.0, 20):
        assert driver.command(np.array([angle, 0.5, 1.0, 0.1, 0.4])) == ''
        run(driver, 24)
    assert arm_positions(driver)[0] == pytest.approx(4.0 - 2.0 * np.pi, abs=0.01)  # An encoder knows no whole turns.


def test_refused_commands_leave_the_arm_where_it_is(make_driver):
    driver = make_driver()
    start = arm_positions(driver)
    for command in ([0.5] * 6, [0.5] * 8, [], [np.nan] * 7):
        assert driver.command(command)
        run(driver, 12)
    assert np.abs(arm_positions(driver) - start).max() < 1e-3


def test_gripper_commands_are_obeyed_or_refused_by_name(make_driver):
    driver = make_driver()
    assert driver.command_gripper([0.0]) == ''
    run(driver, 300)
    assert driver.world.joint_positions(driver.world.fingers).sum() < 0.004
    for command in ([], [0.1, 0.1], [np.nan]):
        assert 'one finite number' in driver.command_gripper(command)
    assert make_driver(robot='iiwa').command_gripper([0.0]) == 'iiwa has no gripper'


def first_motion_s(driver):
    """Time from a command to the first motion."""
    sent_s, start = driver.now_s, arm_positions(driver)
    assert driver.command([0.5] * 7) == ''
    while np.abs(arm_positions(driver) - start).max() < 1e-5:
        driver.step(driver.next_stamp_ns)
    return driver.now_s - driver.world.dt_s - sent_s


def test_commands_take_effect_after_a_latency_drawn_for_each_from_the_seed(make_driver):
    world = WorldConfig(physics_hz=1920, cube=False)
    driver = make_driver(command_latency_s=(0.01, 0.02), world=world, seed=3)
    assert first_motion_s(make_driver(world=world)) == 0.0

    def latencies():
        found = []
        for _ in range(20):
            driver.reset()
            found.append(first_motion_s(driver))
        return found

    driver.reset(3)
    first = latencies()
    assert min(first) >= 0.01 and max(first) <= 0.02 + 1 / 1920 and np.ptp(first) > 0.004
    driver.reset(3)
    assert latencies() == pytest.approx(first, abs=1e-9)


def test_a_latency_that_is_no_range_is_refused():
    with pytest.raises(ConfigError, match='command_latency_s needs a smallest and a largest value'):
        DriverConfig(command_latency_s=(0.02, 0.01))


def test_a_wrong_length_stops_the_arm_when_it_arrives(make_driver):
    driver = make_driver(command_latency_s=(0.05, 0.05), command_timeout_s=0.0)
    driver.command([0.5] * 7)
    run(driver, 48)
    assert 'needs 7 numbers' in driver.command([0.5])
    run(driver, 11)
    assert np.abs(driver.world.joint_velocities(driver.world.robot.joints) - 0.5).max() < 0.01
    run(driver, 48)
    assert driver.holding


def test_a_share_of_the_commands_is_lost_without_a_word(make_driver):
    driver = make_driver(seed=1, faults=FaultConfig(command_drop_probability=0.3))
    arrived = 0
    for _ in range(200):
        start = arm_positions(driver)
        assert driver.command([0.5] * 7) == ''
        run(driver, 2)
        arrived += np.abs(arm_positions(driver) - start).max() > 1e-4
        driver.reset()
    assert arrived == pytest.approx(140, abs=20)


def test_a_protective_stop_brakes_the_arm_which_obeys_again_afterwards(make_driver, engine):
    driver = make_driver(simulator=engine, command_timeout_s=0.0)
    rate = round(1.0 / driver.world.dt_s)
    driver.command([0.5] * 7)
    run(driver, rate // 2)
    driver.command([0.3] * 7)
    driver.set_faults(FaultConfig(protective_stop=True))
    run(driver, rate // 2)
    place = arm_positions(driver)
    assert 'protective stop' in driver.command([0.5] * 7) and 'protective stop' in driver.command_gripper([0.0])
    run(driver, rate)
    assert driver.holding and np.abs(arm_positions(driver) - place).max() < 2e-3
    driver.set_faults(FaultConfig())
    run(driver, rate // 4)
    assert np.abs(arm_positions(driver) - place).max() < 2e-3
    assert driver.command([0.5] * 7) == ''
    run(driver, rate // 2)
    assert (arm_positions(driver) - place).min() > 0.2


def test_a_stuck_joint_stays_while_the_others_move_and_moves_when_freed(make_driver, engine):
    driver = make_driver(simulator=engine, command_timeout_s=0.0, faults=FaultConfig(stuck_joint='panda_joint2'))
    rate, start = round(1.0 / driver.world.dt_s), arm_positions(driver)
    driver.command([0.3] * 7)
    run(driver, rate)
    moved = arm_positions(driver) - start
    assert abs(moved[1]) < 1e-3 and np.delete(moved, 1).min() > 0.2
    driver.reset()
    driver.command([0.3] * 7)
    run(driver, rate)
    assert abs(arm_positions(driver)[1] - start[1]) < 1e-3
    driver.set_faults(FaultConfig())
    run(driver, rate)
    assert arm_positions(driver)[1] - start[1] > 0.2
    with pytest.raises(ConfigError, match="panda has no joint 'elbow' to be stuck; it has panda_joint1"):
        driver.set_faults(FaultConfig(stuck_joint='elbow'))


@pytest.mark.parametrize('from_desired', [True, False])
def test_a_trajectory_spliced_from_stalled_reads_pulls_the_arm_back(make_driver, engine, from_desired):
    driver = make_driver(simulator=engine, command_type='trajectory', interpolate_from_desired_state=from_desired)
    rate, joints, start = round(1.0 / driver.world.dt_s), driver.world.robot.joints, arm_positions(driver)
    run(driver, rate // 10)
    driver.set_faults(FaultConfig(frozen_positions=True))
    driver.command(TrajectoryCommand(joints, [TrajectoryPoint(1.0, start + 0.3)]))
    stamps = [sample.stamp_ns for _, sample in run(driver, rate) if isinstance(sample, JointSample)]
    assert len(set(stamps)) == len(stamps) == driver._config.joint_state_hz
    driver.command(TrajectoryCommand(joints, [TrajectoryPoint(1.0, start + 0.3)]))
    run(driver, rate // 2)
    assert (arm_positions(driver) - start).mean() == pytest.approx(0.3 if from_desired else 0.15, abs=0.02)


def test_a_seeded_reset_repeats_everything_and_time_goes_on(make_driver):
    driver = make_driver(seed=4, faults=FaultConfig(position_noise_std=0.01, shuffle_joints=True))

    def replay():
        driver.command(np.full(7, 0.2))
        return [(sample.position.tolist(), getattr(sample, 'names', ())) for _, sample in run(driver, 48)]

    first = replay()
    stamp = driver.stamp_ns
    driver.reset(4)
    assert driver.stamp_ns == stamp
    assert driver.holding
    assert replay() == first


def test_a_rate_that_does_not_divide_the_physics_is_refused():
    with pytest.raises(ConfigError, match='joint_state_hz needs a divisor of the 240 Hz of physics, got 100'):
        DriverConfig(joint_state_hz=100)


def test_pacing_never_drifts_and_says_how_late_each_step_is():
    pacer = Pacer(240.0, now_s=10.0)
    assert pacer.due(10.0) == []
    assert pacer.wait_s(10.0) == pytest.approx(1 / 240)
    assert pacer.due(10.0 + 2.5 / 240) == pytest.approx([1.5 / 240, 0.5 / 240])
    assert pacer.wait_s(10.0 + 2.5 / 240) == pytest.approx(0.5 / 240)
    done = 2
    now = 10.0
    rng = np.random.default_rng(0)
    while now < 20.0:
        now += rng.uniform(0.0, 0.02)
        done += len(pacer.due(now))
    assert done == int((now - 10.0) * 240) and pacer.num_skipped == 0


def test_pacing_gives_up_a_long_backlog_and_counts_it():
    pacer = Pacer(240.0, now_s=0.0, max_behind_s=0.1)
    assert len(pacer.due(1.0001)) == 24
    assert pacer.num_skipped == 216
    assert pacer.due(1.0001) == []
