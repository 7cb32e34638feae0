"""The estimator behind the simulated arm: as accurate against ground truth as stated, and never startled by real motion."""

import numpy as np
import pytest
import torch
from support.asserts import some

from mbrl_ros.agents.experts.demonstrator import Demonstrator
from mbrl_ros.estimation.estimator import StateEstimator, Status
from mbrl_ros.estimation.measurements import BodyMeasurement, JointMeasurement
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.tabletop import BODY, BODY_VELOCITY, BODY_YAW
from mbrl_ros.tasks.registry import make_task
from mbrl_sim.engines import make_world
from mbrl_sim.faults import FaultConfig, JointSample, PoseSample
from mbrl_sim.scene import tabletop_config
from mbrl_sim.simulated_driver import DriverConfig, SimulatedDriver

ROBOT = load_robot('panda')
HOME = np.array(ROBOT.home_rad)
NOISE = {'position_noise_std': 5e-4, 'velocity_noise_std': 0.01, 'pose_noise_std_m': 1e-3, 'pose_noise_std_rad': 5e-3}
STEPS_PER_COMMAND = 12
XYZ = ('object_x', 'object_y', 'object_z')


def make_driver(config: DriverConfig, seed: int) -> SimulatedDriver:
    return SimulatedDriver(make_world(ROBOT, config, seed), config, seed)


class Rig:
    """A simulated arm under random velocity steps at 20 Hz, an estimator listening, and the errors of both."""

    def __init__(self, seed: int, **faults: object) -> None:
        self.driver = make_driver(DriverConfig(publish_ground_truth=True, faults=FaultConfig(**faults)), seed)
        self.estimator = StateEstimator(ROBOT, ['object'])
        self._rng = np.random.default_rng(seed)
        self._velocity, self._position = np.zeros(7), HOME
        self.raw: list[np.ndarray] = []
        self.filtered: list[np.ndarray] = []
        self.raw_object: list[np.ndarray] = []
        self.filtered_object: list[np.ndarray] = []
        self.statuses: list[Status] = []

    def run(self, duration_s: float) -> None:
        for step in range(round(duration_s * 240)):
            if step % STEPS_PER_COMMAND == 0:
                change = np.clip(self._rng.normal(0.0, 0.3, 7), -0.5, 0.5) - 0.1 * (self._position - HOME)
                self._velocity = np.clip(self._velocity + change, -1.5, 1.5)
                assert not self.driver.command(list(self._velocity))
            self._live()

    def _live(self) -> None:
        joints, pose, truth = None, None, None
        for sample in self.driver.step(self.driver.next_stamp_ns):
            if isinstance(sample, JointSample):
                joints = JointMeasurement(sample.stamp_ns, sample.names, sample.position, sample.velocity)
                self.estimator.on_joints(joints, sample.stamp_ns)
            elif isinstance(sample, PoseSample):
                pose = BodyMeasurement(sample.stamp_ns, 'object', sample.position, sample.quaternion)
                self.estimator.on_body(pose, sample.stamp_ns)
            else:
                truth = sample
        if truth is None:
            return
        estimate = self.estimator.estimate(truth.stamp_ns)
        self.statuses.append(estimate.status)
        if estimate.state is None:
            return
        self._position = truth.positions(ROBOT.joints)
        exact = truth.obs(ROBOT.joints).reshape(2, 7)
        self.filtered.append(estimate.state.obs(ROBOT.joints).reshape(2, 7) - exact)
        if joints is not None and len(joints.velocity):
            columns = [joints.names.index(name) for name in ROBOT.joints if name in joints.names]
            if len(columns) == 7:
                self.raw.append(np.stack([joints.position[columns], joints.velocity[columns]]) - exact)
        if pose is not None:
            self.raw_object.append(pose.position_m - truth.positions(XYZ))
            self.filtered_object.append(estimate.state.positions(XYZ) - truth.positions(XYZ))


@pytest.fixture
def make_rig():
    rigs = []

    def make(seed: int = 0, **faults: object) -> Rig:
        rigs.append(Rig(seed, **faults))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.driver.close()


def rms(values: list[np.ndarray]) -> np.ndarray:
    """Root mean square of each row, shape (rows,)."""
    return np.sqrt(np.mean(np.square(values), axis=(0, -1)))


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_error_against_ground_truth_is_below_the_raw_one_by_the_stated_factor(make_rig, seed):
    rig = make_rig(seed, **NOISE)
    rig.run(5.0)
    factors = rms(rig.raw) / rms(rig.filtered)
    assert factors[0] > 1.5
    assert factors[1] > 1.2
    assert rms(rig.raw_object) / rms(rig.filtered_object) > 1.5


def test_velocity_steps_are_neither_outliers_nor_jumps(make_rig):
    rig = make_rig()
    rig.run(8.0)
    assert not +rig.estimator.counts
    assert rms(rig.filtered)[0] < 3e-4


def test_lost_shuffled_and_split_messages_without_velocities_are_bridged(make_rig):
    rig = make_rig(**NOISE, drop_probability=0.2, shuffle_joints=True, separate_gripper=True, velocities='missing')
    rig.run(5.0)
    assert set(some(rig.statuses[10:])) <= {Status.TRACKING, Status.COASTING}
    assert not +rig.estimator.counts
    assert rms(rig.filtered)[0] < 2e-3


def test_reset_world_is_followed_within_three_measurements(make_rig):
    rig = make_rig(**NOISE)
    rig.run(3.0)
    rig.driver.reset(5)
    rig.filtered.clear()
    rig.run(0.05)
    assert rig.estimator.counts['jump'] > 0
    assert np.abs(rig.filtered[2:]).max(axis=(0, 2))[0] < 5e-3


def test_a_cube_that_is_grasped_and_raised_is_seen_as_it_is_within_millimetres():
    """What a task sees of the filtered state, against the exact one, at every control step of a demonstration."""
    driver = make_driver(DriverConfig(publish_ground_truth=True, world=tabletop_config()), 0)
    estimator, task, expert = StateEstimator(ROBOT, ['object']), make_task('lift', ROBOT), Demonstrator('lift')
    truth, errors, heights = driver.world.ground_truth(0, 'object'), [], []
    expert.reset(task.sample_goal(np.random.default_rng(0), truth), 0)
    for _ in range(80):
        command = task.space.command(expert.action(task.space.observe(truth)), truth)
        assert not driver.command(list(command.velocity)) and not driver.command_gripper([command.opening_m])
        for _ in range(STEPS_PER_COMMAND):
            for sample in driver.step(driver.next_stamp_ns):
                if isinstance(sample, JointSample):
                    joints = JointMeasurement(sample.stamp_ns, sample.names, sample.position, sample.velocity)
                    estimator.on_joints(joints, sample.stamp_ns)
                elif isinstance(sample, PoseSample):
                    pose = BodyMeasurement(sample.stamp_ns, 'object', sample.position, sample.quaternion)
                    estimator.on_body(pose, sample.stamp_ns)
                else:
                    truth = sample
        seen, exact = (task.space.observe(state) for state in (estimator.estimate(truth.stamp_ns).state, truth))
        change = task.space.frame.change(torch.from_numpy(exact), torch.from_numpy(seen)).numpy()
        errors.append(change)
        heights.append(exact[BODY][2])
    driver.close()
    rmse = np.sqrt(np.square(errors).mean(axis=0))
    assert np.ptp(heights) > 0.1
    assert rmse[:3].max() < 2e-4 and rmse[BODY].max() < 1e-3 and rmse[BODY_YAW] < 5e-3
    assert rmse[BODY_VELOCITY].max() < 0.02
