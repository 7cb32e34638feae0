import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console
from support.asserts import some
from typer.testing import CliRunner

from mbrl_ros.benchmarks.budget import (
    BudgetBenchmark,
    BudgetGrid,
    Setting,
    conclude,
    learn_model,
    measure_budget,
    run_budget_benchmark,
)
from mbrl_ros.cli.bench import app
from mbrl_ros.errors import ModelError, ModelMismatchError
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.runs.playing import EVALUATION
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim.tabletop import make_task_world

KEYS = {'varied', 'population', 'horizon', 'particles', 'iterations', 'elites', 'is_default', 'precision', 'model_evals',
        'episodes', 'successes', 'success_rate', 'wilson_low', 'wilson_high', 'median_steps', 'mean_steps', 'distance_m_median',
        'distance_m_p95', 'return_mean', 'plan_ms_median', 'plan_ms_p95'}
TINY = BudgetGrid(population=(8,), horizon=(), particles=(), iterations=(), together=(Setting(4, 2, 5, 1),))


@pytest.fixture(scope='module')
def loop():
    loop = TaskLoop('reach', TaskLoopConfig.of_task('reach'), make_task_world)
    yield loop
    loop.close()


@pytest.fixture(scope='module')
def learned(loop):
    """A model that was learned in four episodes, and these."""
    model, done = learn_model(loop, seed=0, episodes=4)
    return model, [progress.episode for progress in done]


@pytest.fixture(scope='module')
def model_path(learned, tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'model.safetensors'
    learned[0].save(path)
    return path


def row(evaluations, rate, steps, varied=(), is_default=False):
    low, high = rate - 0.05, min(rate + 0.05, 1.0)
    return {'varied': list(varied), 'population': evaluations, 'horizon': 7, 'particles': 5, 'iterations': 3,
            'model_evals': evaluations, 'wilson_low': low, 'wilson_high': high, 'mean_steps': steps, 'is_default': is_default}


def test_the_default_setting_is_the_planners():
    assert Setting().config() == PlannerConfig()


def test_the_grid_varies_one_quantity_at_a_time_around_the_default_and_never_repeats_a_setting():
    settings = BudgetGrid(population=(8, 48), horizon=(3,), together=(Setting(8, 3, 5, 1),)).settings
    assert settings[Setting()] == ['population', 'horizon', 'particles', 'iterations', 'together']
    assert settings[Setting(population=8)] == ['population']
    assert settings[Setting(8, 3, 5, 1)] == ['together']
    assert set(some(BudgetGrid.quick().settings)) <= set(BudgetGrid().settings)


def test_every_setting_of_the_grid_is_one_that_the_planner_takes():
    for setting in some(BudgetGrid().settings):
        assert setting.config().population_size == setting.population


def test_the_smallest_budget_is_the_cheapest_one_whose_interval_overlaps_with_that_of_the_largest():
    rows = [row(10, 0.5, 40), row(20, 0.9, 30, ['population']), row(40, 0.95, 21, ['population'], is_default=True),
            row(80, 0.95, 20, ['population'])]
    conclusion = conclude(rows)
    assert conclusion['largest'] is rows[3]
    assert conclusion['smallest'] is rows[1]
    assert conclusion['smallest_quick'] is rows[2]
    assert conclusion['smallest_quick_by_quantity'] == {'population': 40}
    assert conclusion['default_is_enough'] and conclusion['default_is_as_quick']


def test_a_default_that_is_worse_is_called_so():
    conclusion = conclude([row(10, 0.5, 40, is_default=True), row(80, 0.95, 20)])
    assert not conclusion['default_is_enough'] and not conclusion['default_is_as_quick']


def test_an_arm_learns_to_reach_in_the_loop(learned):
    model, episodes = learned
    assert [len(episode.plan_s) > 0 for episode in episodes] == [False, False, True, True]
    assert any(episode.success for episode in episodes)
    assert model.card.num_transitions == sum(episode.steps for episode in episodes)


def test_the_same_arguments_give_the_same_motion(loop, learned):
    agent = loop.agent.with_bundle(learned[0])
    first, other, again = (loop.play(agent, seed=1, episode=episode, stream=EVALUATION) for episode in (5, 6, 5))
    assert np.array_equal(first.obs, again.obs)
    assert not np.array_equal(first.obs[:2], other.obs[:2])


def test_actions_of_the_loop_keep_to_the_limits_of_the_arm(loop, learned):
    largest = loop.task.space.largest_change(1.0, loop.period_s)
    for episode in some(learned[1]):
        changes = np.diff(episode.action, axis=0, prepend=np.zeros((1, loop.task.action_size)))
        assert (np.abs(changes) <= largest + 1e-9).all()
        assert (np.abs(episode.action) <= 1.0 + 1e-9).all()


def test_an_episode_ends_with_its_success(loop, learned):
    episode = next(episode for episode in learned[1] if episode.success)
    assert episode.distance_m <= loop.task.goal_tolerance_m
    assert len(episode.plan_s) == episode.steps == len(episode.obs) - 1


def test_too_few_episodes_give_no_model():
    loop = TaskLoop('reach', dataclasses.replace(TaskLoopConfig.of_task('reach'), max_episode_steps=10), make_task_world)
    with pytest.raises(ModelError, match='no model came of 1 episodes: no round: 10 transitions'):
        learn_model(loop, seed=0, episodes=1)
    loop.close()


def test_a_run_gives_all_figures_and_a_picture(model_path, tmp_path):
    benchmark = BudgetBenchmark(seeds=(0, 1), goals=1, model_path=model_path, precision='float32', grid=TINY)
    run_budget_benchmark(benchmark, json_path=tmp_path / 'new' / 'budget.json', plot_path=tmp_path / 'new' / 'budget.png')
    result = json.loads((tmp_path / 'new' / 'budget.json').read_text())
    assert [set(row) for row in result['rows']] == [KEYS] * 3
    assert all(row['episodes'] == 2 for row in result['rows'])
    assert [model['seed'] for model in result['models']] == [0, 1]
    default = result['conclusion']['default']
    # Candidates of iCEM's three iterations: 48 and 3 inherited and the zero action; 48 / 1.25; 48 / 1.25².
    assert default['model_evals'] == 7 * 5 * (48 + 3 + 1 + 38 + 31)
    assert default['wilson_low'] <= default['success_rate'] <= default['wilson_high']
    assert result['conclusion']['largest'] == default
    assert (tmp_path / 'new' / 'budget.png').read_bytes().startswith(b'\x89PNG')


def test_a_model_for_another_robot_is_refused(model_path):
    with pytest.raises(ModelMismatchError, match='iiwa'):
        measure_budget(BudgetBenchmark(robot='iiwa', model_path=model_path, goals=1, grid=TINY), Console(quiet=True))


def test_the_command_passes_its_options_on(model_path, tmp_path):
    result = CliRunner().invoke(app, ['budget', '--model', str(model_path), '--goals', '1', '--seed', '3', '--quick',
                                      '--precision', 'float32', '--json', str(tmp_path / 'budget.json')])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / 'budget.json').read_text())
    assert (written['seeds'], written['goals'], len(written['rows'])) == ([3], 1, len(BudgetGrid.quick().settings))
