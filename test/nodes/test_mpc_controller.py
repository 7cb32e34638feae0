"""The controller node over real DDS: what moves the arm, what stops it, and what it says about it."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, UInt8MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.errors import ConfigError
from mbrl_ros.learning import EnsembleTrainer, ModelCard, ModelSnapshot, TrainerConfig
from mbrl_ros.nodes.mpc_controller_node import MpcControllerNode
from mbrl_ros.planning.toys import VelocityArm
from mbrl_ros.robots import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.types import EpisodeReport, Phase, RobotState

ROBOT = load_robot('panda')
HOME = np.array(ROBOT.home_rad)
CHANGE = np.array(ROBOT.max_acceleration_rad_s2) * 0.05
TOPIC = 'forward_velocity_controller/commands'
GOAL = (0.5, 0.1, 0.4)
TIMEOUT_S = 15.0


class Driver:
    """An arm, an estimator and an episode manager in one, and everything that the controller says."""

    def __init__(self, context: rclpy.Context) -> None:
        self.context = context
        self.node = rclpy.create_node('driver', context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.commands: list[np.ndarray] = []
        self.statuses: list[dict[str, str]] = []
        self.diagnostics: dict[str, str] = {}
        self.q, self.qd = HOME.copy(), np.zeros(7)
        self.phase: Phase | None = Phase.EXPLORING
        self.episode, self.sends_states, self.offset = 0, True, np.zeros(7)
        self._moved_s = time.monotonic()
        self.node.create_subscription(Float64MultiArray, TOPIC, self._on_command, qos.RECORD)
        self.node.create_subscription(DiagnosticArray, 'controller_status', self._on_status, qos.RECORD)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.DRIVER)
        self.state_pub = self.node.create_publisher(JointState, 'state', qos.STATE)
        self.report_pub = self.node.create_publisher(DiagnosticArray, 'episode', qos.LATCHED)
        self.goal_pub = self.node.create_publisher(PoseStamped, 'goal', qos.LATCHED)
        self.model_pub = self.node.create_publisher(UInt8MultiArray, 'model', qos.LATCHED)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()

    @property
    def hold(self) -> str | None:
        return self.statuses[-1]['hold'] if self.statuses else None

    @property
    def moves(self) -> bool:
        return bool(self.commands) and self.hold == '' and bool(np.abs(self.commands[-1]).max() > 0.05)

    @property
    def rests(self) -> bool:
        return not self.qd.any()

    def drive(self) -> None:
        """Move for the time that went by, and say what is due."""
        now_s, now_ns = time.monotonic(), self.node.get_clock().now().nanoseconds
        self.q = self.q + self.qd * (now_s - self._moved_s)
        self._moved_s = now_s
        if self.sends_states:
            state = RobotState(now_ns, ROBOT.joints, self.q + self.offset, self.qd)
            self.state_pub.publish(convert.state_to_msg(state, 'panda_link0'))
        if self.phase is not None:
            report = EpisodeReport(now_ns, self.phase, 0, self.episode, 0, 0, 0.0, 0.0, 0.0, False, GOAL, 0, 0)
            self.report_pub.publish(convert.report_to_msg(report))

    def spin_until(self, done: Callable[[], bool]) -> bool:
        """Drive and listen until `done`; whether it came true in time."""
        end_s, next_s = time.monotonic() + TIMEOUT_S, 0.0
        while time.monotonic() < end_s:
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + 0.01
                self.drive()
            self.executor.spin_once(timeout_sec=0.002)
            if done():
                return True
        return False

    def spin_for(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        self.spin_until(lambda: time.monotonic() >= end_s)

    def call(self, kind: type, name: str, request: object) -> object:
        client = self.node.create_client(kind, name)
        assert self.spin_until(client.service_is_ready)
        future = client.call_async(request)
        assert self.spin_until(future.done)
        return future.result()

    def assert_bounded(self) -> None:
        sent = np.array(self.commands)
        assert np.isfinite(sent).all()
        assert (np.abs(np.diff(sent, axis=0)) <= CHANGE + 1e-9).all()

    def _on_command(self, message: Float64MultiArray) -> None:
        self.qd = np.array(message.data)
        self.commands.append(self.qd)

    def _on_status(self, message: DiagnosticArray) -> None:
        self.statuses.append(convert.status_values(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics.update({entry.key: entry.value for entry in status.values})


class Bench(Driver):
    """A driver, and the node under test in the same process."""

    def __init__(self, **parameters: object) -> None:
        context = rclpy.Context()
        context.init()
        super().__init__(context)
        overrides = [Parameter(name.replace('__', '.'), value=value) for name, value in parameters.items()]
        self.controller = MpcControllerNode(context=context, parameter_overrides=overrides)
        self.executor.add_node(self.controller)

    def close(self) -> None:
        self.controller.close()
        self.executor.remove_node(self.controller)
        self.controller.destroy_node()
        super().close()
        self.context.try_shutdown()


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[str], bool]:
    """Whether the screen has shown a text; nodes of equal name in one process share, and lose, their log topic."""
    seen = ['']

    def has_said(text: str) -> bool:
        seen[0] += capfd.readouterr().err
        return text in seen[0]

    return has_said


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    benches = []

    def make(**parameters: object) -> Bench:
        benches.append(Bench(**parameters))
        return benches[-1]

    yield make
    for bench in benches:
        if bench.context.ok():
            bench.close()


@pytest.fixture
def moving(make_bench: Callable[..., Bench]) -> Bench:
    bench = make_bench()
    assert bench.spin_until(lambda: bench.moves)
    return bench


def silent_states(bench: Bench) -> None:
    bench.sends_states = False


def silent_manager(bench: Bench) -> None:
    bench.phase = None


def jump(bench: Bench) -> None:
    bench.offset = np.full(7, 0.5)


def states_with_nan(bench: Bench) -> None:
    bench.offset = np.full(7, np.nan)


def standing(bench: Bench) -> None:
    bench.phase = Phase.TRAINING


def without_a_model(bench: Bench) -> None:
    bench.phase = Phase.RUNNING


def sound(bench: Bench) -> None:
    bench.phase, bench.sends_states = Phase.EXPLORING, True
    bench.offset = np.nan_to_num(bench.offset)


@pytest.mark.parametrize(('spoil', 'hold'), [
    (silent_states, 'stale_state'), (states_with_nan, 'stale_state'), (jump, 'state_jump'), (silent_manager, 'stale_mandate'),
    (standing, 'phase'), (without_a_model, 'no_model')])
def test_what_is_wrong_stops_the_arm_under_its_name_and_ends_by_itself(moving, spoil, hold):
    spoil(moving)
    assert moving.spin_until(lambda: hold in {status['hold'] for status in moving.statuses[-5:]})
    assert hold == 'state_jump' or moving.spin_until(lambda: moving.rests)
    sound(moving)
    assert moving.spin_until(lambda: moving.moves)
    moving.assert_bounded()


def test_without_a_state_nothing_is_sent_and_the_reason_is_named(make_bench):
    bench = make_bench()
    bench.sends_states = False
    assert bench.spin_until(lambda: bench.hold == 'no_state' and 'rate_hz' in bench.diagnostics)
    assert not bench.commands


def test_after_a_stop_zeros_are_said_and_then_nothing(moving):
    moving.phase = Phase.TRAINING
    assert moving.spin_until(lambda: moving.rests)
    moving.spin_for(0.7)
    count = len(moving.commands)
    moving.spin_for(0.3)
    assert len(moving.commands) == count
    assert not np.array(moving.commands[-5:]).any()


def test_the_emergency_stop_is_latched_until_released(moving):
    assert moving.call(Trigger, 'mpc_controller/stop', Trigger.Request()).success
    assert moving.spin_until(lambda: moving.hold == 'emergency_stop' and moving.rests)
    moving.spin_for(0.5)
    assert moving.hold == 'emergency_stop'
    assert moving.call(Trigger, 'mpc_controller/release', Trigger.Request()).success
    assert moving.spin_until(lambda: moving.moves)
    moving.assert_bounded()


def test_a_stop_that_is_still_pressed_is_said_as_an_error(make_bench, tmp_path, capfd):
    (tmp_path / 'emergency_stop').touch()
    make_bench(output_dir=str(tmp_path), autostart=False)
    line, = (line for line in capfd.readouterr().err.splitlines() if 'still pressed' in line)
    assert line.startswith('[ERROR]')


def test_a_second_commander_stops_the_arm_until_it_is_gone(moving):
    other = moving.node.create_publisher(Float64MultiArray, TOPIC, qos.COMMAND)
    assert moving.spin_until(lambda: moving.hold == 'other_commander' and moving.rests)
    moving.node.destroy_publisher(other)
    assert moving.spin_until(lambda: moving.moves)


def test_a_damaged_model_is_refused_once_and_named(make_bench, capfd):
    bench = make_bench()
    bench.phase = Phase.RUNNING
    bench.model_pub.publish(convert.bytes_to_msg(b'no model at all'))
    assert bench.spin_until(lambda: bench.hold == 'model_mismatch')
    bench.spin_for(0.3)
    assert capfd.readouterr().err.count('model: refused') == 1


@pytest.fixture(scope='module')
def learned() -> ModelSnapshot:
    """A model of an arm that takes up any velocity at once, learned from 300 steps of it."""
    rng, arm = np.random.default_rng(0), VelocityArm.of_robot(ROBOT, 0.05)
    obs = np.concatenate([HOME + rng.uniform(-1.0, 1.0, (300, 7)), rng.uniform(-1.5, 1.5, (300, 7))], axis=1)
    action = rng.uniform(-1.0, 1.0, (300, 7))
    next_obs = np.array([arm.step(*step) for step in zip(obs, action)])
    parameters = EnsembleTrainer(TrainerConfig(max_steps=50)).fit(obs, action, next_obs, seed=0).parameters
    card = ModelCard(1, 'panda', 'reach', ROBOT.joints, ROBOT.joints, 0.05, 300, 0, 0.1, 0.0, 0, 300)
    return ModelSnapshot(card, parameters)


def recarded(model: ModelSnapshot, **changes: object) -> bytes:
    return ModelSnapshot(dataclasses.replace(model.card, **changes), model.parameters).to_bytes()


def test_models_are_swapped_while_the_arm_moves_and_bad_ones_change_nothing(make_bench, learned, said):
    bench = make_bench(control__plan_deadline_periods=100.0)
    bench.phase = Phase.RUNNING
    bench.model_pub.publish(convert.bytes_to_msg(learned.to_bytes()))
    assert bench.spin_until(lambda: bench.moves and bench.statuses[-1]['model_version'] == '1')
    before = len(bench.statuses)
    for data, reason in ((learned.to_bytes()[:-5], 'version 1 stays'), (recarded(learned, robot='iiwa'), "has robot 'iiwa'")):
        bench.model_pub.publish(convert.bytes_to_msg(data))
        assert bench.spin_until(lambda text=reason: said(text))
        assert bench.statuses[-1]['model_version'] == '1'
    bench.model_pub.publish(convert.bytes_to_msg(recarded(learned, version=2)))
    assert bench.spin_until(lambda: bench.statuses[-1]['model_version'] == '2')
    assert {status['hold'] for status in bench.statuses[before:]} == {''}
    bench.assert_bounded()


def test_reward_weights_change_while_the_node_runs_and_fixed_settings_do_not(make_bench):
    bench = make_bench()
    values = {'reach.weights.distance': 2.5, 'rate_hz': 10.0}
    request = SetParameters.Request()
    request.parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    results = bench.call(SetParameters, 'mpc_controller/set_parameters', request).results
    assert [result.successful for result in results] == [True, False]
    assert bench.controller.get_parameter('reach.weights.distance').value == 2.5


def run_lockstep(bench: Bench, ticks: int) -> np.ndarray:
    """Commands of an arm whose time stands until it is told something, shape (ticks, 7)."""
    q, qd, phase = HOME.copy(), np.zeros(7), bench.phase
    assert bench.spin_until(lambda: bench.node.count_subscribers('state') and bench.node.count_publishers(TOPIC))
    for tick in range(ticks):
        stamp_ns = tick * 50_000_000
        report = EpisodeReport(stamp_ns, phase, 0, 0, tick, tick, 0.0, 0.0, 0.0, False, GOAL, 0, 1)
        bench.report_pub.publish(convert.report_to_msg(report))
        bench.state_pub.publish(convert.state_to_msg(RobotState(stamp_ns, ROBOT.joints, q, qd), 'panda_link0'))
        assert bench.spin_until(lambda wanted=tick: len(bench.commands) > wanted)
        qd = bench.commands[-1]
        q = q + 0.05 * qd
    return np.array(bench.commands)


def test_lockstep_gives_one_command_a_state_and_the_same_ones_each_time(make_bench, learned):
    runs = []
    for _ in range(2):
        bench = make_bench(lockstep=True)
        bench.drive = lambda: None
        bench.phase = Phase.RUNNING
        bench.model_pub.publish(convert.bytes_to_msg(learned.to_bytes()))
        runs.append(run_lockstep(bench, 12))
        bench.close()
    assert len(runs[0]) == 12
    assert np.abs(runs[0]).max() > 0.3
    np.testing.assert_array_equal(*runs)


def test_positions_are_integrated_for_a_position_driver(make_bench):
    bench = make_bench(driver='forward_position')
    received: list[np.ndarray] = []
    bench.node.create_subscription(Float64MultiArray, 'forward_position_controller/commands',
                                   lambda message: received.append(np.array(message.data)), qos.RECORD)
    assert bench.spin_until(lambda: len(received) > 10)
    steps = np.diff([HOME, *received], axis=0)
    assert (np.abs(steps) <= np.array(ROBOT.max_velocity_rad_s) * 0.05 + 1e-9).all()
    assert np.abs(steps).max() > 0.01


def test_a_goal_out_of_reach_holds(make_bench):
    bench = make_bench(control__require_mandate=False)
    bench.phase = None
    for point, hold in (((3.0, 0.0, 0.5), 'goal_out_of_reach'), (GOAL, 'no_model')):
        bench.goal_pub.publish(convert.goal_to_msg(point, 0, 'panda_link0'))
        assert bench.spin_until(lambda wanted=hold: bench.hold == wanted)


def test_deactivating_leaves_the_arm_stopped_and_activating_moves_it_again(moving):
    for transition, done in ((4, lambda: moving.rests), (3, lambda: moving.moves)):
        request = ChangeState.Request()
        request.transition.id = transition
        assert moving.call(ChangeState, 'mpc_controller/change_state', request).success
        assert moving.spin_until(done)
    moving.assert_bounded()


def test_without_autostart_nothing_moves(make_bench):
    bench = make_bench(autostart=False)
    bench.spin_for(1.0)
    assert not bench.commands and not bench.statuses


def test_a_robot_that_does_not_exist_fails_to_configure_with_a_sentence(make_bench, said):
    bench = make_bench(robot='pandda')
    assert bench.controller.exit_code == 1
    assert said("there is no 'pandda' in config/robots")


def test_an_unknown_parameter_is_an_error(make_bench):
    with pytest.raises(ConfigError, match="unknown parameter 'rate'; did you mean 'rate_hz'"):
        make_bench(rate=20.0)


def test_trajectories_reach_a_trajectory_driver_and_end_standing(make_bench):
    bench = make_bench(driver='joint_trajectory')
    received: list[JointTrajectory] = []
    bench.node.create_subscription(JointTrajectory, 'joint_trajectory_controller/joint_trajectory', received.append, qos.RECORD)
    assert bench.spin_until(lambda: len(received) > 5)
    for message in received:
        assert message.joint_names == list(ROBOT.joints)
        assert len(message.points) >= 3
        assert not np.array(message.points[-1].velocities).any()


def test_sigterm_stops_the_arm_before_the_process_ends():
    context = rclpy.Context()
    context.init()
    driver = Driver(context)
    process = subprocess.Popen([sys.executable, '-m', 'mbrl_ros.cli.node', 'mpc_controller'], env=os.environ)
    try:
        assert driver.spin_until(lambda: driver.moves)
        process.send_signal(signal.SIGTERM)
        assert driver.spin_until(lambda: process.poll() is not None)
        driver.spin_for(0.2)
        assert process.returncode == 0
        assert not np.array(driver.commands[-5:]).any()
        driver.assert_bounded()
    finally:
        process.kill()
        process.wait()
        driver.close()
        context.try_shutdown()
