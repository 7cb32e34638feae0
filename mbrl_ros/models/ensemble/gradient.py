"""Gradient of the training loss without autograd, in less than half of its time, and far less with bfloat16 products.

All parameters are in one buffer, which is one tensor to an optimiser. Biases are the last row of their layer's block and
multiply a column of ones, so one matrix product gives the gradients of weights and biases. A step allocates nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mbrl_ros.models.ensemble.batches import Batch
from mbrl_ros.models.ensemble.ensemble import Ensemble
from mbrl_ros.models.ensemble.kernels import native
from mbrl_ros.models.ensemble.kernels.compiled_gradient import CompiledPasses

PRECISIONS = ('auto', 'float32', 'bfloat16')
#: Units times rows of a member from which bfloat16 was faster, measured for 64 to 256 units and 32 to 256 rows.
_LOW_PRECISION_SIZE = 16_384


def product_type(precision: str, hidden_size: int, batch_size: int, processor: Mapping[str, Any] | None = None,
                 is_compiled: bool | None = None) -> torch.dtype:
    """Type of the matrix products in a gradient step; `auto` depends on processor and sizes alone, so that runs repeat.

    Args:
        precision: One of `PRECISIONS`.
        hidden_size: Units of each hidden layer.
        batch_size: Transitions a step.
        processor: Capabilities of the processor as torch lists them; those of this machine by default.
        is_compiled: Whether there is compiled code for bfloat16; that of this machine by default.
    """
    if precision == 'auto':
        processor = torch.cpu.get_capabilities() if processor is None else processor
        is_compiled = native.is_supported('bfloat16') if is_compiled is None else is_compiled
        # Intel's vector instructions are no faster in bfloat16 than in float32, and only torch uses its matrix units.
        uses_matrix_units = processor.get('amx_bf16') and not is_compiled
        is_faster = uses_matrix_units or (processor.get('avx512_bf16') and 'Intel' not in processor.get('cpu_name', ''))
        precision = 'bfloat16' if is_faster and hidden_size * batch_size >= _LOW_PRECISION_SIZE else 'float32'
    return getattr(torch, precision)


class LossGradient:
    """Gradient of the loss of all members; with bfloat16 products, weights and their gradients stay float32.

    Each member's loss is the mean over its batch of `(mean - target)^2 / variance + log(variance)`, times the row's weight,
    plus `logvar_penalty * (max_logvar - min_logvar)`, both means over dimensions, plus half the weights' squares times
    their `weight_decay`. Every method raises MemoryError if compiled code finds no memory for its working set.

    Args:
        network: Its parameters become views of `values`, so a change of one changes the other.
        batch_size: B.
        dtype: Type of the matrix products; the loss has the network's type.
        backend: As for `Predictor`.

    Attributes:
        values: All parameters, flat.
        gradient: Result of `compute`, flat, in the same order.
    """

    def __init__(self, network: Ensemble, batch_size: int, dtype: torch.dtype, backend: str = 'auto') -> None:
        config, kind = network.config, network.max_logvar.dtype
        members, size = config.ensemble_size, network.output_size
        shapes = [*((members, weight.shape[1] + 1, weight.shape[2]) for weight in network.weights), (2, members, 1, size)]
        self.values, self.gradient = (torch.zeros(sum(map(math.prod, shapes)), dtype=kind) for _ in range(2))
        _adopt(network, _split(self.values, shapes))
        precision, what = str(dtype).removeprefix('torch.'), (self.values, self.gradient, shapes, network, batch_size)
        is_compiled = kind is torch.float32 and native.kind_of(backend, precision) is not None
        self._passes = CompiledPasses(*what, precision, backend) if is_compiled else _TorchPasses(*what, dtype)

    @torch.no_grad()
    def compute(self, batch: Batch) -> None:
        """Overwrite `gradient`."""
        self._passes.compute(batch)

    @torch.no_grad()
    def descend(self, batches: Sequence[Batch], rates: Sequence[float]) -> None:
        """Take a step of Adam on each batch, with a rate for each; leaves `gradient` undefined."""
        self._passes.descend(batches, rates)

    @torch.no_grad()
    def validate(self, batch: Batch) -> torch.Tensor:
        """Each member's loss without the penalties on its parameters, shape (E,).

        Args:
            batch: A batch of any size, with inputs in the network's type.
        """
        return self._passes.validate(batch)


class _TorchPasses:
    """Forward and back in torch's batched products."""

    def __init__(self, values: torch.Tensor, gradient: torch.Tensor, shapes: list[tuple[int, ...]], network: Ensemble,
                 batch_size: int, dtype: torch.dtype) -> None:
        self._network = network
        kind, (_, members, _, size) = values.dtype, shapes[-1]
        self._bounds, self._bounds_gradient = (_split(flat, shapes)[-1] for flat in (values, gradient))
        shapes = shapes[:-1]
        num_in_blocks = sum(map(math.prod, shapes))
        parameter = torch.nn.Parameter(values)
        parameter.grad = gradient
        self._optimizer = torch.optim.Adam([parameter], fused=True)
        self._block_values, self._block_gradient = values[:num_in_blocks], gradient[:num_in_blocks]
        self._penalty = torch.tensor([1.0, -1.0], dtype=kind).view(2, 1, 1, 1) * network.config.logvar_penalty / size
        self._decay = torch.zeros(num_in_blocks, dtype=kind)
        for rate, decay in zip(network.decay_rates, _split(self._decay, shapes)):
            decay[:, :-1] = rate
        self._low_values, self._low_gradient = self._block_values, self._block_gradient
        if dtype != kind:
            self._low_values, self._low_gradient = (torch.zeros(num_in_blocks, dtype=dtype) for _ in range(2))
        self._blocks, self._gradients = _split(self._low_values, shapes), _split(self._low_gradient, shapes)
        self._transposed = [block[:, :-1].transpose(1, 2) for block in self._blocks]

        def buffer(columns: int, kind: torch.dtype = dtype) -> torch.Tensor:
            return torch.ones(members, batch_size, columns, dtype=kind)

        self._inputs, self._targets = buffer(shapes[0][1]), buffer(size + 1, kind)
        widths = [shape[2] for shape in shapes]
        self._outputs = [buffer(width) for width in widths]                    # (E, B, units), before the activation
        self._hidden = [buffer(width + 1) for width in widths[:-1]]            # (E, B, units + 1), the last stays 1
        self._activated = [hidden[..., :-1] for hidden in self._hidden]
        self._backward = [buffer(width) for width in widths[:-1]]
        self._head = self._outputs[-1] if dtype == kind else buffer(widths[-1], kind)
        self._head_gradient = buffer(widths[-1], kind)
        self._error, self._share, self._inverse, self._slope = (buffer(size, kind) for _ in range(4))
        self._scale = 1.0 / (batch_size * size)

    def compute(self, batch: Batch) -> None:
        inputs, targets = self._inputs, self._targets
        torch.index_select(batch.inputs, 0, batch.input_rows, out=inputs.view(-1, inputs.shape[-1]))
        torch.index_select(batch.targets, 0, batch.target_rows, out=targets.view(-1, targets.shape[-1]))
        if self._low_values is not self._block_values:
            self._low_values.copy_(self._block_values)
        layers = len(self._blocks)
        entries = [inputs, *self._hidden]
        for layer in range(layers):
            torch.bmm(entries[layer], self._blocks[layer], out=self._outputs[layer])
            if layer < layers - 1:
                torch.ops.aten.silu.out(self._outputs[layer], out=self._activated[layer])
        slope = self._output_slope(targets[..., :-1], targets[..., -1:])
        for layer in reversed(range(layers)):
            torch.bmm(entries[layer].transpose(1, 2), slope, out=self._gradients[layer])
            if layer:
                below, through = self._outputs[layer - 1], self._backward[layer - 1]
                torch.bmm(slope, self._transposed[layer], out=through)
                slope = torch.ops.aten.silu_backward.grad_input(through, below, grad_input=through)
        if self._low_gradient is not self._block_gradient:
            self._block_gradient.copy_(self._low_gradient)
        self._block_gradient.addcmul_(self._decay, self._block_values)

    def descend(self, batches: Sequence[Batch], rates: Sequence[float]) -> None:
        for batch, rate in zip(batches, rates):
            self.compute(batch)
            self._optimizer.param_groups[0]['lr'] = rate
            self._optimizer.step()

    def validate(self, batch: Batch) -> torch.Tensor:
        members = self._network.config.ensemble_size
        inputs, targets = (table[rows].view(members, -1, table.shape[1]) for table, rows in zip(batch[:2], batch[2:]))
        mean, logvar = self._network(inputs[..., :-1])
        loss = torch.square(mean - targets[..., :-1]) * torch.exp(-logvar) + logvar
        return (loss * targets[..., -1:]).mean(dim=(1, 2))

    def _output_slope(self, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Gradient at the last layer's outputs; also writes the gradient of the variance bounds.

        The softly bounded log-variance of a raw output v is `log(exp(min) + exp(max) * share)`, share = sigmoid(v - max).
        """
        head, size = self._head, targets.shape[-1]
        if head is not self._outputs[-1]:
            head.copy_(self._outputs[-1])
        largest, smallest = torch.exp(self._bounds)
        share = torch.sub(head[..., size:], self._bounds[0], out=self._share).sigmoid_()
        inverse = torch.addcmul(smallest, largest, share, out=self._inverse).reciprocal_()
        error = torch.sub(head[..., :size], targets, out=self._error).mul_(inverse)
        scale = weights * self._scale
        slope = torch.addcmul(inverse, error, error, value=-1.0, out=self._slope).mul_(scale)  # of the variance
        torch.mul(error, 2.0 * scale, out=self._head_gradient[..., :size])
        self._bounds_gradient[1] = slope.sum(dim=1, keepdim=True) * smallest
        slope.mul_(share)
        squared = share.mul_(slope)
        self._bounds_gradient[0] = squared.sum(dim=1, keepdim=True) * largest
        torch.mul(slope.sub_(squared), largest, out=self._head_gradient[..., size:])
        self._bounds_gradient.add_(self._penalty)
        if head is self._outputs[-1]:
            return self._head_gradient
        return self._outputs[-1].copy_(self._head_gradient)


def _split(flat: torch.Tensor, shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    parts = flat.split([math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes)]


@torch.no_grad()
def _adopt(network: Ensemble, parts: list[torch.Tensor]) -> None:
    """Move the network's parameters into the buffer: the layers' blocks, then both variance bounds."""
    *blocks, bounds = parts
    places = [*[(weight, block[:, :-1]) for weight, block in zip(network.weights, blocks)],
              *[(bias, block[:, -1:]) for bias, block in zip(network.biases, blocks)],
              (network.max_logvar, bounds[0]), (network.min_logvar, bounds[1])]
    for parameter, place in places:
        place.copy_(parameter)
        parameter.data = place
