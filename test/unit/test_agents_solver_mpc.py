"""The agent solver_mpc: its decisions, what it falls back on, its bundle, its learner, and what it says without CasADi."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.ramp_arm import PERIOD_S, ramp_bundle, ramp_parameters

from mbrl_ros.agents.agent import Lesson
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.registry import agent_kind
from mbrl_ros.agents.solver_mpc import (
    KIND,
    SolverMpcActingConfig,
    SolverMpcAgent,
    SolverMpcLearner,
    SolverMpcLearnerConfig,
)
from mbrl_ros.errors import BundleError, ConfigError, PlanningError, ShapeError, TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.mean import MeanModel
from mbrl_ros.models.ensemble.trainer import TrainerConfig
from mbrl_ros.planning.solver.cost import CostWeights
from mbrl_ros.planning.solver.horizon import SolverConfig
from mbrl_ros.planning.solver.search import SearchConfig
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import make_task

ROBOT = load_robot('panda')
TASK = make_task('reach', ROBOT)
CONTRACT = Contract.of('solver_mpc', TASK.space, robot='panda', task='reach', period_s=PERIOD_S)
HOME, STILL = np.concatenate([ROBOT.home_rad, np.zeros(7)]), np.zeros(7)
GOAL = np.array([0.5, 0.25, 0.3])


@pytest.fixture(autouse=True, scope='module')
def casadi():
    return pytest.importorskip('casadi', reason='the extra solver is not installed')


def agent(weights=None, **solver) -> SolverMpcAgent:
    made = SolverMpcAgent(CONTRACT, TASK.space, SolverMpcActingConfig(solver=SolverConfig(**solver)))
    return made.with_bundle(ramp_bundle(CONTRACT, ROBOT.max_velocity_rad_s, weights))


def episode(agent, steps=25, goal=GOAL, obs=HOME, **also):
    """Decisions on the way in the agent's own model."""
    memory, previous, decisions = agent.reset(0), STILL, []
    for _ in range(steps):
        decisions.append(agent.act(obs, goal, memory, objective=TASK.objective(goal), previous_action=previous, **also))
        previous, obs = decisions[-1].action, decisions[-1].plan.mean_obs[1]
    return decisions


def test_it_reaches_the_goal_and_stays_there():
    last = episode(agent())[-1]
    assert TASK.distance(torch.from_numpy(last.plan.mean_obs[-1]), GOAL) < 1e-3
    assert (last.note, last.plan.iterations, last.is_finite) == ('', SolverConfig.max_iterations, True)


def test_its_plan_is_what_its_model_predicts_and_earns_what_it_says():
    model = MeanModel(ramp_parameters(ROBOT.max_velocity_rad_s))
    for decision in episode(agent(), 6):
        plan, obs = decision.plan, decision.plan.mean_obs
        np.testing.assert_allclose(obs[1:], model.predict(obs[:-1], plan.actions), atol=1e-9)
        earned = TASK.reward(torch.from_numpy(obs[1:]), torch.from_numpy(plan.actions), GOAL).sum()
        assert decision.value == pytest.approx(float(earned), abs=1e-4)
        np.testing.assert_array_equal(decision.action, plan.actions[0])


def test_it_is_ready_with_its_first_bundle_and_prepares_without_one():
    made = SolverMpcAgent(CONTRACT, TASK.space, SolverMpcActingConfig())
    assert not made.is_ready and 'CasADi' in made.prepare(HOME, TASK.objective(GOAL))
    assert not made.is_ready and made.version == 0


def test_getting_ready_leaves_no_trace_in_what_is_decided():
    prepared = agent()
    prepared.prepare(HOME, TASK.objective(GOAL))
    for one, other in zip(episode(prepared, 5), episode(agent(), 5)):
        np.testing.assert_array_equal(one.plan.actions, other.plan.actions)


def test_it_acts_to_the_bit_in_another_process(tmp_path):
    path = tmp_path / 'model.safetensors'
    ramp_bundle(CONTRACT, ROBOT.max_velocity_rad_s).save(path)
    folders = [str(folder) for folder in Path(__file__).parents[:2]]
    code = (f'import sys; sys.path[:0] = {folders!r}\n'
            'import numpy as np, test_agents_solver_mpc as here\n'
            'made = here.SolverMpcAgent(here.CONTRACT, here.TASK.space, here.SolverMpcActingConfig())\n'
            f'made = made.with_bundle(here.AgentBundle.load({str(path)!r}))\n'
            'print(np.concatenate([one.plan.actions.ravel() for one in here.episode(made, 8)]).tobytes().hex())')
    there = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=250)
    assert there.returncode == 0, there.stderr
    here = np.concatenate([one.plan.actions.ravel() for one in episode(agent(), 8)]).tobytes().hex()
    assert there.stdout.strip().splitlines()[-1] == here


def test_without_time_it_follows_its_last_plan_and_says_so():
    acting, memory = agent(), agent().reset(0)
    arguments = {'objective': TASK.objective(GOAL), 'previous_action': STILL}
    first = acting.act(HOME, GOAL, memory, **arguments)
    late = acting.act(first.plan.mean_obs[1], GOAL, memory, objective=arguments['objective'], previous_action=first.action,
                      deadline_s=0.0)
    assert late.note == 'no time for a solve: following the last plan' and late.plan.iterations == 0
    np.testing.assert_array_equal(late.plan.actions[:-1], first.plan.actions[1:])


def test_after_a_slow_solve_it_tries_again():
    acting, memory = agent(), agent().reset(0)
    memory.solve_s = 90.0
    noted = [acting.act(HOME, GOAL, memory, objective=TASK.objective(GOAL), previous_action=STILL, deadline_s=60.0).note
             for _ in range(3)]
    assert noted == ['no time for a solve: following the last plan', '', '']


def test_with_time_a_deadline_changes_nothing():
    for one, other in zip(episode(agent(), 5), episode(agent(), 5, deadline_s=60.0)):
        np.testing.assert_array_equal(one.action, other.action)


def test_within_a_box_it_brakes_and_says_so():
    decision = episode(agent(boxes_m=(0.2, -0.1, 0.4, 0.6, 0.1, 0.6)), 1)[0]
    assert 'braking, beyond distance from a box' in decision.note and not decision.action.any()


def test_the_weights_of_its_bundle_decide():
    calm, hasty = (episode(agent(CostWeights(speed=speed)), 1)[0].action for speed in (1.0, 1e-4))
    assert np.abs(calm).max() < np.abs(hasty).max()


def test_it_predicts_the_moment_of_effect():
    held = np.full(7, 0.2)
    predicted = agent().predict(HOME, held, 2.5 * PERIOD_S)
    velocity = 0.2 * np.array(ROBOT.max_velocity_rad_s)
    np.testing.assert_allclose(predicted[:7], HOME[:7] + 2.0 * PERIOD_S * velocity, atol=1e-6)
    np.testing.assert_allclose(predicted[7:], velocity, atol=1e-6)
    np.testing.assert_array_equal(agent().predict(HOME, held, 0.0), HOME)


@pytest.mark.parametrize('obs, error, text', [
    (HOME[:3], ShapeError, r'need shapes \(\(14,\), \(7,\)\), got \(\(3,\), \(7,\)\)'),
    (np.full(14, np.nan), PlanningError, 'need finite numbers')])
def test_observations_that_do_not_fit_are_refused(obs, error, text):
    with pytest.raises(error, match=text):
        episode(agent(), 1, obs=obs)


def test_a_bundle_without_the_weights_is_refused():
    bundle = ramp_bundle(CONTRACT, ROBOT.max_velocity_rad_s)
    zeros, nothing = torch.zeros(4), torch.full((5,), torch.nan)
    for tensors in ({}, {'mean': zeros, 'std': zeros}, {'mean': nothing, 'std': torch.ones(5)}):
        with pytest.raises(BundleError, match='needs the finite tensors mean and std of 5 weights of the cost'):
            agent().with_bundle(AgentBundle(bundle.card, {**bundle.groups, 'cost': tensors}))


def test_a_task_of_another_space_is_refused():
    other = make_task('lift', ROBOT)
    contract = Contract.of('solver_mpc', other.space, robot='panda', task='lift', period_s=PERIOD_S)
    for make, *rest in ((KIND.make_agent, SolverMpcActingConfig()), (KIND.make_learner, SolverMpcLearnerConfig(), other)):
        with pytest.raises(ConfigError, match="plans velocities of an arm's joints, .*; 'lift' has the space 'tool'"):
            make(contract, other.space, *rest)


def lesson(seed=0, rows=80):
    rng, limits = np.random.default_rng(seed), np.array(ROBOT.max_velocity_rad_s)
    obs = HOME + np.concatenate([rng.uniform(-0.4, 0.4, (rows, 7)), rng.uniform(-1, 1, (rows, 7)) * limits], axis=1)
    action = rng.uniform(-1, 1, (rows, 7))
    after = MeanModel(ramp_parameters(ROBOT.max_velocity_rad_s)).predict(obs, action)
    transitions = Transitions.of(obs, action, after, np.arange(rows) * 50_000_000, goal=np.tile(GOAL, (rows, 1)))
    held_out = np.arange(rows) % 8 == 0
    return Lesson(transitions, held_out, held_out, np.zeros(rows, dtype=bool), 0, seed)


def learner_config(**search):
    return SolverMpcLearnerConfig(trainer=TrainerConfig(ensemble=EnsembleConfig(ensemble_size=2, hidden_size=8), max_steps=20),
                                  search=SearchConfig(population=3, num_elites=1, goals=2, steps=12, **search))


def test_a_round_learns_the_dynamics_and_moves_the_weights_to_what_earns_more():
    # Such weights barely move the arm.
    config = dataclasses.replace(learner_config(), cost=CostWeights(speed=30.0, change=30.0))
    learner = SolverMpcLearner(CONTRACT, TASK.space, config, TASK)
    report = learner.update(lesson(), bool)
    assert report.is_better and report.figures['imagined_return'] > report.figures['imagined_return_before']
    again = SolverMpcLearner(CONTRACT, TASK.space, config, TASK).update(lesson(), bool)
    torch.testing.assert_close(report.groups['cost'], again.groups['cost'], rtol=0.0, atol=0.0)
    bundle = AgentBundle(ramp_bundle(CONTRACT, ROBOT.max_velocity_rad_s).card, report.groups)
    made = SolverMpcAgent(CONTRACT, TASK.space, SolverMpcActingConfig()).with_bundle(AgentBundle.from_bytes(bundle.to_bytes()))
    np.testing.assert_allclose(made.weights.vector(), report.groups['cost']['mean'].numpy(), atol=1e-12)
    learner.resume(bundle)
    assert learner.update(lesson(1), bool).figures['imagined_return_before'] > -1e9


def test_without_generations_the_weights_stay():
    report = SolverMpcLearner(CONTRACT, TASK.space, learner_config(generations=0), TASK).update(lesson(), bool)
    np.testing.assert_array_equal(report.groups['cost']['mean'], CostWeights().vector())
    assert 'imagined_return' not in report.figures


def test_a_search_ends_when_it_is_cancelled():
    asked = iter([False] * 6)
    with pytest.raises(TrainingCancelled):
        SolverMpcLearner(CONTRACT, TASK.space, learner_config(), TASK).update(lesson(), lambda: next(asked, True))


def test_its_settings_are_its_own():
    config = TaskLoopConfig.of_task('reach', agent='solver_mpc', changes=['solver.horizon=12'])
    assert config.agent_config.acting().solver.horizon == 12 and config.agent_config.kind is agent_kind('solver_mpc')


def test_without_casadi_one_sentence_says_so_before_any_work(tmp_path):
    code = ("import sys; sys.modules['casadi'] = None; from mbrl_ros.cli.entry import main\n"
            f"sys.argv = ['mbrl-ros', 'learn', '--task', 'reach', '--agent', 'solver_mpc', '--out', {str(tmp_path / 'run')!r}]\n"
            'sys.exit(main())')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=250)
    assert done.returncode == 2 and not (tmp_path / 'run').exists()
    said = ' '.join(done.stderr.split())
    assert said.partition('error: ')[2].startswith('the agent solver_mpc needs CasADi, which cannot be imported')
    assert said.endswith("`pip install '.[solver]'` installs it") and 'Traceback' not in said
