"""PETS gets ready for the networks that will come, not for some others."""

import numpy as np
import pytest

from mbrl_ros.agents.bundle import Contract
from mbrl_ros.agents.pets import PetsActingConfig, PetsAgent
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.space import state_at_home
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import make_task

ROBOT = load_robot('panda')
TASK = make_task('reach', ROBOT)
OBS = TASK.space.observe(state_at_home(ROBOT, TASK.space))
GOAL = np.array([0.5, 0.0, 0.5])


def agent(network, **planner):
    contract = Contract.of('pets', TASK.space, robot='panda', task='reach', period_s=0.05)
    return PetsAgent(contract, TASK.space, PetsActingConfig(planner=PlannerConfig(device='cpu', **planner), network=network))


@pytest.mark.parametrize('task', ['push', 'lift', 'pick_place'])
def test_the_controller_is_told_how_large_the_networks_of_a_task_are(task):
    config = TaskLoopConfig.of_task(task)
    assert config.for_controller()['network'] == config.learner.trainer.ensemble.to_mapping()
    assert config.for_controller()['network']['hidden_size'] == 128


def test_memory_is_checked_for_networks_of_that_size():
    limits = {'population_size': 2000, 'max_memory_mb': 50}
    assert agent(EnsembleConfig(hidden_size=16), **limits).prepare(OBS, TASK.objective(GOAL)).startswith('planning on cpu')
    with pytest.raises(ConfigError, match='max_memory_mb allows 50'):
        agent(EnsembleConfig(hidden_size=2048), **limits).prepare(OBS, TASK.objective(GOAL))


def test_getting_ready_leaves_no_trace_in_what_is_decided():
    actions = []
    for is_prepared in (False, True):
        one = agent(EnsembleConfig())
        if is_prepared:
            one.prepare(OBS, TASK.objective(GOAL))
        assert not one.is_ready and one.version == 0
        acting = one.with_parameters(stand_in(TASK.obs_size, TASK.action_size), version=3)
        decision = acting.act(OBS, GOAL, acting.reset(5), objective=TASK.objective(GOAL), previous_action=np.zeros(7))
        assert (acting.version, decision.plan is not None, decision.is_finite) == (3, True, True)
        actions.append(decision.action)
    np.testing.assert_array_equal(*actions)
