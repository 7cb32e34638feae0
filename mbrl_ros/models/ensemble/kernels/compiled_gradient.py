"""Compiled gradient steps and validation; `gradient.py` has the same passes in torch."""

import ctypes
import itertools
import math
from collections.abc import Callable, Sequence

import torch

from mbrl_ros.models.ensemble.batches import Batch
from mbrl_ros.models.ensemble.ensemble import Ensemble
from mbrl_ros.models.ensemble.kernels.folding import whole
from mbrl_ros.models.ensemble.kernels.native import fastest, kind_of, library

#: Lanes of the widest vectors.
_LANES = 16
_MAX_LAYERS = 10
#: Pieces for each thread that the steps of a call are cut into.
_PIECES = 4
#: Most rows that are validated at once.
_TILE = 96


class _Network(ctypes.Structure):
    """The struct `Network` of gradient.c."""

    _fields_ = [
        ('members', ctypes.c_int32), ('batch', ctypes.c_int32), ('num_layers', ctypes.c_int32), ('obs_size', ctypes.c_int32),
        ('sizes', ctypes.c_int32 * (_MAX_LAYERS + 1)), ('decay', ctypes.c_float * _MAX_LAYERS), ('penalty', ctypes.c_float),
        ('values', ctypes.c_void_p), ('gradient', ctypes.c_void_p), ('places', ctypes.c_int64 * (_MAX_LAYERS + 1)),
        ('moments', ctypes.c_void_p), ('moments_size', ctypes.c_int64),
    ]


class _Step(ctypes.Structure):
    """The struct `Step` of gradient.c."""

    _fields_ = [
        ('inputs', ctypes.c_void_p), ('targets', ctypes.c_void_p), ('input_rows', ctypes.c_void_p),
        ('target_rows', ctypes.c_void_p), ('rate', ctypes.c_float), ('epsilon', ctypes.c_float),
    ]


class CompiledPasses:
    """Forward and backward passes and validation in compiled code, with sums in float32.

    Results do not depend on the number of threads. Every method raises MemoryError if there is no memory for the working set.

    Args:
        values: All parameters, flat, float32.
        gradient: Their gradient, flat, float32.
        shapes: Shapes of the parts of both: layers' blocks (E, in + 1, out), then the variance bounds (2, E, 1, O).
        network: Its regularisation is used.
        batch_size: B.
        precision: Precision of the matrix products, float32 or bfloat16.
        backend: As for `LossGradient`, except torch.
    """

    def __init__(self, values: torch.Tensor, gradient: torch.Tensor, shapes: list[tuple[int, ...]], network: Ensemble,
                 batch_size: int, precision: str, backend: str = 'auto') -> None:
        *blocks, (_, members, _, size) = shapes
        sizes = [blocks[0][1] - 1, *(out for _, _, out in blocks)]
        kind = kind_of(backend, precision)
        self._descend = getattr(library(), f'mbrl_descend_{kind}')
        self._validate = getattr(library(), f'mbrl_validate_{kind if precision == "float32" else fastest("float32")}')
        native = _Network(members, batch_size, len(blocks), size)
        native.sizes[:len(sizes)] = sizes
        native.decay[:len(blocks)] = network.decay_rates
        native.penalty = network.config.logvar_penalty / size
        native.places[:len(blocks) + 1] = 0, *itertools.accumulate(map(math.prod, blocks))
        native.moments_size = 2 * (sum(rows * whole(columns, _LANES) for _, rows, columns in blocks) + 2 * whole(size, _LANES))
        moments = torch.zeros(members, native.moments_size)
        native.values, native.gradient, native.moments = (tensor.data_ptr() for tensor in (values, gradient, moments))
        self._kept = values, gradient, moments
        self._native, self._steps = native, 0

    def compute(self, batch: Batch) -> None:
        """As for `LossGradient.compute`."""
        self._take([_step(batch)])

    def descend(self, batches: Sequence[Batch], rates: Sequence[float]) -> None:
        """As for `LossGradient.descend`; does not write the gradient."""
        steps = []
        for batch, rate in zip(batches, rates):
            self._steps += 1
            # The moments of the compiled code are sums, and it adds `epsilon` to twice the root of the second one.
            scale = 2.0 * math.sqrt((1.0 - 0.999 ** self._steps) / 0.001)
            steps.append(_step(batch, 0.1 * rate * scale / (1.0 - 0.9 ** self._steps), 1e-8 * scale))
        self._take(steps)

    def validate(self, batch: Batch) -> torch.Tensor:
        """As for `LossGradient.validate`."""
        members, size = self._native.members, self._native.obs_size
        rows = len(batch.input_rows) // members
        tiles = max(1, math.ceil(rows / _TILE))
        sums = torch.empty(members, tiles)
        self._run(torch.get_num_threads(), self._validate, ctypes.byref(_step(batch)), ctypes.c_int64(rows),
                  ctypes.c_int64(tiles), ctypes.c_void_p(sums.data_ptr()))
        return sums.sum(dim=1) / (rows * size)

    def _take(self, steps: list[_Step]) -> None:
        members = self._native.members
        num_threads = min(torch.get_num_threads(), members)
        self._run(num_threads, self._descend, ctypes.c_int64(len(steps)), (_Step * len(steps))(*steps),
                  ctypes.c_int64(_PIECES * num_threads), (ctypes.c_int64 * members)())

    def _run(self, num_threads: int, function: Callable[..., int], *arguments: object) -> None:
        if function(ctypes.byref(self._native), num_threads, *arguments):
            raise MemoryError('compiled training found no memory for its working set')


def _step(batch: Batch, rate: float = 0.0, epsilon: float = 0.0) -> _Step:
    return _Step(*(tensor.data_ptr() for tensor in batch), rate, epsilon)
