"""Captured plans are the plans they stand for, whatever changes between them."""

import dataclasses
import types

import numpy as np
import pytest
import torch
from support.asserts import some
from support.graph_recorder import GraphRecorder, Tape
from support.planning_problems import OPTIMISERS, TickingClock

from mbrl_ros.errors import PlanningError
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.framed import FramedModel
from mbrl_ros.models.toys import VelocityArm
from mbrl_ros.planning.captured import CudaRecorder, shared_kind
from mbrl_ros.planning.optimisers.registry import make_optimiser
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.planning.propagation import PROPAGATIONS
from mbrl_ros.planning.sampling import SamplingPlanner, make_planner
from mbrl_ros.planning.search import Search
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.tasks.reach import ReachWeights
from mbrl_ros.tasks.registry import make_task

ROBOT = load_robot('panda')
TASK = make_task('reach', ROBOT)
HOME = np.concatenate([ROBOT.home_rad, np.zeros(7)])
CHANGE = np.full(7, 0.3)
CONFIG = PlannerConfig(horizon=4, population_size=20, num_elites=4, num_iterations=3, num_particles=6, device='cpu')
SIZES = EnsembleConfig(ensemble_size=3, hidden_layers=2, hidden_size=16)
GOALS = ((0.5, 0.1, 0.3), (0.4, -0.3, 0.5))


def predictor(seed=0, sizes=SIZES, device='cpu', precision='float32', size=14, action_size=7):
    """Compiled code for the processor is never captured: what is tested here is what a GPU is given."""
    return Predictor(stand_in(size, action_size, sizes, seed=seed), device, precision, backend='torch')


def planners(clocks=None, **changes):
    """The same planner twice: eager, and with captured steps."""
    config = dataclasses.replace(CONFIG, **changes)
    clocks = [{'clock': clock} for clock in clocks] if clocks else [{}, {}]
    eager = make_planner(config, 7, CHANGE, seed=3, **clocks[0])
    optimiser = make_optimiser(config, 7, torch.full((7,), 0.3), generator=torch.Generator().manual_seed(3))
    return eager, SamplingPlanner(config, optimiser, make_recorder=GraphRecorder, **clocks[1])


def same(one, other):
    fields = [field.name for field in dataclasses.fields(one) if field.name != 'elapsed_s']
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in some(fields))


def stream():
    """Arguments of plans of one kind: everything that may change between two ticks changes."""
    rng = np.random.default_rng(0)
    models = [predictor(0), predictor(1)]
    for index in range(6):
        weights = ReachWeights(distance=1.0 + index, effort=0.1 * index)
        yield ((models[index // 2 % 2], HOME + rng.normal(scale=0.1, size=14), TASK.objective(GOALS[index % 2], weights)),
               {'previous_action': rng.uniform(-1.0, 1.0, size=7)})


@pytest.mark.parametrize('optimiser', OPTIMISERS)
@pytest.mark.parametrize('propagation', PROPAGATIONS)
def test_captured_plans_are_the_eager_plans(optimiser, propagation):
    eager, captured = planners(optimiser=optimiser, propagation=propagation)
    for arguments, options in stream():
        assert same(eager.plan(*arguments, **options), captured.plan(*arguments, **options))
    assert captured.num_captures == 1


@pytest.mark.parametrize('actions', ['twist', 'joints'])
def test_captured_plans_with_a_model_in_a_frame_are_the_eager_plans(actions):
    task = make_task('lift', ROBOT, actions=actions)
    obs_size, action_size = task.obs_size, task.action_size
    frame, rng = task.space.frame, np.random.default_rng(0)
    sizes = [len(part) for part in frame.encode(torch.zeros(obs_size), torch.zeros(action_size))]
    models = [FramedModel(frame, predictor(seed, size=sizes[0], action_size=sizes[1]), action_size) for seed in (0, 1)]
    config = dataclasses.replace(CONFIG, propagation='ts1')
    optimiser = make_optimiser(config, action_size, torch.full((action_size,), 0.3),
                               task.space.is_directed, generator=torch.Generator().manual_seed(3))
    eager = make_planner(config, action_size, np.full(action_size, 0.3), task.space.is_directed, seed=3)
    captured = SamplingPlanner(config, optimiser, make_recorder=GraphRecorder)
    for model in (models[0], models[1], models[0]):
        obs = rng.normal(scale=0.1, size=obs_size)
        directions = task.space.directions(obs)
        assert same(*(one.plan(model, obs, task.objective(GOALS[0]), directions=directions) for one in (eager, captured)))
    assert captured.num_captures == 1


@pytest.mark.parametrize('settings', [{'aggregation': 'cvar'}, {'aggregation': 'worst_case'}, {'disagreement_penalty': 2.0},
                                      {'aggregation': 'mean_minus_std', 'risk_aversion': 1.0}, {'num_iterations': 1}])
def test_captured_plans_are_the_eager_plans_under_every_attitude_to_risk(settings):
    eager, captured = planners(**settings)
    for arguments, options in stream():
        assert same(eager.plan(*arguments, **options), captured.plan(*arguments, **options))


@pytest.mark.parametrize('optimiser', OPTIMISERS)
def test_deadlines_end_captured_plans_as_they_end_eager_ones(optimiser):
    eager, captured = planners((TickingClock(), TickingClock()), optimiser=optimiser, num_iterations=4)
    iterations = []
    for deadline_s, (arguments, options) in zip((2.0, None, 0.0, 3.9, 100.0, -1.0), stream()):
        plan = captured.plan(*arguments, **options, deadline_s=deadline_s)
        assert same(eager.plan(*arguments, **options, deadline_s=deadline_s), plan)
        iterations.append(plan.iterations)
    assert iterations == [2, 4, 1, 2, 4, 1]  # From the second plan on the end of one is known to take a second as well.
    assert captured.num_captures == 1


@pytest.mark.parametrize('optimiser', OPTIMISERS)
def test_seeding_anew_repeats_captured_plans(optimiser):
    eager, captured = planners(optimiser=optimiser)
    for planner in (eager, captured):
        planner.prepare(*next(stream())[0])
    for seed in (3, 5, 3):
        for planner in (eager, captured):
            planner.reset(seed)
        for arguments, options in stream():
            assert same(eager.plan(*arguments, **options), captured.plan(*arguments, **options))


def test_preparing_leaves_the_planner_as_new():
    fresh, prepared = planners()[1], planners()[1]
    prepared.prepare(*next(stream())[0])
    arguments, options = next(stream())
    assert same(fresh.plan(*arguments, **options), prepared.plan(*arguments, **options))
    assert prepared.num_captures == 1


def test_models_and_objectives_of_another_kind_are_captured_anew():
    eager, captured = planners()
    (small, obs, objective), _ = next(stream())
    large = predictor(sizes=dataclasses.replace(SIZES, hidden_size=24))
    elsewhere = make_task('reach', ROBOT).objective(GOALS[0])
    for model, aim, captures in ((small, objective, 1), (large, objective, 2), (large, elsewhere, 3),
                                 (predictor(5), objective, 4), (small, objective, 4)):
        assert same(eager.plan(model, obs, aim), captured.plan(model, obs, aim))
        assert captured.num_captures == captures


def test_what_cannot_be_captured_is_planned_with_step_by_step():
    eager, captured = planners()
    (model, obs, objective), _ = next(stream())
    for arguments in ((VelocityArm.of_robot(ROBOT, 0.05), obs, objective),
                      (model, obs, lambda obs, action: -obs.square().sum(dim=-1)), (model, obs, objective)):
        assert same(eager.plan(*arguments), captured.plan(*arguments))
    assert captured.num_captures == 1


def test_a_model_that_is_planned_with_is_never_written_to():
    captured, models = planners()[1], [predictor(0), predictor(1)]
    before = [[tensor.clone() for tensor in model.tensors()] for model in models]
    for model in (*models, models[0]):
        captured.plan(model, HOME, TASK.objective(GOALS[0]))
    assert all(torch.equal(tensor, was) for model, kept in zip(models, before)
               for tensor, was in some(zip(model.tensors(), kept, strict=True)))


def test_plans_that_were_given_out_stay_as_they_are():
    captured = planners()[1]
    plan = captured.plan(predictor(), HOME, TASK.objective(GOALS[0]))
    actions, path = plan.actions.copy(), plan.mean_obs.copy()
    captured.plan(predictor(), HOME + 0.2, TASK.objective(GOALS[1]))
    assert np.array_equal(plan.actions, actions)
    assert np.array_equal(plan.mean_obs, path)


def test_a_captured_plan_without_a_finite_candidate_is_an_error_and_the_next_starts_afresh():
    eager, captured = planners()
    broken = TASK.objective(GOALS[0])
    broken = broken.at(torch.full_like(broken.parameters, torch.nan))
    (model, obs, objective), _ = next(stream())
    for planner in (eager, captured):
        planner.plan(model, obs, objective)
        with pytest.raises(PlanningError, match=r'none of \d+ candidates has a finite return'):
            planner.plan(model, obs, broken)
    assert same(eager.plan(model, obs, objective), captured.plan(model, obs, objective))


def test_the_kind_says_precision_and_shape_and_not_the_numbers():
    objective = TASK.objective(GOALS[0])
    assert shared_kind(predictor(0), objective) == shared_kind(predictor(1), objective) is not None
    assert predictor().kind != predictor(sizes=dataclasses.replace(SIZES, hidden_layers=3)).kind
    assert shared_kind(VelocityArm.of_robot(ROBOT, 0.05), objective) is None
    assert shared_kind(predictor(), lambda obs, action: obs[..., 0]) is None


@pytest.mark.parametrize('optimiser', OPTIMISERS)
@pytest.mark.parametrize('propagation', PROPAGATIONS)
def test_steps_stay_on_their_device_and_never_ask_for_a_number(optimiser, propagation, monkeypatch):
    """Tensors without numbers refuse to be read, and to be mixed with those of the host; for them there are no generators."""
    for name in ('rand', 'randn'):
        real = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *sizes, real=real, generator, **options: real(*sizes, **options))
    generator = types.SimpleNamespace(device=torch.device('meta'))
    config = dataclasses.replace(CONFIG, optimiser=optimiser, propagation=propagation)
    objective, change = TASK.objective(GOALS[0]), torch.full((7,), 0.3, device='meta')
    model = predictor(device='meta')
    search = Search(config, make_optimiser(config, 7, change, generator=generator), model, objective, len(objective.parameters))
    for _ in range(2):
        search.load(torch.as_tensor(HOME, dtype=torch.float32), torch.zeros(7), objective.parameters)
        for step in search.steps.values():
            step()


def test_the_stand_in_does_not_let_the_host_look():
    with pytest.raises(AssertionError, match='cannot be captured'), Tape():
        float(torch.ones(2).sum())


def test_the_stand_in_spoils_what_a_step_made_for_itself():
    kept, source, made = torch.zeros(2), torch.ones(2), []

    def step():
        made.append(source + 1.0)
        kept.copy_(made[-1])

    replay = GraphRecorder(None).capture(step)
    source.fill_(4.0)
    replay()
    assert kept.tolist() == [5.0, 5.0]
    assert torch.isnan(made[0]).all()
    assert len(made) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('precision', ['float32', 'tf32', 'bfloat16'])
@pytest.mark.parametrize('propagation', PROPAGATIONS)
@pytest.mark.parametrize('optimiser', OPTIMISERS)
def test_plans_by_cuda_graphs_are_the_eager_plans(optimiser, propagation, precision):
    config = dataclasses.replace(CONFIG, optimiser=optimiser, propagation=propagation, device='cuda')
    captured = make_planner(config, 7, CHANGE, seed=3)
    generator = torch.Generator('cuda').manual_seed(3)
    eager = SamplingPlanner(config, make_optimiser(config, 7, torch.full((7,), 0.3, device='cuda'), generator=generator))
    models = [predictor(seed, device='cuda', precision=precision) for seed in (0, 1)]
    captured.prepare(models[0], HOME, TASK.objective(GOALS[0]))
    for deadline_s in (None, 0.0):
        for (_, obs, objective), options in stream():
            for model in models:
                plans = [planner.plan(model, obs, objective, **options, deadline_s=deadline_s) for planner in (eager, captured)]
                np.testing.assert_allclose(plans[0].actions, plans[1].actions, atol=1e-4)
                assert plans[0].value == pytest.approx(plans[1].value, rel=1e-3)
    assert captured.num_captures == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_cuda_graph_draws_what_the_generator_would_have_drawn():
    generators = [torch.Generator('cuda').manual_seed(1) for _ in range(2)]
    recorder, drawn = CudaRecorder(generators[0]), torch.zeros(1000, device='cuda')

    def draw():
        drawn.copy_(torch.randn(1000, generator=generators[0], device='cuda'))

    replay = recorder.capture(draw)
    for seed in (1, 1, 2):
        for generator in generators:
            generator.manual_seed(seed)
        for _ in range(3):
            replay()
            assert torch.equal(drawn, torch.randn(1000, generator=generators[1], device='cuda'))
