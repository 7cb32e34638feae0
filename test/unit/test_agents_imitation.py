"""PETS imitates the demonstrations of a run, keeps the policy in its bundle, and changes nothing where there are none."""

import contextlib

import numpy as np
from support.recordings import recorded, saved, to_goal

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun

SPARSE = 'goal_environments:goal/Sparse-v0'
SETTINGS = {
    'explorations': 1, 'policy_rollouts': {'num_rollouts': 8, 'horizon': 3},
    'planner': {'horizon': 2, 'population_size': 8, 'num_elites': 2, 'num_iterations': 1, 'device': 'cpu'},
    'learner': {'min_transitions': 12, 'imitation': {'max_steps': 200, 'ensemble_size': 2, 'hidden_size': 16}, 'trainer': {
        'ensemble': {'ensemble_size': 2, 'hidden_layers': 1, 'hidden_size': 8}, 'max_steps': 50},
        'acceptance': {'rmse_floor': 100.0, 'nll_tolerance': 1e6, 'constant_tolerance': 100.0}},
}


def learned(folder, settings, *, steps, resume=False):
    with contextlib.closing(EnvLoop(FlatEnvironment(SPARSE), EnvLoopConfig.from_mapping(settings))) as loop:
        source = saved(folder.parent / 'demos.npz', recorded(SPARSE, to_goal))
        demos = [] if resume else loop.load_demonstrations([str(source)], seed=0)
        run = LearningRun(loop, seed=0, folder=folder, resume=resume, shown=demos)
        episodes = list(run.episodes(steps))
        return run.rounds.current, np.concatenate([one.episode.action for one in episodes])


def test_a_run_with_demonstrations_plans_with_a_policy_and_goes_on_exactly(tmp_path):
    whole, actions = learned(tmp_path / 'whole', SETTINGS, steps=80)
    assert set(whole.groups) == {'model', 'policy'}
    assert int(whole.group('policy')['num_steps']) == len(recorded(SPARSE, to_goal)['actions'])
    part, first = learned(tmp_path / 'part', SETTINGS, steps=50)
    resumed, rest = learned(tmp_path / 'part', SETTINGS, steps=80, resume=True)
    assert part.to_bytes() != resumed.to_bytes() == whole.to_bytes()
    np.testing.assert_array_equal(np.concatenate([first, rest]), actions)
    assert AgentBundle.from_bytes(whole.to_bytes()).group('policy').keys() == whole.group('policy').keys()


def test_a_plan_with_a_policy_keeps_to_the_deadline(tmp_path):
    bundle, _ = learned(tmp_path / 'run', SETTINGS, steps=50)
    with contextlib.closing(EnvLoop(FlatEnvironment(SPARSE), EnvLoopConfig.from_mapping(SETTINGS))) as loop:
        agent, obs = loop.agent.with_bundle(bundle), np.zeros(loop.contract.obs_size)
        lengths = [len(agent.act(obs, None, agent.reset(0), objective=lambda obs, action: obs[..., 0],
                                 previous_action=np.zeros(loop.contract.action_size), deadline_s=limit_s).plan.actions)
                   for limit_s in (0.0, None)]
    assert lengths == [1, SETTINGS['policy_rollouts']['horizon']]


def test_nothing_is_imitated_by_default_nor_without_demonstrations(tmp_path):
    without = {**SETTINGS, 'learner': {**SETTINGS['learner'], 'imitation': {}}}
    bundle, _ = learned(tmp_path / 'off', without, steps=60)
    assert set(bundle.groups) == {'model'}
    ends = []
    for name, settings in (('on', SETTINGS), ('off', without)):
        with contextlib.closing(EnvLoop(FlatEnvironment(SPARSE), EnvLoopConfig.from_mapping(settings))) as loop:
            run = LearningRun(loop, seed=0, folder=tmp_path / f'undemonstrated-{name}')
            list(run.episodes(40))
            ends.append(run.rounds.current.to_bytes())
    assert ends[0] == ends[1]
