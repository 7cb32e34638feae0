"""The model trainer node over real DDS: it learns from what it hears, publishes, keeps and comes back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from support.trainer_bench import PERIOD_NS, ROBOT, STATE_NS, TrainerBench

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.errors import ConfigError
from mbrl_ros.experience.bags.metadata import BagTopic
from mbrl_ros.experience.bags.schemas import schema_text
from mbrl_ros.experience.bags.writer import BagWriter
from mbrl_ros.experience.replay import load_transitions
from mbrl_ros.ros import convert
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.types import AppliedCommand, EpisodeReport, Phase, RobotState, Transition


@pytest.fixture
def make_bench() -> Iterator[Callable[..., TrainerBench]]:
    benches = []

    def make(**parameters: object) -> TrainerBench:
        while benches:  # Latched messages of the bench before would reach the next one.
            benches.pop().close()
        benches.append(TrainerBench(**parameters))
        benches[-1].connect()
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def test_lockstep_round_follows_each_episode_with_every_transition(make_bench, tmp_path):
    bench = make_bench(lockstep=True, output_dir=str(tmp_path))
    for episode in range(2):
        bench.episode(45, episode)
        assert len(bench.reports) == episode
        bench.say(Phase.TRAINING, episode)
        assert bench.spin_until(lambda count=episode + 1: len(bench.reports) == len(bench.models) == count), bench.logs
        report = bench.reports[-1]
        assert (report.trained_episode, report.model_version, report.accepted) == (episode, episode + 1, True), report
        assert report.num_transitions == bench.steps and report.holdout_rmse < 0.5 and report.duration_s > 0
    contract = bench.models[-1].card.contract
    assert (contract.agent, contract.robot, contract.state_names) == ('pets', 'panda', ROBOT.joints)
    assert AgentBundle.load(tmp_path / 'model.safetensors').to_bytes() == bench.models[-1].to_bytes()


def test_steps_in_which_the_arm_was_held_are_neither_learned_from_nor_waited_for(make_bench):
    bench = make_bench(lockstep=True)
    bench.episode(45)
    bench.episode(10, is_held=True)
    bench.say(Phase.TRAINING)
    bench.spin_until(lambda: bench.reports)
    assert (bench.reports[0].num_transitions, bench.reports[0].accepted) == (45, True)
    assert bench.models[0].card.real_steps == 45


def test_trainer_says_that_it_is_ready_once_all_streams_reach_it(make_bench):
    bench = make_bench()
    bench.connect()
    bench.spin_for(0.3)
    assert not bench.ready
    bench.send_state()
    assert bench.spin_until(lambda: bench.ready)
    assert (bench.ready[0].trained_episode, bench.ready[0].model_version) == (-1, 0)


def test_episode_too_short_to_learn_from_is_reported(make_bench):
    bench = make_bench(lockstep=True)
    bench.episode(5)
    bench.say(Phase.TRAINING)
    assert bench.spin_until(lambda: bench.reports)
    report = bench.reports[0]
    assert (report.trained_episode, report.accepted, report.model_version) == (0, False, 0)
    assert report.reason == 'no round: 5 transitions, training needs 40'
    assert not bench.models


@pytest.mark.parametrize('learning', [True, False])
def test_trainer_that_has_not_heard_the_time_answers_with_the_stamp_of_what_it_answers(make_bench, tmp_path, learning):
    first = make_bench(lockstep=True, output_dir=str(tmp_path))
    first.episode(45)
    first.say(Phase.TRAINING)
    assert first.spin_until(lambda: first.models)
    # The manager takes no answer that is older than itself, and would wait for another until its patience ends.
    bench = make_bench(lockstep=True, use_sim_time=True, learning=learning, model=str(tmp_path / 'model.safetensors'))
    bench.episode(45)
    bench.say(Phase.TRAINING)
    assert bench.spin_until(lambda: bench.reports)
    assert bench.ready[0].stamp_ns == 0
    assert (bench.reports[0].trained_episode, bench.reports[0].stamp_ns) == (0, bench.stamp_ns)


def test_missing_transitions_do_not_hold_up_the_run(make_bench):
    bench = make_bench(lockstep=True, **{'schedule.patience_s': 0.3})
    bench.episode(45)
    bench.steps += 10
    bench.say(Phase.TRAINING)
    assert bench.spin_until(lambda: bench.reports)
    assert (bench.reports[0].trained_episode, bench.reports[0].num_transitions) == (0, 45)


def test_realtime_rounds_run_during_the_episode(make_bench):
    bench = make_bench(**{'schedule.min_transitions': 40, 'schedule.min_new_transitions': 20})
    bench.episode(50)
    assert bench.spin_until(lambda: len(bench.reports) >= 1)
    assert bench.reports[0].trained_episode == -1
    bench.episode(30)
    assert bench.spin_until(lambda: len(bench.reports) >= 2)
    assert bench.reports[1].num_transitions >= bench.reports[0].num_transitions + 20


def test_realtime_rounds_go_on_when_the_memory_is_full(make_bench):
    bench = make_bench(capacity=1000, **{'schedule.min_new_transitions': 20})
    zeros = np.zeros(14)
    bench.node._buffer.extend(Transition(zeros, np.zeros(7), zeros, stamp, 0) for stamp in range(1000))
    bench.episode(30)
    assert bench.spin_until(lambda: len(bench.reports) >= 1)
    bench.episode(30)
    assert bench.spin_until(lambda: len(bench.reports) >= 2)


def record(folder: Path, steps: int) -> None:
    """Bag of an arm that stands, from the stamp 0 on, in one episode, with foreign topics beside its own."""
    zeros, report = np.zeros(7), EpisodeReport(0, Phase.RUNNING, 0, 0, 0, 0, 0.0, 0.0, 0.0, False, (0.5, 0.0, 0.5), 0, 0)
    kinds = {'/state': JointState, '/applied_command': JointState, '/episode': DiagnosticArray, '/other/state': String}
    types = {name: f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}' for name, kind in kinds.items()}
    with BagWriter(folder, [BagTopic(name, kind, schema_text(kind)) for name, kind in types.items()]) as writer:
        writer.write('/other/state', serialize_message(String(data='fine')), 0, 0)
        writer.write('/episode', serialize_message(convert.report_to_msg(report)), 0, 0)
        for stamp_ns in range(0, steps * PERIOD_NS + 1, STATE_NS):
            state = convert.state_to_msg(RobotState(stamp_ns, ROBOT.joints, ROBOT.home_rad, zeros), ROBOT.base_link)
            writer.write('/state', serialize_message(state), stamp_ns, stamp_ns)
            if stamp_ns % PERIOD_NS == 0:
                applied = convert.applied_to_msg(AppliedCommand(stamp_ns, ROBOT.joints, zeros), '')
                writer.write('/applied_command', serialize_message(applied), stamp_ns, stamp_ns)


def test_restarted_trainer_takes_back_the_run_whatever_else_is_recorded_and_loaded(make_bench, tmp_path):
    record(tmp_path / 'run' / 'bag', 30)
    record(tmp_path / 'earlier', 20)
    (tmp_path / 'earlier' / 'earlier_0.mcap').rename(tmp_path / 'earlier.mcap')
    bench = make_bench(lockstep=True, output_dir=str(tmp_path / 'run'), **{'schedule.patience_s': 0.1})
    bench.node._take_experience(load_transitions(tmp_path / 'earlier.mcap', ROBOT, JointSpace(ROBOT), 0.05, namespace='/'))
    bench.steps = 30
    bench.say(Phase.TRAINING)
    assert bench.spin_until(lambda: bench.reports)
    assert bench.reports[0].num_transitions == 50


def test_restarted_trainer_takes_up_the_last_model_in_the_middle_of_a_run(make_bench, tmp_path):
    first = make_bench(lockstep=True, output_dir=str(tmp_path))
    first.episode(45)
    first.say(Phase.TRAINING)
    assert first.spin_until(lambda: first.models)
    second = make_bench(lockstep=True, output_dir=str(tmp_path))
    assert not second.models
    second.steps = 45
    second.say(Phase.RESETTING)
    assert second.spin_until(lambda: second.models)
    assert second.models[0].to_bytes() == first.models[0].to_bytes()
    assert second.spin_until(lambda: any('started in the middle of a run, at step 45' in line for line in second.logs))


def test_new_run_begins_without_the_model_of_an_earlier_one_unless_asked(make_bench, tmp_path):
    first = make_bench(lockstep=True, output_dir=str(tmp_path))
    first.episode(45)
    first.say(Phase.TRAINING)
    assert first.spin_until(lambda: first.models)
    fresh = make_bench(lockstep=True, output_dir=str(tmp_path))
    fresh.say(Phase.RESETTING)
    fresh.spin_for(0.3)
    assert not fresh.models
    resumed = make_bench(lockstep=True, output_dir=str(tmp_path), resume=True)
    assert resumed.spin_until(lambda: resumed.models)


def test_trainer_that_does_not_learn_keeps_its_model_and_answers_at_once(make_bench, tmp_path):
    first = make_bench(lockstep=True, output_dir=str(tmp_path))
    first.episode(45)
    first.say(Phase.TRAINING)
    assert first.spin_until(lambda: first.models)
    kept = make_bench(lockstep=True, learning=False, model=str(tmp_path / 'model.safetensors'), **{'schedule.patience_s': 60.0})
    kept.episode(45)
    kept.steps += 10  # Those will never come, and are not waited for.
    kept.say(Phase.TRAINING)
    assert kept.spin_until(lambda: kept.reports and kept.models)
    (report,) = kept.reports
    assert (report.trained_episode, report.model_version, report.accepted) == (0, 1, False)
    assert report.reason == 'no round: learning is off'
    assert [model.to_bytes() for model in kept.models] == [first.models[0].to_bytes()]


def test_trainer_that_does_not_learn_needs_a_model():
    with pytest.raises(ConfigError, match='learning needs true where neither model nor resume gives a model'):
        TrainerBench(learning=False)


def test_damaged_model_file_is_one_message_and_a_start_without(make_bench, tmp_path):
    (tmp_path / 'model.safetensors').write_bytes(b'no model at all')
    bench = make_bench(lockstep=True, output_dir=str(tmp_path), resume=True)
    assert bench.spin_until(lambda: any('going on with no model' in line for line in bench.logs))
    assert sum('model.safetensors' in line for line in bench.logs if 'going on' in line) == 1
    bench.episode(45)
    bench.say(Phase.TRAINING)
    assert bench.spin_until(lambda: bench.models)


def test_malformed_messages_are_named_and_survived(make_bench):
    bench = make_bench(lockstep=True)
    bench._state_pub.publish(JointState(name=['panda_joint1'], position=[float('nan')], velocity=[0.0]))
    bench._applied_pub.publish(JointState(name=list(ROBOT.joints), velocity=[0.0]))
    bench._report_pub.publish(DiagnosticArray())
    for text in ('state: state has a position that is not finite', 'applied_command: applied command needs 7 finite velocities',
                 'episode: expected one status'):
        assert bench.spin_until(lambda text=text: any(text in line for line in bench.logs)), text
    bench.episode(45)
    bench.say(Phase.TRAINING)
    assert bench.spin_until(lambda: bench.models)


def test_missing_bag_is_one_message(make_bench, tmp_path):
    bench = make_bench(experience_paths=[str(tmp_path / 'nowhere')])
    assert bench.spin_until(lambda: any('nowhere' in line and 'configuration' not in line for line in bench.logs))


def test_unknown_parameter_is_refused():
    with pytest.raises(ConfigError, match="unknown parameter 'learnr.seed'"):
        TrainerBench(**{'learnr.seed': 1})
