"""The written-out gradient against autograd, and the batches that it is taken on."""

import pytest
import torch
from support.asserts import some

from mbrl_ros.models.ensemble.batches import Batch, BootstrapBatches
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.gradient import LossGradient, product_type

BATCH = 7


def make(kind=torch.float64, members=3, layers=2):
    """A network whose biases and bounds are not what they start as, and a batch: inputs, targets and weights."""
    config = EnsembleConfig(ensemble_size=members, hidden_layers=layers, hidden_size=16, weight_decay=(0.1, 0.2, 0.3),
                            logvar_penalty=0.5)
    generator = torch.Generator().manual_seed(0)
    network = Ensemble(4, 2, config, generator=generator).to(kind)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=kind)
    batch = [torch.randn(members, BATCH, size, generator=generator, dtype=kind) for size in (4, 2)]
    return network, *batch, 0.5 + torch.rand(members, BATCH, 1, generator=generator, dtype=kind)


def loss(network, inputs, targets, weights):
    """Training loss of each member as the documentation has it, shape (E,)."""
    mean, logvar = network(inputs)
    likelihood = ((torch.square(mean - targets) * torch.exp(-logvar) + logvar) * weights).mean(dim=(1, 2))
    bounds = (network.max_logvar - network.min_logvar).mean(dim=(1, 2))
    decay = sum(0.5 * rate * torch.square(weight).sum(dim=(1, 2)) for rate, weight in zip(network.decay_rates, network.weights))
    return likelihood + network.config.logvar_penalty * bounds + decay


def batch_of(inputs, targets, weights, dtype):
    """All rows, in an order that is not that of the tables."""
    inputs = torch.cat([inputs, torch.ones_like(weights)], dim=-1).to(dtype).flatten(0, 1)
    rows = torch.arange(len(inputs))
    return Batch(inputs.flip(0).contiguous(), torch.cat([targets, weights], dim=-1).flatten(0, 1), rows.flip(0), rows)


def computed(network, inputs, targets, weights, dtype):
    """Gradient of each parameter by name."""
    gradient = LossGradient(network, inputs.shape[1], dtype)
    gradient.compute(batch_of(inputs, targets, weights, dtype))
    kept = gradient.values.clone()
    gradient.values.copy_(gradient.gradient)  # the network's parameters are views, so they now show the gradient
    named = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    gradient.values.copy_(kept)
    return named


@pytest.mark.parametrize('layers', [1, 2, 4])
@pytest.mark.parametrize(('kind', 'dtype', 'tolerance'), [
    (torch.float64, torch.float64, 1e-12), (torch.float32, torch.float32, 1e-5), (torch.float32, torch.bfloat16, 0.02)])
def test_gradient_equals_autograd(layers, kind, dtype, tolerance):
    network, *batch = make(kind, layers=layers)
    loss(network, *batch).sum().backward()
    truth = {name: parameter.grad for name, parameter in network.named_parameters()}
    for name, found in some(computed(network, *batch, dtype).items()):
        assert (found - truth[name]).norm() < tolerance * truth[name].norm(), name


def test_validation_is_the_loss_without_its_penalties():
    network, inputs, targets, weights = make()
    gradient = LossGradient(network, BATCH, torch.float64)
    mean, logvar = network(inputs)
    expected = ((torch.square(mean - targets) * torch.exp(-logvar) + logvar) * weights).mean(dim=(1, 2))
    torch.testing.assert_close(gradient.validate(batch_of(inputs, targets, weights, torch.float64)), expected.detach())


def test_gradient_equals_finite_difference():
    network, *batch = make()
    found = computed(network, *batch, torch.float64)
    for name, parameter in some(network.named_parameters()):
        entry, values = tuple(size - 1 for size in parameter.shape), []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter[entry] += step
                values.append(loss(network, *batch).sum())
                parameter[entry] -= step
        assert float(found[name][entry]) == pytest.approx(float(values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(('kind', 'dtype'), [(torch.float64, torch.float64), (torch.float32, torch.bfloat16)])
def test_each_member_has_the_gradient_that_it_has_alone(kind, dtype):
    network, *batch = make(kind)
    together = computed(network, *batch, dtype)
    alone, *_ = make(kind, members=1)
    for member in range(3):
        alone.load_state_dict({name: tensor[member:member + 1] for name, tensor in network.state_dict().items()})
        for name, found in some(computed(alone, *(part[member:member + 1] for part in batch), dtype).items()):
            torch.testing.assert_close(found[0], together[name][member], rtol=1e-5, atol=1e-5)


def test_network_computes_with_the_values_of_the_buffer():
    network, inputs, *_ = make()
    before = [part.detach() for part in network(inputs)]
    gradient = LossGradient(network, BATCH, torch.float64)
    torch.testing.assert_close(network(inputs), tuple(before))
    gradient.values.zero_()
    assert not network(inputs)[0].any()


@pytest.mark.parametrize(('processor', 'is_compiled', 'fast'), [
    ({'amx_bf16': True, 'avx512_bf16': True, 'cpu_name': 'Intel Xeon'}, True, torch.float32),
    ({'amx_bf16': True, 'avx512_bf16': True, 'cpu_name': 'Intel Xeon'}, False, torch.bfloat16),
    ({'amx_bf16': False, 'avx512_bf16': True, 'cpu_name': 'AMD EPYC 9654'}, True, torch.bfloat16),
    ({'amx_bf16': False, 'avx512_bf16': True, 'cpu_name': 'Intel Xeon'}, True, torch.float32),
    ({'avx2': True}, False, torch.float32)])
def test_the_type_of_products_follows_from_processor_and_sizes(processor, is_compiled, fast):
    assert product_type('auto', 64, 64, processor, is_compiled) == torch.float32
    assert product_type('auto', 200, 256, processor, is_compiled) == fast
    assert product_type('bfloat16', 64, 64, processor, is_compiled) == torch.bfloat16
    assert product_type('float32', 200, 256, processor, is_compiled) == torch.float32


def batches(counts, batch_size):
    size = counts.shape[1]
    rows = torch.arange(float(size))
    return BootstrapBatches(rows.unsqueeze(1), torch.stack([100.0 * member + rows for member in range(len(counts))])
                            .unsqueeze(-1), counts, batch_size, torch.Generator().manual_seed(0))


def tables(batch, members):
    """Inputs (E, B, I + 1) and targets (E, B, O + 1) of a batch."""
    return (table[rows].view(members, -1, table.shape[1]) for table, rows in zip(batch[:2], batch[2:]))


def test_a_pass_holds_each_distinct_transition_once_and_weighs_it_by_its_copies():
    counts = torch.tensor([[0, 1, 2, 0, 3, 2], [1, 1, 1, 0, 0, 5]])
    drawn = batches(counts, batch_size=2)
    for _ in range(40):  # passes, beyond what is drawn at once
        inputs, targets = (torch.cat(parts, dim=1) for parts in zip(*[tables(drawn.draw(), len(counts)) for _ in range(2)]))
        targets, weights = targets.split(1, dim=-1)
        assert (inputs[..., 1] == 1.0).all()
        assert torch.equal(targets - inputs[..., :1], torch.tensor([0.0, 100.0]).view(2, 1, 1).expand(2, 4, 1))
        assert torch.equal(inputs[0, :, 0].sort().values, torch.tensor([1.0, 2.0, 4.0, 5.0]))
        expected = counts.gather(1, inputs[..., 0].long()) * 4 / counts.sum(dim=1, keepdim=True)
        torch.testing.assert_close(weights[0, :, 0], expected[0])
        assert float(weights[0].mean()) == pytest.approx(1.0)


def test_a_member_whose_bootstrap_is_empty_trains_on_all():
    inputs, targets = tables(batches(torch.tensor([[0, 0, 0], [0, 2, 1]]), batch_size=3).draw(), 2)
    assert torch.equal(inputs[0, :, 0].sort().values, torch.arange(3.0)) and (targets[0, :, -1] == 1.0).all()
