"""Agents by name: those of the package, somebody's own, and what is said of others."""

import contextlib
import itertools

import pytest
from support.proportional import KIND

from mbrl_ros.agents import pets
from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.agents.registry import agent_kind
from mbrl_ros.errors import BundleError, ConfigError, ModelMismatchError
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim.tabletop import make_task_world

OWN = 'support.proportional:KIND'


def test_agents_are_found_by_name_and_by_module():
    assert agent_kind('pets') is pets.KIND
    assert agent_kind(OWN) is KIND


@pytest.mark.parametrize(('name', 'text'), [
    ('pest', "there is no agent 'pest'; did you mean 'pets'"), ('', "there is no agent ''; known: pets"),
    ('nowhere:KIND', "agent 'nowhere:KIND': 'nowhere' cannot be imported .No module named 'nowhere'"),
    ('support.proportional:NONE', "'NONE' needs to be an AgentKind, got NoneType"),
    ('math:pi', "'pi' needs to be an AgentKind, got float")])
def test_an_agent_that_is_not_there_is_refused_in_a_sentence(name, text):
    with pytest.raises(ConfigError, match=text):
        agent_kind(name)


def test_settings_are_those_of_the_agent_that_is_named():
    config = TaskLoopConfig.of_task('reach', changes=['damping=0.1'], agent=OWN)
    assert (config.agent, config.damping, config.agent_config.acting().damping) == (OWN, 0.1, 0.1)
    with pytest.raises(ConfigError, match="--set: 'planner' is a setting of the agent 'pets', and this is for 'support"):
        TaskLoopConfig.of_task('reach', changes=['planner.horizon=3'], agent=OWN)
    with pytest.raises(ConfigError, match="unknown key 'damping' in TaskLoopConfig"):
        TaskLoopConfig.of_task('reach', changes=['damping=0.1'])


def test_an_agent_of_ones_own_learns_offline_too_and_its_weights_are_for_it_alone(tmp_path):
    config = TaskLoopConfig.of_task('reach', agent=OWN)
    with contextlib.closing(TaskLoop('reach', config, make_task_world)) as loop:
        run = LearningRun(loop, seed=3, folder=tmp_path / 'run')
        done = list(itertools.islice(run.episodes(10_000), 6))
        versions = [progress.score.model_version for progress in done]
        assert versions == sorted(versions) and len(set(versions)) >= 3  # None, the first, and one that is better.
        assert done[-1].score.success
        agent = loop.agent.with_bundle(run.rounds.current)
        assert agent.version == run.rounds.version
        bundle = AgentBundle(run.rounds.current.card, {'policy': {}})
        with pytest.raises(BundleError, match='policy needs one finite gain'):
            loop.agent.with_bundle(bundle)
    with contextlib.closing(TaskLoop('reach', TaskLoopConfig.of_task('reach'), make_task_world)) as loop, \
            pytest.raises(ModelMismatchError, match=f"has agent '{OWN}', here it is 'pets'"):
        loop.agent.with_bundle(run.rounds.current)
