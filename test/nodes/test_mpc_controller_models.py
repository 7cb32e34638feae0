"""The controller node over real DDS: models that come while it runs, and the motion that is planned with them."""

import dataclasses

import numpy as np
import pytest
from support.controller_bench import GOAL, HOME, ROBOT, Bench

from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig
from mbrl_ros.models.toys import VelocityArm
from mbrl_ros.ros import convert
from mbrl_ros.types import EpisodeReport, Phase, RobotState


@pytest.fixture(scope='module')
def learned() -> AgentBundle:
    """A model of an arm that takes up any velocity at once, learned from 300 steps of it."""
    rng, arm = np.random.default_rng(0), VelocityArm.of_robot(ROBOT, 0.05)
    obs = np.concatenate([HOME + rng.uniform(-1.0, 1.0, (300, 7)), rng.uniform(-1.5, 1.5, (300, 7))], axis=1)
    action = rng.uniform(-1.0, 1.0, (300, 7))
    next_obs = np.array([arm.step(*step) for step in zip(obs, action)])
    parameters = EnsembleTrainer(TrainerConfig(max_steps=50)).fit(obs, action, next_obs, seed=0).parameters
    contract = Contract('pets', 'panda', 'reach', 'joint', 1, ROBOT.joints, ROBOT.joints, 0.05)
    return AgentBundle(Card(1, contract, 300, 0, {'holdout_rmse': 0.1}, 0, 300), {'model': parameters.tensors()})


def recarded(bundle: AgentBundle, version: int = 1, **changes: object) -> bytes:
    card = dataclasses.replace(bundle.card, version=version, contract=dataclasses.replace(bundle.card.contract, **changes))
    return AgentBundle(card, bundle.groups).to_bytes()


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


def test_a_damaged_model_is_refused_once_and_named(make_bench, capfd):
    bench = make_bench()
    bench.phase = Phase.RUNNING
    bench.model_pub.publish(convert.bytes_to_msg(b'no model at all'))
    assert bench.spin_until(lambda: bench.hold == 'model_mismatch')
    bench.spin_for(0.3)
    assert capfd.readouterr().err.count('model: refused') == 1


def run_lockstep(bench: Bench, ticks: int) -> np.ndarray:
    """Commands of an arm whose time stands until it is told something, shape (ticks, 7)."""
    q, qd, phase = HOME.copy(), np.zeros(7), bench.phase
    assert bench.spin_until(lambda: bench.node.count_subscribers('state') and bench.node.count_publishers('command'))
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
