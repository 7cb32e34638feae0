"""Prediction in compiled code on a CPU, with the results of `Predictor` in torch."""

import copy
import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional

from mbrl_ros.models.ensemble.kernels import native
from mbrl_ros.models.ensemble.kernels.folding import FoldedParameters, padded, whole
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.spaces.frame import Frame
from mbrl_ros.spaces.tool_frame import ToolFrame

_MAX_LAYERS = 10
PRECISIONS = ('float32', 'bfloat16', 'float16')
#: A member predicts this many rows as fast as one.
_FEW = 32


class _Kind(NamedTuple):
    """Layout of weights for one kind of compiled code; see `vectors.h`.

    Attributes:
        dtype: Type of the weights.
        units: Units in a block.
        group: Number of weights that one product sums over.
        repeats: Number of copies of each weight.
    """

    dtype: torch.dtype
    units: int = 8
    group: int = 1
    repeats: int = 1


_KINDS = {
    'float32': _Kind(torch.float32),
    'avx2': _Kind(torch.float32, units=4),
    'bfloat16': _Kind(torch.bfloat16, group=2),
    'float16': _Kind(torch.float16, repeats=2),
}


class _ToolFrame(ctypes.Structure):
    """The struct `ToolFrame` of fused.c."""

    _fields_ = [(name, ctypes.c_float) for name in ('offset_m', 'height_m', 'closeness_m', 'symmetry')]


class _Network(ctypes.Structure):
    """The struct `Network` of fused.c."""

    _fields_ = [
        ('members', ctypes.c_int32), ('obs_size', ctypes.c_int32), ('action_size', ctypes.c_int32),
        ('num_layers', ctypes.c_int32), ('widest', ctypes.c_int32),
        ('depth', ctypes.c_int32 * _MAX_LAYERS), ('units', ctypes.c_int32 * _MAX_LAYERS),
        ('weights', ctypes.c_void_p * _MAX_LAYERS), ('bias', ctypes.c_void_p * _MAX_LAYERS),
        ('input_mean', ctypes.c_void_p), ('input_scale', ctypes.c_void_p),
        ('linear', ctypes.c_void_p), ('linear_bias', ctypes.c_void_p), ('mean_scale', ctypes.c_void_p),
        ('smallest_variance', ctypes.c_void_p), ('largest_variance', ctypes.c_void_p), ('frame', ctypes.c_void_p),
    ]


def is_supported(precision: str) -> bool:
    """Whether compiled code can predict in a precision on this processor."""
    return native.fastest(precision) is not None


class FusedEnsemble:
    """Predicts with all members of an ensemble. Inputs, outputs, linear part, variances and noise are float32.

    Args:
        parameters: Learned parameters; not modified, and not needed afterwards.
        precision: Precision of the networks' products: `float32`, `bfloat16` with float32 sums, or `float16` with float16 sums,
            where a sum beyond 65,504 makes the prediction infinite or NaN.
        backend: As for `Predictor`.

    Raises:
        RuntimeError: `is_supported` is false.
    """

    def __init__(self, parameters: DynamicsParameters, precision: str, backend: str = 'auto') -> None:
        name = native.kind_of(backend, precision)
        if name is None:
            raise RuntimeError(f'a compiled ensemble in {precision} needs a compiler at installation and a processor that '
                               'multiplies it: AVX2 for float32, AVX-512 for the others')
        kind = _KINDS[name]
        self._predict, self._roll_out = (getattr(native.library(), f'mbrl_{what}_{name}') for what in ('predict', 'rollout'))
        members, obs_size, action_size = parameters.sizes
        folded = FoldedParameters.of(parameters)
        # In the observation's own units weights may be too small for float16.
        scale = folded.mean.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        weights = [*folded.weights, torch.cat([folded.mean / scale, folded.logit], dim=-1)]
        biases = [*folded.biases, torch.cat([torch.zeros_like(folded.logit_bias), folded.logit_bias], dim=-1)]
        self._kept: list[torch.Tensor] = []
        network = _Network(members, obs_size, action_size, len(weights))
        widths = obs_size + action_size, *(bias.shape[-1] for bias in biases[:-1])
        network.widest = max(whole(size, kind.units) for size in widths)
        for layer, (weight, bias) in enumerate(zip(weights, biases)):
            network.depth[layer] = whole(weight.shape[1], kind.group) // kind.group
            network.units[layer] = whole(weight.shape[2], kind.units)
            packed = _packed(weight.to(kind.dtype), kind.units, kind.group)
            network.weights[layer] = self._keep(packed.repeat_interleave(kind.repeats, dim=-1))
            network.bias[layer] = self._keep(padded(bias, network.units[layer]))
        network.input_mean, network.input_scale = self._keep(folded.input_mean), self._keep(folded.input_scale)
        network.linear = self._keep(_packed(folded.linear, kind.units))
        network.linear_bias = self._keep(padded(folded.mean_bias, whole(obs_size, kind.units)))
        network.mean_scale = self._keep(scale)
        network.smallest_variance = self._keep(folded.smallest_variance)
        network.largest_variance = self._keep(folded.largest_variance)
        self._network = network

    def in_frame(self, frame: Frame) -> 'FusedEnsemble | None':
        """A copy of these networks that takes and predicts observations outside of the frame.

        None unless the frame is a `ToolFrame` of the networks' sizes; no other frame has compiled code.
        """
        sizes = self._network.obs_size, self._network.action_size
        if type(frame) is not ToolFrame or sizes != (frame.obs_size, frame.action_size):
            return None
        framed = copy.copy(self)
        framed._scales = _ToolFrame(*frame.scales)
        framed._network = _Network.from_buffer_copy(self._network)
        framed._network.frame = ctypes.addressof(framed._scales)
        return framed

    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the next observation, each (E, B, O); arguments as for `Predictor.predict`.

        Raises:
            MemoryError: There is no memory for the working set.
        """
        obs, action = _plain(obs), _plain(action)
        mean, std = torch.empty_like(obs), torch.empty_like(obs)
        self._run(self._predict, obs.shape[1], obs, action, mean, std)
        return mean, std

    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor,
                 noise: torch.Tensor) -> torch.Tensor | None:
        """As `Predictor.roll_out`; the particles of a member share their first step.

        None for so few candidates that single steps, which predict all particles of a member together, are faster.

        Raises:
            MemoryError: There is no memory for the working set.
        """
        count, horizon, _ = actions.shape
        ensemble_size, particles, obs_size = self._network.members, members.shape[1], self._network.obs_size
        if ensemble_size < particles <= ensemble_size * _FEW // count:
            return None
        first = torch.empty((ensemble_size, 2, obs_size, count))
        path = torch.empty((horizon, particles, obs_size, count))
        self._run(self._roll_out, horizon, particles, count, members.to(torch.int32).contiguous(), _plain(obs),
                  _plain(actions.permute(1, 2, 0)), _plain(noise), first, path)
        return path.transpose(2, 3)

    def _run(self, function: Callable[..., int], *arguments: int | torch.Tensor) -> None:
        words = [ctypes.c_void_p(value.data_ptr()) if isinstance(value, torch.Tensor) else ctypes.c_int64(value)
                 for value in arguments]
        if function(ctypes.byref(self._network), torch.get_num_threads(), *words):
            raise MemoryError('the compiled ensemble found no memory for its working set')

    def _keep(self, tensor: torch.Tensor) -> int:
        """Address of the tensor, which is kept alive as long as this object."""
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float32).contiguous()


def _packed(weight: torch.Tensor, units: int, group: int = 1) -> torch.Tensor:
    """Weights (E, K, N) as fused_kernel.h reads them: blocks of columns, groups of rows, columns of a block, rows of a group."""
    members, rows, columns = weight.shape
    full = functional.pad(weight, (0, -columns % units, 0, -rows % group))
    return full.view(members, -1, group, full.shape[2] // units, units).permute(0, 3, 1, 4, 2)
