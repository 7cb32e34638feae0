"""Prediction in compiled code for the processor: the counterpart of what `Predictor` does with torch."""

import ctypes
import functools
from collections.abc import Callable

import torch
from torch.nn import functional

from mbrl_ros.learning.folding import FoldedParameters, padded
from mbrl_ros.learning.native import is_supported, library, on_threads
from mbrl_ros.learning.parameters import DynamicsParameters

_UNITS = 8
_MAX_LAYERS = 10
#: By precision: type of weights, how many a product sums over, and how often each is repeated.
_KINDS = {'float32': (torch.float32, 1, 1), 'bfloat16': (torch.bfloat16, 2, 1), 'float16': (torch.float16, 1, 2)}
PRECISIONS = tuple(_KINDS)


class _Network(ctypes.Structure):
    """`Network` of fused.c, field by field."""

    _fields_ = [
        ('members', ctypes.c_int32), ('obs_size', ctypes.c_int32), ('action_size', ctypes.c_int32),
        ('num_layers', ctypes.c_int32), ('widest', ctypes.c_int32),
        ('depth', ctypes.c_int32 * _MAX_LAYERS), ('units', ctypes.c_int32 * _MAX_LAYERS),
        ('weights', ctypes.c_void_p * _MAX_LAYERS), ('bias', ctypes.c_void_p * _MAX_LAYERS),
        ('input_mean', ctypes.c_void_p), ('input_scale', ctypes.c_void_p),
        ('linear', ctypes.c_void_p), ('linear_bias', ctypes.c_void_p), ('mean_scale', ctypes.c_void_p),
        ('smallest_variance', ctypes.c_void_p), ('largest_variance', ctypes.c_void_p),
    ]


class FusedEnsemble:
    """Predicts with all members of an ensemble; float32 in and out, and in the linear part, variances and noise.

    Args:
        parameters: What was learned; not modified, and not needed afterwards.
        precision: Of the networks' products: `float32`, `bfloat16` with float32 sums, or `float16`, whose sums are as short and
            end at 65,504; beyond is a prediction that is not finite.

    Raises:
        RuntimeError: `is_supported` is false.
    """

    def __init__(self, parameters: DynamicsParameters, precision: str) -> None:
        if not is_supported(precision):
            raise RuntimeError(f'a compiled ensemble in {precision} needs a processor with AVX-512 that multiplies it, and a '
                               'compiler at installation')
        dtype, group, repeats = _KINDS[precision]
        self._predict, self._roll_out = (getattr(library(), f'mbrl_{name}_{precision}') for name in ('predict', 'rollout'))
        members, obs_size, action_size = parameters.sizes
        folded = FoldedParameters.of(parameters)
        # In the observation's own units weights may be smaller than a float16 can be.
        scale = folded.mean.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        weights = [*folded.weights, torch.cat([folded.mean / scale, folded.logit], dim=-1)]
        biases = [*folded.biases, torch.cat([torch.zeros_like(folded.logit_bias), folded.logit_bias], dim=-1)]
        self._kept: list[torch.Tensor] = []
        native = _Network(members, obs_size, action_size, len(weights))
        native.widest = max(_whole(size, _UNITS) for size in (obs_size + action_size, *(bias.shape[-1] for bias in biases[:-1])))
        for layer, (weight, bias) in enumerate(zip(weights, biases)):
            native.depth[layer], native.units[layer] = _whole(weight.shape[1], group) // group, _whole(weight.shape[2], _UNITS)
            native.weights[layer] = self._keep(_packed(weight.to(dtype), group, repeats))
            native.bias[layer] = self._keep(padded(bias, native.units[layer]))
        native.input_mean, native.input_scale = self._keep(folded.input_mean), self._keep(folded.input_scale)
        native.linear = self._keep(_packed(folded.linear, 1, 1))
        native.linear_bias = self._keep(padded(folded.mean_bias, _whole(obs_size, _UNITS)))
        native.mean_scale = self._keep(scale)
        native.smallest_variance = self._keep(folded.smallest_variance)
        native.largest_variance = self._keep(folded.largest_variance)
        self._native = native

    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the next observation, each (E, B, O); arguments as for `Predictor.predict`."""
        obs, action = _plain(obs), _plain(action)
        mean, std = torch.empty_like(obs), torch.empty_like(obs)
        self._run(self._predict, obs.shape[1], obs, action, mean, std)
        return mean, std

    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Path; arguments as for `Predictor.roll_out`. The particles of a member share their first step."""
        count, horizon, _ = actions.shape
        ensemble_size, particles = self._native.members, members.shape[1]
        first = self.predict(*(tensor.expand(ensemble_size, count, -1) for tensor in (obs, actions[:, 0])))
        mean, std = (moment.transpose(1, 2).contiguous()[members[0]] for moment in first)
        path = torch.empty((horizon, particles, *mean.shape[1:]))
        torch.addcmul(mean, std, noise[0].unsqueeze(-1), out=path[0])
        self._run(self._roll_out, horizon, particles, count, members.to(torch.int32).contiguous(),
                  _plain(actions.permute(1, 2, 0)), _plain(noise), path)
        return path.transpose(2, 3)

    def _run(self, function: Callable[..., int], *arguments: int | torch.Tensor) -> None:
        """Call on every thread; they share the work through a counter."""
        counter = ctypes.c_int64(0)
        words = [ctypes.c_void_p(value.data_ptr()) if isinstance(value, torch.Tensor) else ctypes.c_int64(value)
                 for value in arguments]
        call = functools.partial(function, ctypes.byref(self._native), *words, ctypes.byref(counter))
        if not on_threads(torch.get_num_threads(), call):
            raise MemoryError('the compiled ensemble found no memory for its working set')

    def _keep(self, tensor: torch.Tensor) -> int:
        """Address of a tensor that lives as long as this object."""
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float32).contiguous()


def _whole(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _packed(weight: torch.Tensor, group: int, repeats: int) -> torch.Tensor:
    """Weights (E, K, N) as fused_kernel.h reads them: blocks of columns, groups of rows, columns of a block, rows of a group."""
    members, rows, columns = weight.shape
    whole = functional.pad(weight, (0, -columns % _UNITS, 0, -rows % group))
    blocks = whole.view(members, -1, group, whole.shape[2] // _UNITS, _UNITS).permute(0, 3, 1, 4, 2)
    return blocks.repeat_interleave(repeats, dim=-1)
