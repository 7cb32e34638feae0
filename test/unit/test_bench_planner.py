import dataclasses
import json

import pytest
import torch
from support.asserts import some
from typer.testing import CliRunner

from mbrl_ros.benchmarks.busy import BusySetting, busy_table, measure_busy
from mbrl_ros.benchmarks.curves import LinearFit
from mbrl_ros.benchmarks.planner import PlannerBenchmark, measure_planners
from mbrl_ros.benchmarks.setups import MeasuredPlanner, PlannerSetup
from mbrl_ros.benchmarks.work import (
    CountedObjective,
    MatrixProducts,
    NetworkSize,
    Rollouts,
    observation_stream,
    quadratic_reward,
    random_parameters,
    time_interleaved,
)
from mbrl_ros.cli.bench import app
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.planning.planner import PlannerConfig

SMALL = NetworkSize(obs_size=3, action_size=2, ensemble_size=5, hidden_layers=2, hidden_size=8)
TINY = PlannerSetup(optimiser='cem', horizon=3, precision='float32', population=10, particles=5, iterations=2, network=SMALL)


def test_the_yardstick_is_that_of_pets():
    setup = PlannerSetup()
    assert dataclasses.astuple(setup.network) == (25, 8, 5, 4, 200)
    assert (setup.population, setup.particles, setup.iterations, setup.propagation) == (350, 20, 5, 'ts1')
    assert PlannerBenchmark().horizons == (15, 30)


def test_the_everyday_setting_is_the_controllers_default():
    assert PlannerSetup.everyday_setting().config == PlannerConfig()


def test_the_floor_is_all_matrix_products_and_nothing_else():
    floor = MatrixProducts(SMALL, [Rollouts(3, 5, 10), Rollouts(3, 5, 4)])
    layers = 3  # 5 x 8, 8 x 8, 8 x 6
    assert floor.num_products == 2 * 3 * 5 * layers
    assert floor.flops == 2 * (5 * 8 + 8 * 8 + 8 * 6) * 3 * 5 * (10 + 4)


def test_the_floor_of_the_yardstick_is_half_a_million_evaluations_of_137_thousand_multiplications():
    rollouts = [Rollouts(15, 20, 350)] * 5
    assert sum(entry.evaluations for entry in rollouts) == 525_000
    assert NetworkSize().flops == 2 * (33 * 200 + 3 * 200 * 200 + 200 * 50)


def test_a_first_step_that_particles_share_is_counted_once_for_each_member():
    shared = Rollouts(15, 20, 350, first_particles=5)
    assert shared.evaluations == 15 * 20 * 350 - 15 * 350
    floor = MatrixProducts(SMALL, [Rollouts(3, 10, 4, first_particles=5)])
    assert floor.flops == 2 * (5 * 8 + 8 * 8 + 8 * 6) * (5 + 10 + 10) * 4
    floor.run()
    assert {rows: len(buffers) for rows, buffers in floor._buffers.items()} == {4: 4, 8: 4}


def test_the_floor_makes_the_products_of_its_weights():
    floor = MatrixProducts(SMALL, [Rollouts(1, 5, 4)])
    floor.run()
    buffers = floor._buffers[4]
    for inputs, weight, outputs in some(zip(buffers[:-1], floor._weights, buffers[1:], strict=True)):
        assert torch.allclose(outputs, inputs @ weight, atol=1e-5)


def test_rollouts_that_members_cannot_share_have_no_floor():
    with pytest.raises(ValueError, match='cannot be shared evenly among 5 members'):
        MatrixProducts(SMALL, [Rollouts(1, 3, 4)])


def test_evaluations_are_those_that_the_planner_makes():
    scored = MeasuredPlanner(dataclasses.replace(TINY, optimiser='random_shooting', iterations=1)).scored_in_a_plan()
    assert scored[0] == Rollouts(3, 5, 10, first_particles=5)


def test_particles_that_are_scored_a_few_at_a_time_are_counted_once():
    counted = CountedObjective(quadratic_reward, ensemble_size=5, num_particles=9)
    for particles in (4, 4, 2) * 2:
        counted(torch.zeros(3, particles, 7, 4), torch.zeros(3, 1, 7, 2))
    assert counted.scored == 2 * [Rollouts(3, 10, 7, first_particles=5)]


def test_a_measured_network_stays_where_its_weights_are_of_use():
    model = Predictor(random_parameters(NetworkSize()))
    obs, action = torch.zeros(5, 4, 25), torch.ones(5, 4, 8)
    for _ in range(30):
        mean, std = model.predict(obs, action)
        obs = mean + std
    assert obs.abs().max() < 10.0


def test_observations_go_on_from_each_other_and_repeat_with_their_seed():
    stream = observation_stream(SMALL, 50, seed=3)
    assert stream.shape == (50, 3)
    assert (stream == observation_stream(SMALL, 50, seed=3)).all()
    assert len({tuple(row) for row in stream}) == 50


def test_contenders_take_turns_and_the_warm_up_is_not_timed():
    calls = []
    times = time_interleaved({'a': lambda call: calls.append(('a', call)), 'b': lambda call: calls.append(('b', call))},
                             calls=2, warmup=1)
    assert calls == [('a', 0), ('b', 0), ('a', 1), ('b', 1), ('a', 2), ('b', 2)]
    assert {name: len(values) for name, values in times.items()} == {'a': 2, 'b': 2}


def test_a_line_is_fitted_exactly_and_a_bend_is_not():
    line = LinearFit.of([1, 2, 3, 4], [5.0, 7.0, 9.0, 11.0])
    assert (line.slope, line.intercept, line.r_squared) == pytest.approx((2.0, 3.0, 1.0))
    bend = LinearFit.of([0, 1, 2], [0.0, 0.0, 6.0])
    assert (bend.slope, bend.intercept, bend.r_squared) == pytest.approx((3.0, -1.0, 0.75))
    assert LinearFit.of([1, 2], [4.0, 4.0]).r_squared == 1.0


def test_rows_carry_what_is_promised():
    benchmark = PlannerBenchmark(horizons=(2,), precisions=('float32',), optimisers=('cem',), population=10, particles=5,
                                 iterations=1, everyday=False, threads=torch.get_num_threads(), calls=2, count_to=2)
    [row] = measure_planners(benchmark)
    assert set(row) == {'planner', 'horizon', 'precision', 'median_ms', 'p95_ms', 'p99_ms', 'model_evals', 'evals_per_s',
                        'floor_ms', 'ratio_to_floor', 'first_ms', 'later_ms', 'later_plan', 'memory_mb', 'memory_bound_mb'}
    assert (row['planner'], row['horizon'], row['precision'], row['later_plan']) == ('CEM TS1', 2, 'float32', 2)


def test_a_plan_without_memory_is_refused_before_anything_is_measured():
    # Choosing a precision would need as much, and take the machine's memory or torch's word for it.
    setup = PlannerSetup(horizon=200, population=100_000, particles=200)
    with pytest.raises(ConfigError, match='population_size 100000 and num_particles 200 .* needs about [0-9]{7} MB'):
        MeasuredPlanner(setup)


def test_a_precision_that_auto_chooses_is_measured_once():
    benchmark = PlannerBenchmark(horizons=(2,), precisions=('auto', 'float32', 'auto'), optimisers=('cem',), population=10,
                                 particles=5, iterations=1, everyday=False, threads=torch.get_num_threads(), calls=1, count_to=0,
                                 memory=False)
    measured = [row['precision'] for row in measure_planners(benchmark)]
    assert 'float32' in measured
    assert len(measured) == len(set(measured))


def test_the_command_writes_figures_and_a_picture(tmp_path):
    result = CliRunner().invoke(app, [
        'planner', '--horizon', '2', '--precision', 'float32', '--optimiser', 'cem', '--population', '10', '--particles', '5',
        '--iterations', '1', '--threads', str(torch.get_num_threads()), '--calls', '1', '--count-to', '0', '--no-memory',
        '--no-everyday', '--curves', str(tmp_path / 'curves.png'), '--json', str(tmp_path / 'figures' / 'planner.json')])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / 'figures' / 'planner.json').read_text())
    assert set(figures) == {'machine', 'rows', 'curves'}
    assert set(figures['machine']) == {'description', 'cores', 'instructions', 'torch', 'threads', 'gpu'}
    curves = figures['curves']['quantities']
    assert set(curves) == {'population', 'particles', 'horizon', 'iterations'}
    assert all(len(curve['values']) == len(curve['median_ms']) > 1 for curve in some(curves.values()))
    assert (tmp_path / 'curves.png').stat().st_size > 0


def test_a_planner_is_measured_alone_and_beside_a_trainer():
    [row] = measure_busy(calls=4, setups=[TINY], settings=[BusySetting('PASSIVE', 1, 10)])
    assert {'planner', 'wait_policy', 'threads', 'niceness', 'fifo', 'quiet_ms', 'busy_ms', 'busy_p95_ms', 'ratio'} <= set(row)
    assert busy_table([row]).row_count == 1
