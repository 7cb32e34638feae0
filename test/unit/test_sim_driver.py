"""The simulated driver: what is measured when, holding when commands stop, and pacing."""

import numpy as np
import pytest
from support.asserts import some
from support.made_arms import Made, write_profile

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.types import RobotState
from mbrl_sim.faults import FaultConfig, JointSample, PoseSample
from mbrl_sim.pacing import Pacer
from mbrl_sim.scene import WorldConfig
from mbrl_sim.simulated_driver import DriverConfig, SimulatedDriver


@pytest.fixture
def make_driver():
    drivers = []

    def make(seed=0, robot='panda', command_type='velocity', **settings):
        drivers.append(SimulatedDriver(load_robot(robot), DriverConfig(**settings), seed, command_type))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()


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
def test_the_arm_stops_and_holds_when_commands_stop(make_driver, robot, command_type):
    driver = make_driver(robot=robot, command_type=command_type)
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
    assert arm_positions(driver)[0] == pytest.approx(4.0, abs=0.01)


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
