"""Agents that learn a policy: their runs go on exactly, their bundles travel, and they act within bounds."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from support.recordings import recorded, saved, to_goal

from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.registry import agent_kind
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.errors import BundleError, ConfigError, ModelMismatchError, PlanningError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.runs.env_demonstrations import load_env_demonstrations
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.spaces.joint_tool import table_space
from mbrl_ros.spaces.tabletop import BODY, TOOL
from mbrl_ros.spaces.tool_view import ToolView
from mbrl_ros.tasks.registry import make_task

AGENTS = 'mbpo', 'sac', 'pets_value'
SPARSE = 'goal_environments:goal/Sparse-v0'
POLICY = {'updates': 20, 'first_updates': 10, 'imitation_steps': 30, 'batch_size': 16, 'actor_critic': {'hidden_size': 16}}
SETTINGS = {
    'mbpo': {'learner': {'min_transitions': 12, 'policy': POLICY, 'imagination': {'paths': 30}, 'trainer': {
        'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 8}, 'max_steps': 50},
        'acceptance': {'rmse_floor': 100.0, 'nll_tolerance': 1e6, 'constant_tolerance': 100.0}}},
    'sac': {'learner': {'min_transitions': 12, 'policy': POLICY}},
}
SETTINGS['pets_value'] = {**SETTINGS['mbpo'], 'expansion': {'num_candidates': 6}}


@contextlib.contextmanager
def run_of(agent, folder, *, resume=False, shown=True):
    config = EnvLoopConfig.from_mapping({'agent': agent, 'explorations': 1, **SETTINGS[agent]})
    with contextlib.closing(EnvLoop(FlatEnvironment(SPARSE), config)) as loop:
        source = saved(folder.parent / 'demos.npz', recorded(SPARSE, to_goal))
        demos = load_env_demonstrations([str(source)], loop, seed=0) if shown and not resume else []
        yield LearningRun(loop, seed=0, folder=folder, resume=resume, shown=demos)


def learned(agent, folder, steps, **options):
    with run_of(agent, folder, **options) as run:
        episodes = list(run.episodes(steps))
        return run.rounds.current, np.concatenate([one.episode.action for one in episodes])


@pytest.mark.parametrize('agent', AGENTS)
def test_a_run_goes_on_exactly_and_the_same_seed_gives_the_same_bytes(agent, tmp_path):
    whole, actions = learned(agent, tmp_path / 'whole', 110)
    part, first = learned(agent, tmp_path / 'part', 70)
    resumed, rest = learned(agent, tmp_path / 'part', 110, resume=True)
    assert part.to_bytes() != resumed.to_bytes() == whole.to_bytes()
    np.testing.assert_array_equal(np.concatenate([first, rest]), actions)
    assert len(rest) and (np.abs(actions) <= 1.0).all()


@pytest.mark.parametrize('agent', AGENTS)
def test_without_demonstrations_it_learns_from_random_steps(agent, tmp_path):
    bundle, _ = learned(agent, tmp_path / 'run', 60, shown=False)
    assert bundle.version >= 1 and bundle.group('actor')


@pytest.mark.parametrize('agent', AGENTS)
def test_a_bundle_acts_to_the_bit_after_its_bytes_and_only_learning_explores(agent, tmp_path):
    with run_of(agent, tmp_path / 'run') as run:
        list(run.episodes(40))
        bundle, loop = run.rounds.current, run.loop
        obs = loop._observed(loop.env.reset(3))

        def acts(config, bundle, seed):
            made = loop.config.kind.make_agent(loop.contract, loop.space, config).with_bundle(bundle)
            return made, made.act(obs, None, made.reset(seed), objective=loop._objective, previous_action=np.zeros(2))

        config = loop.config.agent_config
        steady, moving = config.evaluated().acting(), config.acting()
        first, decision = acts(steady, bundle, 0)
        np.testing.assert_array_equal(acts(steady, AgentBundle.from_bytes(bundle.to_bytes()), 0)[1].action, decision.action)
        if agent != 'pets_value':  # Its plans are random.
            np.testing.assert_array_equal(acts(steady, bundle, 1)[1].action, decision.action)
        assert (acts(moving, bundle, 0)[1].action != decision.action).any()
        np.testing.assert_array_equal(acts(moving, bundle, 1)[1].action, acts(moving, bundle, 1)[1].action)
        assert (first.predict(obs, np.zeros(2), 0.02) is not None) == (agent != 'sac')
        assert (decision.plan is not None) == (agent == 'pets_value')
        assert decision.is_finite and decision.uncertainty is not None and np.isfinite(decision.value)
        with pytest.raises(PlanningError, match='finite'):
            first.act(np.full_like(obs, np.nan), None, first.reset(0), objective=loop._objective, previous_action=np.zeros(2))


@pytest.mark.parametrize('agent', AGENTS)
def test_a_bundle_without_its_policy_is_refused(agent, tmp_path):
    bundle, _ = learned(agent, tmp_path / 'run', 40)
    groups = {name: tensors for name, tensors in bundle.groups.items() if name != 'acting'}
    with run_of(agent, tmp_path / 'other') as run:
        made = run.loop.agent
        with pytest.raises(BundleError, match='no networks of a policy'):
            made.with_bundle(AgentBundle(bundle.card, groups))


@pytest.mark.parametrize('agent', AGENTS)
def test_a_policy_that_sees_through_another_view_is_refused(agent, tmp_path):
    bundle, _ = learned(agent, tmp_path / 'run', 40)
    assert bundle.card.view == 'plain 1'
    other = AgentBundle(dataclasses.replace(bundle.card, view='plain 2'), bundle.groups)
    with run_of(agent, tmp_path / 'other') as run:
        learner = run.loop.config.kind.make_learner(run.loop.contract, run.loop.space, run.loop.config.learner, run.loop.wanted)
        for take in (run.loop.agent.with_bundle, learner.resume):
            with pytest.raises(ModelMismatchError, match="sees through the view 'plain 2', here it is 'plain 1'"):
                take(other)


@pytest.mark.parametrize('agent', AGENTS)
def test_a_policy_does_not_compute_on_another_device(agent):
    with pytest.raises(ConfigError, match="device needs 'auto' or 'cpu' with this agent"):
        agent_kind(agent).acting.on_device('cuda')
    assert agent_kind(agent).acting.on_device('auto') == agent_kind(agent).acting.on_device('cpu') == {}


def scenes(count=20):
    generator = np.random.default_rng(1)
    obs = 0.3 * generator.standard_normal((count, 18))
    return torch.from_numpy(obs), torch.from_numpy(generator.uniform(-1.0, 1.0, (count, 5))), torch.full((count, 3), 0.2).double()


def test_a_policy_over_the_table_sees_the_same_scene_alike_wherever_it_is():
    space = table_space(load_robot('panda'))
    view, (obs, action, goal) = space.view, scenes()
    assert isinstance(view, ToolView) and view.features(obs, goal).shape == (20, view.num_features)
    moved, angle = obs.clone(), 0.7
    rotation = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    goal_moved = goal.clone()
    for part in (slice(0, 2), slice(5, 7), slice(9, 11), slice(14, 16)):
        moved[:, part] = obs[:, part] @ rotation.T
    for part in (TOOL, BODY):
        moved[:, part.start:part.start + 2] += torch.tensor([0.1, -0.2])
    moved[:, 3] += angle
    moved[:, 8] += angle
    goal_moved[:, :2] = goal[:, :2] @ rotation.T + torch.tensor([0.1, -0.2])
    torch.testing.assert_close(view.features(moved, goal_moved), view.features(obs, goal))
    turned = torch.cat([action[:, :2] @ rotation.T, action[:, 2:]], dim=1)
    torch.testing.assert_close(view.seen(moved, turned), view.seen(obs, action))
    within = 0.7 * action
    torch.testing.assert_close(view.action(obs, view.seen(obs, within)), within)
    assert (view.action(obs, 3.0 * action).abs() <= 1.0).all()


@pytest.mark.parametrize('task', ['reach', 'push', 'lift', 'pick_place'])
def test_the_reward_of_many_goals_is_that_of_each(task):
    made = make_task(task, load_robot('panda'))
    generator = torch.Generator().manual_seed(0)
    obs = 0.3 * torch.randn((6, made.obs_size), generator=generator)
    action, goal = torch.rand((6, made.action_size), generator=generator), torch.rand((6, 3), generator=generator)
    together = made.reward(obs, action, goal)
    each = [float(made.reward(*row)) for row in zip(obs, action, goal)]
    assert together.tolist() == pytest.approx(each, abs=1e-5)
    assert made.has_goal and not made.is_over(obs).any()


@pytest.mark.parametrize('agent', AGENTS)
def test_the_arm_is_acted_for_in_the_contract_of_its_task(agent):
    robot, kind = load_robot('panda'), agent_kind(agent)
    space = table_space(robot)
    contract = Contract.of(agent, space, robot=robot.name, task='lift', period_s=0.1)
    made = kind.make_agent(contract, space, kind.acting())
    objective = make_task('lift', robot).objective(np.zeros(3))
    assert not made.is_ready and made.version == 0 and 'a policy' in made.prepare(np.zeros(18), objective)
