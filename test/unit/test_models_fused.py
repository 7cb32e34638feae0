"""Compiled and reduced precision against float64: the same model, nearly the same numbers, the same decisions."""

import dataclasses

import pytest
import torch
from scipy import stats

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.kernels import native
from mbrl_ros.models.ensemble.linear import LinearPart
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.predictor import Predictor, precisions
from mbrl_ros.planning.propagation import ParticleDraws, rollout
from mbrl_ros.planning.returns import particle_returns

COMPILED = [pytest.param(kind, marks=pytest.mark.skipif(
    not native.is_supported(kind),
    reason='needs AVX2 or AVX-512, for short numbers its instructions for them, and a compiler at installation'))
    for kind in ('float32', 'avx2', 'bfloat16', 'float16')]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
#: E, O, A, hidden layers, units: everyday, the yardstick, and sizes that fill no vector.
SIZES = [(5, 14, 7, 2, 64), (5, 25, 8, 4, 200), (3, 5, 2, 3, 72), (2, 40, 1, 1, 250), (4, 3, 1, 2, 33), (1, 33, 16, 8, 24)]


def learned(sizes=SIZES[0], seed=0, offset=0.0):
    """Parameters of a model whose network matters: its residual is as large as its linear part."""
    members, obs, action, layers, units = sizes
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, low=-1.0, high=1.0):
        return low + (high - low) * torch.rand(shape, generator=generator)

    network = Ensemble(obs + action, obs, EnsembleConfig(ensemble_size=members, hidden_layers=layers, hidden_size=units),
                       generator=generator).state_dict()
    for name in network:
        if name.startswith('biases'):
            network[name] = network[name] + 0.2 * draw(*network[name].shape)
        elif name.startswith('weights'):  # Initial weights are small, those of the last layer ten times smaller still.
            network[name] = network[name] * (30.0 if name.endswith(str(layers)) else 3.0)
    return DynamicsParameters(
        Normalizer(offset + draw(obs + action), draw(obs + action, low=0.5, high=1.5)),
        Normalizer(0.01 * draw(obs), draw(obs, low=0.02, high=0.1)),
        LinearPart(0.2 * draw(members, obs + action, obs), 0.1 * draw(members, 1, obs)), draw(obs, low=0.3, high=1.0), network)


def predictor(parameters, kind, device='cpu'):
    """Predicts with a kind of compiled code; no faster kind is in the way of AVX2."""
    return Predictor(parameters, device, *(('float32', kind) if kind in ('avx2', 'torch') else (kind,)))


@dataclasses.dataclass(frozen=True)
class Exact:
    """The same model in float64, by the plain formulas."""

    parameters: DynamicsParameters

    def __post_init__(self):
        object.__setattr__(self, 'network', self.parameters.ensemble().double())

    @property
    def ensemble_size(self):
        return self.parameters.sizes[0]

    @property
    def obs_size(self):
        return self.parameters.sizes[1]

    @property
    def action_size(self):
        return self.parameters.sizes[2]

    @property
    def output_scale(self):
        return self.parameters.outputs.std

    @torch.no_grad()
    def predict(self, obs, action):
        p = self.parameters
        inputs = (torch.cat([obs, action], dim=-1).double() - p.inputs.mean.double()) / p.inputs.std.double()
        inputs = inputs.clamp(-20.0, 20.0)
        residual, logvar = self.network(inputs)
        linear = inputs @ p.linear.weight.double() + p.linear.bias.double()
        scale = p.outputs.std.double()
        mean = obs + p.outputs.mean.double() + scale * (linear + p.residual_scale.double() * residual)
        return mean, torch.exp(0.5 * logvar) * p.residual_scale.double() * scale


def batch(parameters, size, seed=1):
    members, obs, action = parameters.sizes
    generator = torch.Generator().manual_seed(seed)
    mean, std = parameters.inputs.mean[:obs], parameters.inputs.std[:obs]
    return (mean + std * torch.randn(members, size, obs, generator=generator),
            2.0 * torch.rand(members, size, action, generator=generator) - 1.0)


@pytest.mark.parametrize('sizes', SIZES, ids=str)
@pytest.mark.parametrize('kind', [*precisions('cpu'), COMPILED[1]])
def test_predictions_are_near_the_exact_ones(sizes, kind):
    parameters = learned(sizes)
    obs, action = batch(parameters, 101)
    mean, std = predictor(parameters, kind).predict(obs, action)
    exact_mean, exact_std = Exact(parameters).predict(obs, action)
    tolerance = 2e-4 if kind in ('float32', 'avx2') else 0.04
    change = ((exact_mean - obs) / parameters.outputs.std).square().mean().sqrt()
    assert change > 0.5
    assert ((mean - exact_mean) / parameters.outputs.std).abs().max() < tolerance
    assert (std / exact_std - 1.0).abs().max() < tolerance


@pytest.mark.parametrize(('device', 'kind'), [*(pytest.param('cpu', *one.values, marks=one.marks) for one in COMPILED),
                                              pytest.param('cuda', 'bfloat16', marks=needs_gpu)])
@pytest.mark.parametrize('propagation', ['ts1', 'tsinf'])
@pytest.mark.parametrize('sizes', SIZES, ids=str)
def test_whole_trajectories_equal_step_by_step(sizes, propagation, device, kind):
    parameters = learned(sizes)
    model = predictor(parameters, kind, device)
    stepwise = dataclasses.make_dataclass('Stepwise', ['ensemble_size', 'obs_size', 'action_size', 'predict'])(
        model.ensemble_size, model.obs_size, model.action_size, model.predict)
    generator = torch.Generator(device).manual_seed(0)
    actions = 2.0 * torch.rand(61, 5, model.action_size, generator=generator, device=device) - 1.0
    draws = ParticleDraws.undrawn(model, 5, 3 * model.ensemble_size, propagation, device).draw(generator)
    start = parameters.inputs.mean[:model.obs_size].to(device)
    whole, steps = (rollout(one, start, actions, draws) for one in (model, stepwise))
    is_whole = model.roll_out(start, actions, draws.members, draws.noise.squeeze(2)) is not None
    assert is_whole or (device == 'cuda' and sizes[-1] > 208)  # Wider layers do not fit into a multiprocessor's memory twice.
    # A last bit that differs may round to another bfloat16 in the step after; on a GPU a single step rounds less.
    assert torch.allclose(whole, steps, atol=1e-3 if device == 'cpu' else 0.02)
    few = rollout(model, start, actions[:2], draws)
    assert torch.allclose(few, whole[:, :, :2], atol=1e-3 if device == 'cpu' else 0.02)


@pytest.mark.parametrize(('device', 'kind'), [*(pytest.param('cpu', *one.values, marks=one.marks) for one in COMPILED),
                                              pytest.param('cuda', 'bfloat16', marks=needs_gpu)])
@pytest.mark.parametrize('broken', [torch.nan, torch.inf, -torch.inf])
def test_a_trajectory_that_diverged_is_not_finite_in_its_last_step(broken, device, kind):
    model = predictor(learned(), kind, device)
    draws = ParticleDraws.undrawn(model, 5, 5, 'ts1', device).draw(torch.Generator(device).manual_seed(0))
    draws.noise[1, 2, 0, 3] = broken
    path = rollout(model, torch.zeros(14, device=device), torch.zeros(61, 5, 7, device=device), draws)
    finite = torch.isfinite(path[-1]).all(dim=-1)  # (P, N)
    assert not finite[2].any()
    assert finite[[0, 1, 3, 4]].all()


@pytest.mark.parametrize('kind', COMPILED)
def test_the_result_does_not_depend_on_the_number_of_threads(kind):
    model = predictor(learned(SIZES[1]), kind)
    obs, action = batch(learned(SIZES[1]), 500)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(model.predict(obs, action)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize('kind', [*COMPILED, 'torch'])
def test_inputs_far_from_all_data_are_those_at_the_bound(kind):
    parameters = learned()
    obs, action = batch(parameters, 60)
    obs = 40.0 * obs
    mean, std = predictor(parameters, kind).predict(obs, action)
    exact_mean, exact_std = Exact(parameters).predict(obs, action)
    tolerance = 2e-4 if kind in ('float32', 'avx2', 'torch') else 0.04
    assert (mean - exact_mean).abs().max() < tolerance * (exact_mean - obs).abs().max()
    assert (std - exact_std).abs().max() < tolerance * exact_std.max()


@pytest.mark.parametrize('kind', [*COMPILED, 'torch'])
def test_a_model_gone_mad_moves_by_no_more_than_so_much_a_step(kind):
    sane = learned()
    linear = LinearPart(100.0 * torch.ones_like(sane.linear.weight), sane.linear.bias)
    model = predictor(dataclasses.replace(sane, linear=linear), kind)
    horizon = 2000
    draws = ParticleDraws.undrawn(model, horizon, 5, 'tsinf').draw(torch.Generator().manual_seed(0))
    path = rollout(model, torch.ones(14), torch.ones(40, horizon, 7), draws).abs().amax(dim=(1, 2, 3))
    assert torch.isfinite(path).all()
    assert (path[1:] - path[:-1]).max() < 100.0 * 20.0 * 21 * 0.1 + 100.0


@pytest.mark.parametrize('kind', [*COMPILED, 'torch'])
def test_a_value_that_is_not_finite_stays_in_its_row(kind):
    parameters = learned()
    model = predictor(parameters, kind)
    obs, action = batch(parameters, 60)
    clean, _ = model.predict(obs, action)
    for value in (torch.nan, torch.inf, -torch.inf):
        broken = obs.clone()
        broken[2, 7, 3] = value
        mean, _ = model.predict(broken, action)
        rows = ~torch.isfinite(mean).all(dim=-1)
        assert rows.nonzero().tolist() == [[2, 7]]
        assert torch.equal(mean[~rows], clean[~rows])


@pytest.mark.parametrize('kind', COMPILED)
def test_inputs_that_vary_little_far_from_zero_keep_their_digits(kind):
    # 8 bits of 100 are no better than 0.25; the spread around it is about 1.
    parameters = learned(offset=100.0)
    obs, action = batch(parameters, 50)
    mean, _ = predictor(parameters, kind).predict(obs, action + 100.0)
    exact, _ = Exact(parameters).predict(obs, action + 100.0)
    assert ((mean - exact) / parameters.outputs.std).abs().max() < 0.04


@pytest.mark.parametrize('size', [1, 11, 12, 13, 192, 193, 400])
@pytest.mark.parametrize('sizes', SIZES, ids=str)
@pytest.mark.parametrize('kind', COMPILED)
def test_a_row_is_predicted_the_same_whatever_rows_are_beside_it(sizes, size, kind):
    parameters = learned(sizes)
    model = predictor(parameters, kind)
    obs, action = batch(parameters, size)
    mean, std = model.predict(obs, action)
    last_mean, last_std = model.predict(obs[:, -1:], action[:, -1:])
    assert torch.equal(mean[:, -1:], last_mean)
    assert torch.equal(std[:, -1:], last_std)


@pytest.mark.parametrize('kind', COMPILED)
def test_changes_far_smaller_than_a_short_number_can_be_keep_their_digits(kind):
    parameters = learned(SIZES[1])
    small = dataclasses.replace(parameters, outputs=Normalizer(1e-6 * parameters.outputs.mean, 1e-6 * parameters.outputs.std))
    obs, action = batch(parameters, 50)
    obs = 1e-6 * obs  # So that float32 can tell them apart.
    mean, std = predictor(small, kind).predict(obs, action)
    exact_mean, exact_std = Exact(small).predict(obs, action)
    assert ((mean - exact_mean) / small.outputs.std).abs().max() < 0.04
    assert (std / exact_std - 1.0).abs().max() < 0.04


@pytest.mark.parametrize('kind', COMPILED[:2])
def test_units_far_from_zero_are_as_exact_as_those_near_it(kind):
    """One unit that is nearly linear, nearly zero or in between, as the input says: float32's digits everywhere."""
    parameters = learned((1, 1, 1, 1, 1))
    inputs = torch.cat([torch.linspace(-300.0, 300.0, 2001), torch.logspace(-30, 0, 61), -torch.logspace(-30, 0, 61)])
    weights = {name: torch.ones_like(value) if name.startswith('weights') else torch.zeros_like(value)
               for name, value in parameters.network.items()}
    scale = 16.0  # A power of two, which rounds nothing, and keeps the inputs within their bound.
    linear = LinearPart(torch.zeros(1, 2, 1), torch.zeros(1, 1, 1))
    plain = DynamicsParameters(Normalizer(torch.zeros(2), torch.full((2,), scale)), Normalizer.identity(1), linear, torch.ones(1),
                               {**parameters.network, **weights, 'weights.0': scale * weights['weights.0']})
    obs, action = inputs.view(1, -1, 1), torch.zeros(1, len(inputs), 1)
    mean, _ = predictor(plain, kind).predict(obs, action)
    exact = obs.double() + torch.nn.functional.silu(obs.double())
    assert ((mean - exact).abs() <= 3e-7 * obs.abs() + 1e-37).all()


@pytest.mark.parametrize(('device', 'precision'), [
    *(('cpu', precision) for precision in precisions('cpu')),
    *(pytest.param('cuda', precision, marks=needs_gpu) for precision in precisions('cuda'))])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_candidates_are_ranked_as_in_float64_and_the_best_is_as_good(device, precision, seed):
    parameters = learned(SIZES[1], seed)
    exact, model = Exact(parameters), Predictor(parameters, device, precision)
    generator = torch.Generator().manual_seed(seed)
    actions = 2.0 * torch.rand(200, 15, 8, generator=generator) - 1.0
    goal = torch.randn(25, generator=generator)
    draws = ParticleDraws.undrawn(exact, 15, 20, 'ts1').draw(generator)
    start = parameters.inputs.mean[:25]

    def values(dynamics, dtype, where):
        there = ParticleDraws('ts1', draws.order.to(where), draws.members.to(where), draws.noise.to(where, dtype))
        path = rollout(dynamics, start.to(where, dtype), actions.to(where, dtype), there).cpu()
        return particle_returns(lambda obs, action: -(obs - goal).square().sum(-1) - 0.01 * action.square().sum(-1), path,
                                actions).mean(dim=0)

    reduced, reference = values(model, torch.float32, device), values(exact, torch.float64, 'cpu')
    assert stats.spearmanr(reduced, reference).statistic >= 0.99
    chosen, best = reference[reduced.argmax()], reference.max()
    assert abs(chosen - best) <= 0.01 * abs(best)


def test_a_precision_that_is_not_there_is_refused_by_name():
    assert precisions('cpu', lambda precision: False) == ('float32',)
    with pytest.raises(ConfigError, match="precision 'tf32' is not there on 'cpu'; there is float32"):
        Predictor(learned(), precision='tf32')


@pytest.mark.parametrize('precision', precisions('cpu'))
def test_wrong_shapes_are_refused_in_every_precision(precision):
    model = Predictor(learned(), precision=precision)
    with pytest.raises(ShapeError, match=r'obs \(5, B, 14\) and action \(5, B, 7\), got \(5, 3, 14\) and \(5, 4, 7\)'):
        model.predict(torch.zeros(5, 3, 14), torch.zeros(5, 4, 7))
