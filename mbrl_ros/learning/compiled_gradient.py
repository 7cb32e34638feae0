"""The compiled counterpart of the passes that `gradient.py` does with torch."""

import ctypes
import functools
import itertools
import math
from collections.abc import Sequence

import torch

from mbrl_ros.learning.batches import Batch
from mbrl_ros.learning.ensemble import Ensemble
from mbrl_ros.learning.native import library, on_threads

_LANES = 16
_MAX_LAYERS = 10
_ROWS = 8
_TILE = 32

_Places = ctypes.c_int64 * (_MAX_LAYERS + 1)
_Pointers = ctypes.c_void_p * _MAX_LAYERS


class _Network(ctypes.Structure):
    """`Network` of gradient.c, field by field."""

    _fields_ = [
        ('members', ctypes.c_int32), ('batch', ctypes.c_int32), ('num_layers', ctypes.c_int32), ('obs_size', ctypes.c_int32),
        ('stride', ctypes.c_int32), ('batch_rows', ctypes.c_int32), ('sizes', ctypes.c_int32 * (_MAX_LAYERS + 1)),
        ('decay', ctypes.c_float * _MAX_LAYERS), ('penalty', ctypes.c_float),
        ('values', ctypes.c_void_p), ('gradient', ctypes.c_void_p),
        ('first_moment', ctypes.c_void_p), ('second_moment', ctypes.c_void_p), ('places', _Places),
        ('forward', _Pointers), ('bias', _Pointers), ('backward', _Pointers), ('entries', _Pointers), ('slopes', _Pointers),
        ('bounds_shares', ctypes.c_void_p),
        ('workspaces', ctypes.c_void_p), ('workspace_size', ctypes.c_int64),
    ]


class _Step(ctypes.Structure):
    """`Step` of gradient.c, field by field."""

    _fields_ = [
        ('inputs', ctypes.c_void_p), ('targets', ctypes.c_void_p),
        ('input_rows', ctypes.c_void_p), ('target_rows', ctypes.c_void_p),
        ('rate', ctypes.c_float), ('correction', ctypes.c_float),
    ]


class CompiledPasses:
    """Forward and back in compiled code, sums in float32; results do not depend on the number of threads.

    Args:
        values: All parameters, flat, float32.
        gradient: The same for their gradient.
        shapes: Of the layers' blocks (E, in + 1, out) and the variance bounds (2, E, 1, O) in them.
        network: Regularisation.
        batch_size: B.
        dtype: Of matrix products, float32 or bfloat16.
    """

    def __init__(self, values: torch.Tensor, gradient: torch.Tensor, shapes: list[tuple[int, ...]], network: Ensemble,
                 batch_size: int, dtype: torch.dtype) -> None:
        *blocks, (_, members, _, size) = shapes
        sizes = [blocks[0][1] - 1, *(out for _, _, out in blocks)]
        # Two more, so that chunks do not begin on the same set of a cache.
        batch_rows = math.ceil(batch_size / _ROWS) * _ROWS + 2
        self._kept, self._dtype = [values, gradient], dtype
        self._descend = getattr(library(), f'mbrl_descend_{str(dtype).removeprefix("torch.")}')
        native = _Network(members, batch_size, len(blocks), size, _whole(max(sizes) + 1), batch_rows)
        native.sizes[:len(sizes)] = sizes
        native.decay[:len(blocks)] = network.decay_rates
        native.penalty = network.config.logvar_penalty / size
        native.values, native.gradient = values.data_ptr(), gradient.data_ptr()
        native.first_moment, native.second_moment = (self._buffer(len(values)) for _ in range(2))
        native.places = _Places(0, *itertools.accumulate(map(math.prod, blocks)))
        for layer, (inside, outside) in enumerate(itertools.pairwise(sizes)):
            native.forward[layer] = self._packed(members, inside, outside)
            native.bias[layer] = self._buffer(members, _whole(outside))
            native.backward[layer] = self._packed(members, outside, inside)
            native.entries[layer] = self._packed(members, batch_rows, inside + 1)
            self._kept[-1][:, inside // _LANES, :, inside % _LANES] = 1.0
            native.slopes[layer] = self._packed(members, batch_rows, outside)
        native.bounds_shares = self._buffer(members, math.ceil(batch_size / _TILE), 2, _whole(size))
        native.workspace_size = _TILE * native.stride * (4 * (len(blocks) + 1) + dtype.itemsize)
        self._num_threads = torch.get_num_threads()
        native.workspaces = self._buffer(self._num_threads, native.workspace_size, dtype=torch.uint8)
        self._native, self._steps = native, 0

    def compute(self, batch: Batch) -> None:
        """As for `LossGradient.compute`."""
        self._run([_step(batch, 0.0, 0.0)])

    def descend(self, batches: Sequence[Batch], rates: Sequence[float]) -> None:
        """As for `LossGradient.descend`; the gradient is not kept."""
        steps = []
        for batch, rate in zip(batches, rates):
            self._steps += 1
            steps.append(_step(batch, rate / (1.0 - 0.9 ** self._steps), 1.0 / math.sqrt(1.0 - 0.999 ** self._steps)))
        self._run(steps)

    def _run(self, steps: list[_Step]) -> None:
        counters = (ctypes.c_int64 * (2 + 3 * self._native.members))()
        on_threads(self._num_threads, functools.partial(
            self._descend, ctypes.byref(self._native), ctypes.c_int64(len(steps)),
            (_Step * len(steps))(*steps), counters))

    def _packed(self, members: int, rows: int, columns: int) -> int:
        """Address of matrices in chunks, as gradient.c has them."""
        group = 4 // self._dtype.itemsize
        return self._buffer(members, _whole(columns) // _LANES, (rows + 1) // 2 * 2 // group, _LANES, group, dtype=self._dtype)

    def _buffer(self, *shape: int, dtype: torch.dtype = torch.float32) -> int:
        """Address of zeros that live as long as this object."""
        self._kept.append(torch.zeros(shape, dtype=dtype))
        return self._kept[-1].data_ptr()


def _step(batch: Batch, rate: float, correction: float) -> _Step:
    return _Step(*(tensor.data_ptr() for tensor in batch), rate, correction)


def _whole(size: int) -> int:
    return -(-size // _LANES) * _LANES
