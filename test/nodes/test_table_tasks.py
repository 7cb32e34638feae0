"""The nodes at a task over the table: tool twists and openings, a model in the tool's frame, and one that was there before."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray
from support.bench import NodeBench, made
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.config import flat
from mbrl_ros.errors import BagError, ConfigError, ModelMismatchError
from mbrl_ros.experience.saved import saved_experience_path
from mbrl_ros.nodes.command_guard_node import CommandGuardNode
from mbrl_ros.nodes.episode_manager_node import EpisodeManagerNode
from mbrl_ros.nodes.model_trainer_node import ModelTrainerNode
from mbrl_ros.nodes.mpc_controller_node import MpcControllerNode
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.spaces.tabletop import BODY, TOOL
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState, TrainingReport
from mbrl_sim.tabletop import TabletopWorld, make_task_world

ROBOT = load_robot('panda')
RATE_HZ = TaskLoopConfig.of_task('lift').control_rate_hz
SMALL_PLANS = {'planner.horizon': 3, 'planner.population_size': 16, 'planner.num_elites': 4, 'planner.num_iterations': 1}
#: States come here once a control step.
SMALL_ROUNDS = {'assembler.max_gap_s': 1.0 / RATE_HZ, 'learner.trainer.max_steps': 10,
                'learner.trainer.ensemble.ensemble_size': 2, 'learner.trainer.ensemble.hidden_layers': 1,
                'learner.trainer.ensemble.hidden_size': 8}


def learn(folder: Path, actions: str) -> Path:
    """A model of two short demonstrations, as `mbrl-ros learn` leaves it, with what it was learned from."""
    trainer = {'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 8}, 'max_steps': 10}
    config = TaskLoopConfig.from_mapping({'control_rate_hz': RATE_HZ, 'max_episode_steps': 30, 'demonstrations': 2,
                                         'actions': actions, 'learner': {'trainer': trainer}})
    loop = TaskLoop('lift', config, make_task_world)
    assert [done.episode.steps for done in LearningRun(loop, seed=0, folder=folder).episodes(60)] == [30, 30]
    loop.close()
    return folder / 'model.safetensors'


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory) -> Path:
    return learn(tmp_path_factory.mktemp('learned'), 'twist')


@pytest.fixture(scope='module')
def pretrained_in_joints(tmp_path_factory) -> Path:
    return learn(tmp_path_factory.mktemp('learned'), 'joints')


@pytest.fixture(scope='module')
def world() -> Iterator[TabletopWorld]:
    world = TabletopWorld(ROBOT, control_hz=RATE_HZ)
    yield world
    world.close()


class Bench(NodeBench):
    """A node under test, and a guard, an estimator and an episode manager in one beside it."""

    def __init__(self, kind: Callable[..., Node], **parameters: object) -> None:
        super().__init__()
        self.publishers = {
            topic: self.peer.create_publisher(kind_of, topic, profile) for topic, kind_of, profile in (
                ('state', JointState, qos.RECORD), ('episode', DiagnosticArray, qos.LATCHED),
                ('applied_command', JointState, qos.LATCHED_RECORD), ('model', UInt8MultiArray, qos.LATCHED))
            if (kind, topic) not in ((ModelTrainerNode, 'model'), (MpcControllerNode, 'applied_command'))}
        self.node = self.start(kind, **{'task': 'lift', **parameters})

    def say(self, topic: str, message: object) -> None:
        self.publishers[topic].publish(message)

    def say_state(self, state: RobotState) -> None:
        self.say('state', convert.state_to_msg(state, ROBOT.base_link))

    def say_phase(self, stamp_ns: int, phase: Phase, step: int, model_version: int = 0) -> None:
        report = EpisodeReport(stamp_ns, phase, 0, 0, step, step, 0.0, 0.0, 0.0, False, (0.5, 0.0, 0.15), 0, model_version)
        self.say('episode', convert.report_to_msg(report))

    def connect(self) -> None:
        """Wait until all that is said here is heard."""
        self.spin_until(lambda: all(publisher.get_subscription_count() for publisher in self.publishers.values()))


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    yield from made(Bench)


def test_a_planned_step_goes_out_as_joint_velocities_and_an_opening(make_bench, pretrained, world):
    # A model of a few episodes is at odds with itself.
    bench = make_bench(MpcControllerNode, lockstep=True, **SMALL_PLANS, **{'control.max_disagreement': 100.0})
    commands, plans, paths = (bench.hear(*what) for what in (
        (JointState, 'command'), (JointTrajectory, 'plan'), (MarkerArray, 'predicted_path')))
    velocities = []
    bench.connect()
    bench.spin_until(lambda: bench.peer.count_publishers('predicted_path') and bench.node.count_subscribers('predicted_path'))
    bench.say('model', convert.bytes_to_msg(pretrained.read_bytes()))
    state = world.reset(1)
    for step in range(5):
        bench.say_state(state)
        bench.say_phase(state.stamp_ns, Phase.RUNNING, step, model_version=1)
        bench.spin_until(lambda count=step + 1: len(commands) == count)
        told = convert.applied_from_msg(commands[-1])
        assert told.names == ROBOT.joints and 0.0 <= told.opening_m <= ROBOT.gripper.open_m
        velocities.append(told.velocity)
        obs = world.space.observe(state)
        bench.spin_until(lambda count=step + 1: len(paths) == count)
        assert [marker.ns for marker in paths[-1].markers] == ['predicted_tool', 'predicted_object']
        for marker, place in zip(paths[-1].markers, (obs[TOOL], obs[BODY])):
            np.testing.assert_allclose([marker.points[0].x, marker.points[0].y, marker.points[0].z], place, atol=1e-6)
            assert len(marker.points) == SMALL_PLANS['planner.horizon'] + 1
        state = world.step(told.velocity, told.opening_m)
    assert np.abs(velocities).max() > 0.05
    assert not plans


def test_the_tasks_file_gives_the_defaults_beneath_what_is_given(make_bench):
    bench = make_bench(MpcControllerNode, autostart=False, **{'planner.horizon': 5, 'rate_hz': 0.0})
    in_file = TaskLoopConfig.of_task('lift')
    wanted = {'rate_hz': in_file.control_rate_hz, 'planner.horizon': 5,
              'planner.population_size': in_file.planner.population_size,
              'control.max_disagreement': in_file.control.max_disagreement}
    assert {name: bench.node.get_parameter(name).value for name in wanted} == wanted


@pytest.mark.parametrize('task', ['reach', 'push', 'lift', 'pick_place'])
def test_the_guard_judges_a_task_as_the_loop_without_nodes_does(make_bench, task):
    bench = make_bench(CommandGuardNode, task=task, **{'control_rate_hz': 0.0})
    in_file = TaskLoopConfig.of_task(task)
    wanted = flat({'control_rate_hz': in_file.control_rate_hz, 'guard': in_file.guard.to_mapping()})
    assert {name: bench.node.get_parameter(name).value for name in wanted} == wanted


def play(bench: Bench, world: TabletopWorld, steps: int) -> None:
    """Some steps of a hand that closes on its way, and then the wait for the trainer."""
    rng, state = np.random.default_rng(0), world.reset(2)
    for step in range(steps):
        bench.say_state(state)
        bench.say_phase(state.stamp_ns, Phase.RUNNING, step)
        velocity, opening_m = 0.3 * rng.uniform(-1.0, 1.0, 7), None if step % 3 else 0.08 - 0.08 * step / steps
        applied = AppliedCommand(state.stamp_ns, ROBOT.joints, velocity, opening_m)
        bench.say('applied_command', convert.applied_to_msg(applied, ROBOT.base_link, 'gripper'))
        state = world.step(velocity, opening_m)
        bench.executor.spin_once(timeout_sec=0.001)
    bench.say_state(state)
    bench.say_phase(state.stamp_ns, Phase.TRAINING, steps)


def test_a_pretrained_model_is_there_at_once_and_rounds_train_on_old_and_new(make_bench, pretrained, world):
    bench = make_bench(ModelTrainerNode, lockstep=True, model=str(pretrained), **SMALL_ROUNDS)
    models, training = bench.hear(UInt8MultiArray, 'model', qos.LATCHED), bench.hear(DiagnosticArray, 'training', qos.LATCHED)
    bench.connect()
    bench.spin_until(lambda: models)
    assert bytes(models[0].data) == pretrained.read_bytes()
    play(bench, world, 25)
    bench.spin_until(lambda: len(training) == 2)
    ready, report = (convert.report_from_msg(message, TrainingReport) for message in training)
    version = AgentBundle.load(pretrained).version
    assert (ready.reason, ready.model_version) == ('ready', version)
    assert (report.trained_episode, report.num_transitions) == (0, 60 + 25)
    assert np.isfinite(report.holdout_rmse)


def test_a_pretrained_model_without_its_experience_is_not_trained_on_little(make_bench, pretrained, world, tmp_path):
    alone = tmp_path / 'alone.safetensors'
    alone.write_bytes(pretrained.read_bytes())
    bench = make_bench(ModelTrainerNode, lockstep=True, model=str(alone), **{**SMALL_ROUNDS, 'learner.min_transitions': 20})
    training = bench.hear(DiagnosticArray, 'training', qos.LATCHED)
    bench.connect()
    play(bench, world, 25)
    bench.spin_until(lambda: len(training) == 2)
    report = convert.report_from_msg(training[-1], TrainingReport)
    assert report.reason == 'no round: 25 transitions, training needs 30'
    assert report.model_version == AgentBundle.load(pretrained).version


def test_joint_velocities_are_what_is_planned_where_that_is_asked_for(make_bench, pretrained_in_joints, world):
    # A model of two demonstrations knows little about joints that go their own ways.
    plans = {**SMALL_PLANS, 'planner.population_size': 256, 'planner.num_iterations': 4, 'control.max_disagreement': 1e3}
    bench = make_bench(MpcControllerNode, lockstep=True, actions='joints', **plans)
    commands = bench.hear(JointState, 'command')
    bench.connect()
    bench.say('model', convert.bytes_to_msg(pretrained_in_joints.read_bytes()))
    state, told = world.reset(1), []
    for step in range(5):
        bench.say_state(state)
        bench.say_phase(state.stamp_ns, Phase.RUNNING, step, model_version=1)
        bench.spin_until(lambda count=step + 1: len(commands) == count)
        told.append(convert.applied_from_msg(commands[-1]))
        state = world.step(told[-1].velocity, told[-1].opening_m)
    assert np.abs([command.velocity for command in told]).max() > 0.05


def test_joint_velocities_are_what_is_learned_from_where_that_is_asked_for(make_bench, pretrained_in_joints, world):
    bench = make_bench(ModelTrainerNode, lockstep=True, actions='joints', model=str(pretrained_in_joints), **SMALL_ROUNDS)
    training = bench.hear(DiagnosticArray, 'training', qos.LATCHED)
    bench.connect()
    play(bench, world, 25)
    bench.spin_until(lambda: len(training) == 2)
    report = convert.report_from_msg(training[-1], TrainingReport)
    assert (report.trained_episode, report.num_transitions) == (0, 60 + 25)


def damage_experience(path: Path) -> dict[str, object]:
    saved_experience_path(path).write_bytes(b'no experience at all')
    return {}


@pytest.mark.parametrize(('spoil', 'error', 'text'), [
    (lambda _: {'task': 'reach'}, BagError, 'obs has the shape'),
    (lambda _: {'actions': 'joints'}, BagError, 'obs has the shape'),
    (lambda _: {'task': 'push'}, ModelMismatchError, "has task 'lift', here it is 'push'"),
    (lambda _: {'model': 'lifft'}, ConfigError, "there is no model 'lifft' in config/models; known: "),
    (damage_experience, BagError, 'copy.experience.safetensors: cannot be read'),
], ids=['other sizes', 'other actions', 'other task', 'unknown name', 'damaged'])
def test_what_a_run_cannot_begin_with_is_named_before_it_begins(make_bench, pretrained, tmp_path, spoil, error, text):
    copy = tmp_path / 'copy.safetensors'
    copy.write_bytes(pretrained.read_bytes())
    saved_experience_path(copy).write_bytes(saved_experience_path(pretrained).read_bytes())
    with pytest.raises(error, match=text):
        make_bench(ModelTrainerNode, **{'model': str(copy), **spoil(copy)})


def test_a_lifted_body_is_a_success_and_its_goal_is_above_where_it_lay(world, capsys):
    settings = {'task': 'lift', 'driver': 'forward_velocity', 'wait_for': ['nobody'], 'wait_for_s': 0.0,
                'exit_when_finished': True, 'episodes.episodes': 1, 'episodes.wait_for_training': False,
                'scores.required_successes': 1}
    bench = NodeBench()
    node = bench.start(EpisodeManagerNode, **settings)
    try:
        node.on_timer()
        state = world.reset(3)
        rest = np.where(np.isin(state.names, ROBOT.joints), 0.0, state.velocity)
        height = state.names.index('object_z')
        goals = []
        for tick in range(1, 120):
            position = state.position.copy()
            position[height] += min(0.01 * max(tick - 40, 0), 0.2)
            raised = RobotState(round(tick * 1e9 / RATE_HZ), state.names, position, rest)
            node.on_state(convert.state_to_msg(raised, ROBOT.base_link))
            if node._machine.phase.is_episode:
                goals.append(node._machine.report.goal_m)
        place = state.positions(('object_x', 'object_y', 'object_z'))
        assert len(set(goals)) == 1 and goals[0][:2] == tuple(place[:2]) and goals[0][2] >= place[2] + 0.1
        assert node.exit_code == 0
        assert 'the arm learned to lift: 1 of the last 1 episodes succeeded' in capsys.readouterr().out
    finally:
        bench.close()
