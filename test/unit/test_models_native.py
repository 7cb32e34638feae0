"""The compiled part against torch: same gradient, same step, on any number of threads; torch alone where it is not there."""

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch

from mbrl_ros.models.ensemble.batches import Batch, all_rows
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.gradient import LossGradient
from mbrl_ros.models.ensemble.kernels import fused, native

KINDS = 'float32', 'avx2', 'bfloat16'
COMPILED = [pytest.param(kind, marks=pytest.mark.skipif(
    not native.is_supported(kind), reason='needs AVX2 or AVX-512, for bfloat16 its instructions, and a compiler at installation'))
    for kind in KINDS]
#: E, I, O, hidden layers, units, batch: the yardstick, and sizes that fill no vector, pair or tile.
SIZES = [(5, 33, 25, 4, 200, 256), (2, 3, 1, 1, 1, 1), (3, 16, 16, 2, 32, 64), (1, 7, 17, 3, 33, 37), (2, 48, 40, 1, 15, 70)]


@pytest.fixture
def num_threads():
    """Torch's number of threads, put back afterwards."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def type_of(kind):
    """Of the products of a kind of compiled code."""
    return torch.bfloat16 if kind == 'bfloat16' else torch.float32


def make(sizes, dtype, backend, seed=0):
    """A gradient on a network whose biases and bounds are not what they start as, and a batch."""
    members, inputs, outputs, layers, units, rows = sizes
    config = EnsembleConfig(ensemble_size=members, hidden_layers=layers, hidden_size=units, weight_decay=(0.1, 0.2, 0.3))
    generator = torch.Generator().manual_seed(seed)
    network = Ensemble(inputs, outputs, config, generator=generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    table = torch.randn(50, inputs + 1, generator=generator)
    table[:, -1] = 1.0
    targets = torch.randn(80, outputs + 1, generator=generator)
    targets[:, -1] = 0.5 + torch.rand(80, generator=generator)
    wanted = [torch.randint(limit, (members * rows,), generator=generator) for limit in (50, 80)]
    return LossGradient(network, rows, dtype, backend), Batch(table.to(dtype), targets, *wanted)


def computed(sizes, dtype, backend):
    gradient, batch = make(sizes, dtype, backend)
    gradient.compute(batch)
    return gradient.gradient


@pytest.mark.parametrize('kind', COMPILED)
@pytest.mark.parametrize('sizes', SIZES)
def test_compiled_gradient_is_that_of_torch_within_rounding(sizes, kind):
    dtype = type_of(kind)
    compiled, by_torch = (computed(sizes, dtype, backend) for backend in (kind, 'torch'))
    assert not torch.equal(compiled, by_torch), 'both came out of the same code'
    assert (compiled - by_torch).norm() < (1e-5 if dtype is torch.float32 else 0.01) * by_torch.norm()


@pytest.mark.parametrize('kind', COMPILED)
@pytest.mark.parametrize('sizes', SIZES)
def test_compiled_step_is_adam_on_the_compiled_gradient(sizes, kind):
    dtype = type_of(kind)
    (stepped, batch), (computed_only, _) = (make(sizes, dtype, kind) for _ in range(2))
    parameter = torch.nn.Parameter(computed_only.values)
    parameter.grad = computed_only.gradient
    optimizer = torch.optim.Adam([parameter])
    start = stepped.values.clone()
    for rate in (1e-2, 5e-3, 2e-3):
        stepped.descend([batch], [rate])
        computed_only.compute(batch)
        optimizer.param_groups[0]['lr'] = rate
        optimizer.step()
    # Where the last digit of a weight is rounded to another bfloat16, its gradients differ by more.
    tolerance = 1e-5 if dtype is torch.float32 else 1e-3
    assert (stepped.values - computed_only.values).norm() < tolerance * (stepped.values - start).norm()


@pytest.mark.parametrize('kind', COMPILED[:2])
@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('rows', [1, 50, 300])
def test_compiled_validation_is_that_of_torch_within_rounding(sizes, kind, rows):
    members, inputs, outputs, *_ = sizes
    generator = torch.Generator().manual_seed(1)
    held_out = all_rows(torch.randn(rows, inputs, generator=generator), torch.randn(members, rows, outputs, generator=generator))
    compiled, by_torch = (make(sizes, torch.float32, backend)[0].validate(held_out) for backend in (kind, 'torch'))
    torch.testing.assert_close(compiled, by_torch, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('kind', COMPILED)
def test_a_validation_of_nothing_is_no_number(kind):
    gradient, _ = make(SIZES[2], type_of(kind), kind)
    assert gradient.validate(all_rows(torch.zeros(0, 16), torch.zeros(3, 0, 16))).isnan().all()


@pytest.mark.parametrize('kind', [*COMPILED, 'torch'])
@pytest.mark.parametrize('sizes', SIZES)
def test_many_steps_at_once_are_the_same_bytes_as_one_by_one(sizes, kind):
    (together, batch), (single, _) = (make(sizes, type_of(kind), kind) for _ in range(2))
    batches = [batch._replace(input_rows=batch.input_rows.roll(step)) for step in range(5)]
    rates = [1e-2 / (step + 1) for step in range(5)]
    together.descend(batches, rates)
    for one, rate in zip(batches, rates):
        single.descend([one], [rate])
    assert torch.equal(together.values, single.values)


@pytest.mark.parametrize('kind', COMPILED)
@pytest.mark.parametrize('sizes', SIZES)
def test_steps_are_the_same_bytes_on_any_number_of_threads(sizes, kind, num_threads):
    def stepped(threads):
        torch.set_num_threads(threads)
        gradient, batch = make(sizes, type_of(kind), kind)
        gradient.descend([batch] * 5, [1e-2] * 5)
        return gradient.values
    alone = stepped(1)
    assert torch.equal(alone, stepped(2)) and torch.equal(alone, stepped(5))


@pytest.mark.parametrize('kind', COMPILED)
def test_validation_is_the_same_bytes_on_any_number_of_threads(kind, num_threads):
    gradient, _ = make(SIZES[0], type_of(kind), kind)
    held_out = all_rows(torch.randn(500, 33), torch.randn(5, 500, 25))
    losses = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        losses.append(gradient.validate(held_out))
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])


@pytest.mark.parametrize(('there', 'taken'), [
    (('float32', 'avx2'), 'float32'), (('avx2',), 'avx2'), (('bfloat16',), None), ((), None)])
def test_the_fastest_kind_that_is_there_is_taken(there, taken):
    assert native.fastest('float32', there.__contains__) == taken


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_torch_does_the_work_where_it_is_asked_to(dtype):
    gradient, batch = make(SIZES[2], dtype, 'torch')
    before = gradient.values.clone()
    gradient.descend([batch], [1e-2])
    assert torch.isfinite(gradient.values).all() and not torch.equal(gradient.values, before)


@pytest.mark.skipif(not fused.is_supported('float32'), reason='needs AVX2, and a compiler at installation')
def test_no_memory_for_the_working_set_is_an_error():
    """In a process of its own, which may take no more than it has."""
    script = """
        import resource
        import torch
        from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
        from mbrl_ros.models.ensemble.linear import LinearPart
        from mbrl_ros.models.ensemble.normalizer import Normalizer
        from mbrl_ros.models.ensemble.kernels.fused import FusedEnsemble
        from mbrl_ros.models.ensemble.parameters import DynamicsParameters

        def number(size):
            return Normalizer(torch.zeros(size), torch.ones(size))

        torch.set_num_threads(1)
        network = Ensemble(2, 1, EnsembleConfig(ensemble_size=1, hidden_layers=1, hidden_size=2048),
                           generator=torch.Generator().manual_seed(0)).state_dict()
        linear = LinearPart(torch.zeros(1, 2, 1), torch.zeros(1, 1, 1))
        model = FusedEnsemble(DynamicsParameters(number(2), number(1), linear, torch.ones(1), network), 'float32')
        obs = torch.zeros(1, 300, 1)
        with open('/proc/self/statm') as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken, taken))
        model.predict(obs, obs)
    """
    # The working set is not to come from what was freed before.
    run = subprocess.run([sys.executable, '-c', textwrap.dedent(script)], capture_output=True, text=True, check=False,
                         env={**os.environ, 'MALLOC_MMAP_THRESHOLD_': '65536'})
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == 'MemoryError: the compiled ensemble found no memory for its working set'


@pytest.mark.parametrize('old', [SimpleNamespace(), SimpleNamespace(mbrl_interface=lambda: native.INTERFACE - 1)])
def test_what_was_compiled_from_other_sources_is_not_used_and_that_is_said(old):
    with pytest.warns(RuntimeWarning, match='_native.so was compiled from other sources, and torch does its work; install the'):
        assert native.current(old, '_native.so') is None
    same = SimpleNamespace(mbrl_interface=lambda: native.INTERFACE)
    assert native.current(same, '_native.so') is same
