"""Prediction in compiled code for the processor: the counterpart of what `Predictor` does with torch."""

import ctypes
import functools
from collections.abc import Callable

import torch

from mbrl_ros.learning.folding import FoldedParameters, padded
from mbrl_ros.learning.native import is_supported, library, on_threads
from mbrl_ros.learning.parameters import DynamicsParameters

_LANES = 16
_WIDTH = 2
_MAX_LAYERS = 10
#: By precision: type of weights, and rows and columns of them in a vector.
_KINDS = {'float32': (torch.float32, 1, 16), 'bfloat16': (torch.bfloat16, 2, 16), 'float16': (torch.float16, 1, 32)}
PRECISIONS = tuple(_KINDS)


class _Network(ctypes.Structure):
    """`Network` of fused.c, field by field."""

    _fields_ = [
        ('members', ctypes.c_int32), ('obs_size', ctypes.c_int32), ('action_size', ctypes.c_int32),
        ('num_layers', ctypes.c_int32), ('padded_obs', ctypes.c_int32), ('stride', ctypes.c_int32),
        ('depth', ctypes.c_int32 * _MAX_LAYERS), ('columns', ctypes.c_int32 * _MAX_LAYERS),
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
        dtype, group, block = _KINDS[precision]
        self._predict, self._roll_out = (getattr(library(), f'mbrl_{name}_{precision}') for name in ('predict', 'rollout'))
        members, obs_size, action_size = parameters.sizes
        folded, wide = FoldedParameters.of(parameters), _whole(obs_size, block)
        # In the observation's own units weights may be smaller than a float16 can be.
        scale = folded.mean.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        # Mean and logit each begin on a whole vector.
        weights = [*folded.weights, torch.cat([padded(folded.mean / scale, wide), padded(folded.logit, wide)], dim=-1)]
        biases = [*folded.biases, torch.cat([torch.zeros(members, 1, wide), padded(folded.logit_bias, wide)], dim=-1)]
        self._kept: list[torch.Tensor] = []
        native = _Network(members, obs_size, action_size, len(weights), wide)
        native.stride = max(_whole(size, block) for size in (obs_size + action_size, *(bias.shape[-1] for bias in biases[:-1])))
        for layer, (weight, bias) in enumerate(zip(weights, biases)):
            depth, columns = _whole(weight.shape[1], group) // group, _whole(weight.shape[2], block)
            native.depth[layer], native.columns[layer] = depth, columns
            native.weights[layer] = self._keep(_packed(weight.to(dtype), depth, group, columns, _WIDTH * block))
            native.bias[layer] = self._keep(padded(bias, columns).reshape(members, -1))
        inputs = _whole(obs_size + action_size, _LANES)
        native.input_mean = self._keep(padded(folded.input_mean, inputs))
        native.input_scale = self._keep(padded(folded.input_scale, inputs))
        native.linear = self._keep(padded(folded.linear, wide))
        native.linear_bias = self._keep(padded(folded.mean_bias, wide))
        native.mean_scale = self._keep(padded(scale, wide))
        native.smallest_variance = self._keep(padded(folded.smallest_variance, wide))
        native.largest_variance = self._keep(padded(folded.largest_variance, wide))
        self._native = native

    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the next observation, each (E, B, O); arguments as for `Predictor.predict`."""
        obs, action = _plain(obs), _plain(action)
        mean, std = torch.empty_like(obs), torch.empty_like(obs)
        self._run(self._predict, obs.shape[1], obs, action, mean, std)
        return mean, std

    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor, noise: torch.Tensor,
                 path: torch.Tensor) -> None:
        """Fill the path; arguments as for `Predictor.roll_out`. The particles of a member share their first step."""
        count, ensemble_size = path.shape[2], self._native.members
        mean, std = self.predict(*(tensor.expand(ensemble_size, count, -1) for tensor in (obs, actions[:, 0])))
        torch.addcmul(mean[members[0]], std[members[0]], noise[0].unsqueeze(1), out=path[0])
        self._run(self._roll_out, *path.shape[:3], members.to(torch.int32).contiguous(), _plain(actions),
                  _plain(noise), path)

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


def _packed(weight: torch.Tensor, depth: int, group: int, columns: int, block: int) -> torch.Tensor:
    """Weights (E, K, N) in the order in which fused_kernel.h reads them: blocks of columns, groups of rows, columns, rows."""
    members, rows, _ = weight.shape
    whole = torch.nn.functional.pad(weight, (0, columns - weight.shape[2], 0, depth * group - rows))
    grouped = whole.view(members, depth, group, columns).transpose(2, 3)  # (E, K / group, N, group)
    return torch.cat([block.reshape(members, -1) for block in grouped.split(block, dim=2)], dim=1)
