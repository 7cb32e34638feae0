"""Trajectories on a GPU that multiplies bfloat16, whole ones in one launch: what `fused.py` is on a processor."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mbrl_ros.learning.folding import FoldedParameters, padded
from mbrl_ros.learning.parameters import DynamicsParameters

_SOURCE = Path(__file__).with_name('rollout.cu')
#: As in rollout.cu.
_ROWS, _THREADS = 64, 384
#: The first with bfloat16 matrix units and copies that need no registers.
_CAPABILITY = (8, 0)
#: Largest difference between the kernel and single steps, as a share of the largest change; bfloat16 has 8 bits.
_TOLERANCE = 0.03
_TRIAL_CANDIDATES = _ROWS + 7

Predict = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

_logger = logging.getLogger(__name__)
#: Whether the kernel has proven itself, by sizes and device.
_proven: dict[tuple, bool] = {}


class CudaRollout:
    """Rolls out trajectories; float32 in and out, bfloat16 products inside. The linear part, variances and noise stay float32.

    Args:
        parameters: What was learned; not modified, and not needed afterwards.
        device: Where to.

    Raises:
        RuntimeError: The kernel cannot be built for these sizes on this device.
    """

    def __init__(self, parameters: DynamicsParameters, device: torch.device) -> None:
        _, obs_size, action_size = parameters.sizes
        folded = FoldedParameters.of(parameters)
        sizes = obs_size, action_size, folded.mean.shape[1], len(folded.weights)
        self._kernel, self._shared_bytes = _kernel(*sizes, device)
        width, obs_width = _whole(sizes[2], 8), _whole(obs_size, 8)
        last = torch.cat([padded(folded.mean, obs_width), padded(folded.logit, obs_width)], dim=-1)
        self._weights = torch.cat([_packed(weight) for weight in (*folded.weights, last)], dim=1).to(device)
        self._numbers = torch.cat([
            *(padded(bias, width).flatten(1) for bias in folded.biases),
            *(padded(row, obs_width).flatten(1) for row in (folded.mean_bias, folded.logit_bias, folded.smallest_variance,
                                                            folded.largest_variance, folded.linear))], dim=1).to(device)
        self._inputs = torch.stack([folded.input_mean, folded.input_scale]).to(device)

    def tensors(self) -> list[torch.Tensor]:
        """Everything learned, in a fixed order."""
        return [self._weights, self._numbers, self._inputs]

    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor, noise: torch.Tensor,
                 path: torch.Tensor) -> None:
        """Fill the path; arguments as for `Predictor.roll_out`."""
        horizon, particles, candidates, _ = path.shape
        arguments = [obs.contiguous(), actions.contiguous(), members.to(torch.int32).contiguous(), noise.contiguous(), path,
                     *self.tensors(), horizon, candidates]
        self._kernel((particles, -(-candidates // _ROWS), 1), (_THREADS, 1, 1), arguments, self._shared_bytes)

    def __deepcopy__(self, memo: dict) -> 'CudaRollout':
        """Copies tensors; the kernel is the device's."""
        twin = object.__new__(CudaRollout)
        twin.__dict__.update(self.__dict__)
        twin._weights, twin._numbers, twin._inputs = (tensor.clone() for tensor in self.tensors())
        return twin


def cuda_rollout(parameters: DynamicsParameters, device: torch.device, predict: Predict) -> CudaRollout | None:
    """What rolls out a network in one launch; None where there is no such kernel, which is then said once.

    A kernel is trusted when it has agreed with single steps, once for each shape of network.

    Args:
        parameters: What was learned.
        device: Where to.
        predict: One step of the same network; see `Predictor.predict`.
    """
    if device.type != 'cuda' or torch.cuda.get_device_capability(device) < _CAPABILITY:
        return None
    key = *parameters.sizes, parameters.shape.hidden_layers, parameters.shape.hidden_size, str(device)
    if not _proven.get(key, True):
        return None
    try:
        made = CudaRollout(parameters, device)
        if key not in _proven:
            _prove(made, parameters, device, predict)
    except Exception as error:  # Whatever the cause, single steps do the same.
        _logger.info('trajectories are rolled out step by step: %s', error)
        _proven[key] = False
        return None
    _proven[key] = True
    return made


def _prove(rollout: CudaRollout, parameters: DynamicsParameters, device: torch.device, predict: Predict) -> None:
    """Compare two steps of the kernel with single steps.

    Raises:
        RuntimeError: They differ.
    """
    members, obs_size, action_size = parameters.sizes
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator).to(device)

    obs = parameters.inputs.mean[:obs_size].to(device) + parameters.inputs.std[:obs_size].to(device) * draw(obs_size)
    actions, noise = draw(_TRIAL_CANDIDATES, 2, action_size).clamp(-1.0, 1.0), draw(2, members, obs_size)
    order = torch.arange(members, device=device).expand(2, members)
    path = torch.full((2, members, _TRIAL_CANDIDATES, obs_size), torch.nan, device=device)
    rollout.roll_out(obs, actions, order, noise, path)
    before, scale = obs.expand(members, _TRIAL_CANDIDATES, obs_size), parameters.outputs.std.to(device)
    for step in range(2):
        mean, std = predict(before, actions[:, step].expand(members, -1, -1))
        expected = torch.addcmul(mean, std, noise[step].unsqueeze(1))
        error, change = (float((difference / scale).abs().max()) for difference in (path[step] - expected, expected - before))
        if not error <= _TOLERANCE * change:
            raise RuntimeError(f'the kernel differs from single steps by {error:.3g} at changes of {change:.3g}')
        before = path[step]


@functools.lru_cache(maxsize=16)
def _kernel(obs_size: int, action_size: int, units: int, layers: int, device: torch.device) -> tuple[Any, int]:
    """The kernel for these sizes, and the shared memory of a block, in bytes.

    Raises:
        RuntimeError: It needs more memory than there is, or does not compile.
    """
    steps, first_steps = (_whole(size, 16) // 16 for size in (units, obs_size + action_size))
    tiles, obs_tiles = _whole(units, 8) // 8, _whole(obs_size, 8) // 8
    buffer = 256 * max(first_steps * tiles, steps * tiles, 2 * steps * obs_tiles)
    shared_bytes = 2 * buffer + _ROWS * (2 * (16 * first_steps + 8 + 16 * steps + 8) + 4 * ((obs_size + action_size) | 1))
    there_are = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
    if shared_bytes > there_are:
        raise RuntimeError(f'{units} units need {shared_bytes} bytes of shared memory, there are {there_are}')
    sizes = {'OBS': obs_size, 'ACTION': action_size, 'UNITS': units, 'LAYERS': layers}
    source = ''.join(f'#define {name} {size}\n' for name, size in sizes.items()) + _SOURCE.read_text(encoding='utf-8')
    with torch.cuda.device(device):
        kernel = torch.cuda._compile_kernel(source, 'roll_out')
        kernel.set_shared_memory_config(shared_bytes)
    return kernel, shared_bytes


def _whole(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _packed(weight: torch.Tensor) -> torch.Tensor:
    """Weights (E, K, N) in the order in which matrix units take them, flat for each member, bfloat16.

    Of 16 rows and 8 columns a lane has column lane / 4, and of the rows 2 (lane % 4) and the next, first of the upper and then
    of the lower eight.
    """
    members, rows, columns = weight.shape
    whole = torch.nn.functional.pad(weight, (0, _whole(columns, 8) - columns, 0, _whole(rows, 16) - rows)).to(torch.bfloat16)
    parts = whole.view(members, -1, 2, 4, 2, whole.shape[2] // 8, 8)  # Steps, halves, row pairs, the two, tiles, columns.
    return parts.permute(0, 1, 5, 6, 3, 2, 4).reshape(members, -1)
