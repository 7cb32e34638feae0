"""TD-MPC: its runs go on exactly, its bundles travel, its plans keep to bounds, limits and deadlines, and it notices a change."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from support.recordings import recorded, saved, to_goal

from mbrl_ros.agents.agent import Lesson
from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.agents.registry import agent_kind
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.errors import BundleError, ConfigError, PlanningError, TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.runs.env_demonstrations import load_env_demonstrations
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.spaces.joint_tool import table_space
from mbrl_ros.tasks.registry import make_task

KIND = agent_kind('tdmpc')
SPARSE = 'goal_environments:goal/Sparse-v0'
PLANNER = {'optimiser': 'mppi', 'horizon': 3, 'population_size': 16, 'num_elites': 4, 'num_iterations': 3, 'num_particles': 1,
           'propagation': 'expectation'}
LEARNER = {'min_transitions': 12, 'updates': 10, 'first_updates': 20, 'batch_size': 8,
           'latent': {'sizes': {'latent_size': 8, 'hidden_size': 16}, 'actor_critic': {'hidden_size': 16}}}
SETTINGS = {'planner': PLANNER, 'num_proposals': 4, 'learner': LEARNER}
CONFIG = KIND.config.from_mapping(SETTINGS)
ROBOT = load_robot('panda')
SPACE, TASK = table_space(ROBOT), make_task('lift', ROBOT)
CONTRACT = Contract.of('tdmpc', SPACE, robot=ROBOT.name, task='lift', period_s=0.1)
GOAL = np.array([0.5, 0.1, 0.3])


@contextlib.contextmanager
def run_of(folder, *, resume=False, shown=True):
    config = EnvLoopConfig.from_mapping({'agent': 'tdmpc', 'explorations': 1, **SETTINGS})
    with contextlib.closing(EnvLoop(FlatEnvironment(SPARSE), config)) as loop:
        source = saved(folder.parent / 'demos.npz', recorded(SPARSE, to_goal))
        demos = load_env_demonstrations([str(source)], loop, seed=0) if shown and not resume else []
        yield LearningRun(loop, seed=0, folder=folder, resume=resume, shown=demos)


def learned(folder, steps, **options):
    with run_of(folder, **options) as run:
        episodes = list(run.episodes(steps))
        return run.rounds.current, np.concatenate([one.episode.action for one in episodes])


def test_a_run_goes_on_exactly_and_the_same_seed_gives_the_same_bytes(tmp_path):
    whole, actions = learned(tmp_path / 'whole', 110)
    part, first = learned(tmp_path / 'part', 70)
    resumed, rest = learned(tmp_path / 'part', 110, resume=True)
    assert part.to_bytes() != resumed.to_bytes() == whole.to_bytes()
    np.testing.assert_array_equal(np.concatenate([first, rest]), actions)
    assert len(rest) and (np.abs(actions) <= 1.0).all()


def test_without_demonstrations_it_learns_from_random_steps(tmp_path):
    bundle, _ = learned(tmp_path / 'run', 60, shown=False)
    assert bundle.version >= 1 and bundle.card.figures['holdout_rmse'] > 0.0


def transitions(count=60, push=0.02, seed=0):
    """Two episodes in which the tool moves by `push` times the action, and nothing else happens."""
    generator = np.random.default_rng(seed)
    action = generator.uniform(-1.0, 1.0, (count, CONTRACT.action_size))
    begin = np.tile(0.1 * np.random.default_rng(9).standard_normal(CONTRACT.obs_size), (count, 1))
    moved = np.zeros_like(begin)
    moved[:, :4] = push * action[:, :4].cumsum(axis=0)
    obs = np.concatenate([begin[:1], (begin + moved)[:-1]])
    episode = np.repeat([0, 1], [count // 2, count - count // 2])
    return Transitions.of(obs, action, begin + moved, 100_000_000 * np.arange(count), episode=episode, goal=GOAL,
                          terminated=np.arange(count) == count - 1)


def learner(**changes):
    return KIND.make_learner(CONTRACT, SPACE, dataclasses.replace(CONFIG.learner, **changes), TASK)


def lesson_of(made, rows, seed=3):
    held_out = made.held_out(rows)
    return Lesson(rows, held_out, held_out, np.zeros(len(rows), dtype=bool), 0, seed)


def bundle_of(report, version=1):
    return AgentBundle(Card(version, CONTRACT, 60, 1, report.figures, 0, 60, view=report.view), report.groups)


@pytest.fixture(scope='module')
def bundle():
    made, rows = learner(), transitions()
    return bundle_of(made.update(lesson_of(made, rows), bool))


def agent_of(bundle, *, exploration=0.0, max_action_change=None):
    config = dataclasses.replace(CONFIG, exploration=exploration).acting()
    return KIND.make_agent(CONTRACT, SPACE, config, max_action_change=max_action_change).with_bundle(bundle)


def acts(agent, seed=0, *, times=1, previous_action=None, **options):
    memory, previous = agent.reset(seed), np.zeros(5) if previous_action is None else previous_action
    return [agent.act(0.1 * np.ones(18), GOAL, memory, objective=None, previous_action=previous, **options) for _ in range(times)]


def test_a_bundle_acts_to_the_bit_after_its_bytes(bundle):
    read = AgentBundle.from_bytes(bundle.to_bytes())
    first, second = (acts(agent_of(one, exploration=0.3), times=3) for one in (bundle, read))
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one.action, other.action)
        assert (one.value, one.uncertainty) == (other.value, other.uncertainty)
    assert (first[0].action != acts(agent_of(bundle, exploration=0.3), seed=1)[0].action).any()


def test_a_decision_has_value_and_uncertainty_and_no_plan_of_observations(bundle):
    decision, agent = acts(agent_of(bundle))[0], agent_of(bundle)
    assert decision.is_finite and decision.plan is None
    assert np.isfinite(decision.value) and decision.uncertainty >= 0.0
    assert agent.predict(np.zeros(18), np.zeros(5), 0.1) is None


def test_actions_keep_to_bounds_and_to_the_largest_change(bundle):
    for decision in acts(agent_of(bundle, exploration=2.0), times=20):
        assert (np.abs(decision.action) <= 1.0).all()
    change, previous = np.array([0.1, 0.2, 0.05, 0.1, 2.0]), np.array([0.5, -0.5, 0.9, 0.0, 1.0])
    limited = acts(agent_of(bundle, exploration=2.0, max_action_change=change), times=20, previous_action=previous)
    assert all((np.abs(decision.action - previous) <= change + 1e-6).all() for decision in limited)


def test_a_memory_stays_valid_for_other_weights(bundle):
    agent = agent_of(bundle)
    memory = agent.reset(0)
    first = agent.act(np.zeros(18), GOAL, memory, objective=None, previous_action=np.zeros(5))
    other = agent.with_bundle(dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, version=2)))
    then = other.act(np.zeros(18), GOAL, memory, objective=None, previous_action=np.zeros(5))
    same = acts_twice(agent)
    assert other.version == 2 and agent.version == 1
    np.testing.assert_array_equal([first.action, then.action], same)


def acts_twice(agent):
    memory = agent.reset(0)
    return [agent.act(np.zeros(18), GOAL, memory, objective=None, previous_action=np.zeros(5)).action for _ in range(2)]


def test_a_deadline_that_has_passed_still_gives_an_action_by_one_iteration(bundle):
    rushed, calm = acts(agent_of(bundle), deadline_s=0.0)[0], acts(agent_of(bundle))[0]
    assert rushed.is_finite and (rushed.action != calm.action).any()
    once = dataclasses.replace(CONFIG, exploration=0.0, planner=dataclasses.replace(CONFIG.planner, num_iterations=1)).acting()
    one = KIND.make_agent(CONTRACT, SPACE, once).with_bundle(bundle)
    assert one.reset(0) and acts(one)[0].is_finite


def test_what_is_not_finite_is_no_action(bundle):
    agent = agent_of(bundle)
    with pytest.raises(PlanningError, match='finite'):
        agent.act(np.full(18, np.nan), GOAL, agent.reset(0), objective=None, previous_action=np.zeros(5))
    broken = {**bundle.groups['dynamics'], 'weights.0': torch.full_like(bundle.groups['dynamics']['weights.0'], torch.nan)}
    damaged = AgentBundle(bundle.card, {**bundle.groups, 'dynamics': broken})
    for refuse in (agent.with_bundle, learner().resume):
        with pytest.raises(BundleError, match='not finite'):
            refuse(damaged)


def test_it_is_made_ready_for_the_arm_and_its_settings_fit():
    made = KIND.make_agent(CONTRACT, SPACE, CONFIG.acting())
    assert not made.is_ready and made.version == 0 and made.prepare(np.zeros(18), None) == 'planning in a latent'
    assert CONFIG.evaluated().exploration == 0.0 < CONFIG.exploration
    with pytest.raises(ConfigError, match='num_proposals needs fewer than planner.population_size 16, got 16'):
        dataclasses.replace(CONFIG, num_proposals=16)


def test_a_cancelled_round_leaves_the_learner_as_it_was(bundle):
    def after(makes_another_before):
        made = learner(updates=60)
        made.resume(bundle)
        if makes_another_before:
            answers = iter([False, True])
            with pytest.raises(TrainingCancelled):
                made.update(lesson_of(made, transitions()), lambda: next(answers))
        return bundle_of(made.update(lesson_of(made, transitions(), seed=4), bool)).to_bytes()

    assert after(True) == after(False)


def test_held_out_steps_are_in_no_sequence():
    """Their actions are NaN, which no network would survive."""
    made, rows = learner(), transitions()
    held_out = made.held_out(rows)
    assert 0 < held_out.sum() < 30
    rows.action[held_out] = np.nan
    groups = made.update(lesson_of(made, rows), bool).groups
    assert all(torch.isfinite(tensor).all() for name, tensors in groups.items() if name != 'units' for tensor in tensors.values())


def test_the_learner_is_surprised_by_other_dynamics_and_not_by_the_old_ones():
    made = learner(updates=150, batch_size=32)
    assert made.surprise(transitions()) is None
    made.resume(bundle_of(made.update(lesson_of(made, transitions(200)), bool)))
    usual, changed = made.surprise(transitions(100, seed=1)), made.surprise(transitions(100, push=0.1, seed=1))
    assert changed.num_transitions == 100 and changed.level > usual.level + 0.35
    assert changed.typical_error > usual.typical_error > 0.0
