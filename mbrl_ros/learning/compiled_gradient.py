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
#: Into how many pieces for each thread the steps of a call are cut.
_PIECES = 4
_VALIDATED_AT_ONCE = 96
_NO_MEMORY = 'compiled training found no memory for its working set'


class _Network(ctypes.Structure):
    """`Network` of gradient.c, field by field."""

    _fields_ = [
        ('members', ctypes.c_int32), ('batch', ctypes.c_int32), ('num_layers', ctypes.c_int32), ('obs_size', ctypes.c_int32),
        ('sizes', ctypes.c_int32 * (_MAX_LAYERS + 1)), ('decay', ctypes.c_float * _MAX_LAYERS), ('penalty', ctypes.c_float),
        ('values', ctypes.c_void_p), ('gradient', ctypes.c_void_p), ('places', ctypes.c_int64 * (_MAX_LAYERS + 1)),
        ('moments', ctypes.c_void_p), ('moments_size', ctypes.c_int64),
    ]


class _Step(ctypes.Structure):
    """`Step` of gradient.c, field by field."""

    _fields_ = [
        ('inputs', ctypes.c_void_p), ('targets', ctypes.c_void_p),
        ('input_rows', ctypes.c_void_p), ('target_rows', ctypes.c_void_p),
        ('rate', ctypes.c_float), ('epsilon', ctypes.c_float),
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
        self._descend = getattr(library(), f'mbrl_descend_{str(dtype).removeprefix("torch.")}')
        native = _Network(members, batch_size, len(blocks), size)
        native.sizes[:len(sizes)] = sizes
        native.decay[:len(blocks)] = network.decay_rates
        native.penalty = network.config.logvar_penalty / size
        native.places[:len(blocks) + 1] = 0, *itertools.accumulate(map(math.prod, blocks))
        native.moments_size = 2 * (sum(rows * _whole(columns) for _, rows, columns in blocks) + 2 * _whole(size))
        # A line of the cache more, so that they can begin with one.
        moments = torch.zeros(members * native.moments_size + _LANES)
        native.values, native.gradient = values.data_ptr(), gradient.data_ptr()
        native.moments = -(-moments.data_ptr() // 64) * 64
        self._kept = values, gradient, moments
        self._num_threads = min(torch.get_num_threads(), members)
        self._native, self._steps = native, 0

    def compute(self, batch: Batch) -> None:
        """As for `LossGradient.compute`."""
        self._run([_step(batch, 0.0, 0.0)])

    def descend(self, batches: Sequence[Batch], rates: Sequence[float]) -> None:
        """As for `LossGradient.descend`; the gradient is not kept."""
        steps = []
        for batch, rate in zip(batches, rates):
            self._steps += 1
            # The moments are sums, not means, and gradient.c adds this `epsilon` to twice the root of the second one.
            twice_root = 2.0 * math.sqrt((1.0 - 0.999 ** self._steps) / 0.001)
            steps.append(_step(batch, 0.1 * rate * twice_root / (1.0 - 0.9 ** self._steps), 1e-8 * twice_root))
        self._run(steps)

    def validate(self, batch: Batch) -> torch.Tensor:
        """As for `LossGradient.validate`."""
        members, size = self._native.members, self._native.obs_size
        rows = len(batch.input_rows) // members
        tiles = math.ceil(rows / _VALIDATED_AT_ONCE)
        sums = torch.empty(members, tiles)
        call = functools.partial(library().mbrl_validate, ctypes.byref(self._native), ctypes.byref(_step(batch, 0.0, 0.0)),
                                 ctypes.c_int64(rows), ctypes.c_int64(tiles), ctypes.c_void_p(sums.data_ptr()),
                                 ctypes.byref(ctypes.c_int64(0)))
        if not on_threads(torch.get_num_threads(), call):
            raise MemoryError(_NO_MEMORY)
        return sums.sum(dim=1) / (rows * size)

    def _run(self, steps: list[_Step]) -> None:
        counters = (ctypes.c_int64 * (1 + self._native.members))()
        call = functools.partial(self._descend, ctypes.byref(self._native), ctypes.c_int64(len(steps)),
                                 (_Step * len(steps))(*steps), ctypes.c_int64(_PIECES * self._num_threads), counters)
        if not on_threads(self._num_threads, call):
            raise MemoryError(_NO_MEMORY)


def _step(batch: Batch, rate: float, correction: float) -> _Step:
    return _Step(*(tensor.data_ptr() for tensor in batch), rate, correction)


def _whole(size: int) -> int:
    return -(-size // _LANES) * _LANES
