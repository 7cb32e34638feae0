"""Whole trajectories in one launch on a GPU that multiplies bfloat16; `fused.py` does the same on a CPU."""

import ctypes
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros.models.ensemble.kernels.folding import FoldedParameters, padded, whole
from mbrl_ros.models.ensemble.normalizer import INPUT_BOUND
from mbrl_ros.models.ensemble.parameters import DynamicsParameters

_SOURCE = Path(__file__).with_name('rollout.cu')
#: As in rollout.cu.
_ROWS, _THREADS, _BARRIERS_BYTES = 64, 256, 16
#: Those of Hopper, the only generation with these matrix instructions.
_CAPABILITY, _ARCHITECTURE = (9, 0), 'sm_90a'
#: Largest difference allowed between kernel and single steps, as a share of the largest change; bfloat16 has 8 bits.
_TOLERANCE = 0.03
_TRIAL_CANDIDATES = _ROWS + 7

Predict = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

_logger = logging.getLogger(__name__)
#: Whether the kernel agreed with single steps, by sizes and device.
_proven: dict[tuple, bool] = {}


class CudaRollout:
    """Rolls out trajectories; float32 in and out, bfloat16 products inside. The linear part, variances and noise stay float32.

    Args:
        parameters: Learned parameters; not modified, and not needed afterwards.
        device: Device of the trajectories.

    Raises:
        RuntimeError: The kernel cannot be built for these sizes on this device.
        ImportError: CUDA's bindings for Python are not installed.
    """

    def __init__(self, parameters: DynamicsParameters, device: torch.device) -> None:
        _, obs_size, action_size = parameters.sizes
        folded = FoldedParameters.of(parameters)
        sizes = obs_size, action_size, folded.mean.shape[1], len(folded.weights)
        self._kernel = _kernel(*sizes, device)
        width, obs_width = whole(sizes[2], 16), whole(obs_size, 16)
        halves = [padded(part, obs_width).chunk(2, dim=-1) for part in (folded.mean, folded.logit)]
        last = torch.cat([half for pair in zip(*halves) for half in pair], dim=-1)  # Mean and logit of each half of the columns.
        self._weights = torch.cat([_packed(weight) for weight in (*folded.weights, last)], dim=1).to(device)
        self._numbers = torch.cat([
            *(padded(bias, width).flatten(1) for bias in folded.biases),
            *(padded(rows, obs_width).flatten(1) for rows in (folded.mean_bias, folded.logit_bias, folded.smallest_variance,
                                                             folded.largest_variance, folded.linear))], dim=1).to(device)
        self._inputs = torch.stack([folded.input_mean, folded.input_scale]).to(device)

    def tensors(self) -> list[torch.Tensor]:
        """All learned tensors, in a fixed order."""
        return [self._weights, self._numbers, self._inputs]

    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """As `Predictor.roll_out`.

        Raises:
            RuntimeError: The launch failed.
        """
        (horizon, particles), (candidates, _, _) = members.shape, actions.shape
        path = torch.empty((horizon, particles, candidates, len(obs)), device=obs.device)
        tensors = [obs.contiguous(), actions.contiguous(), members.to(torch.int32).contiguous(), noise.contiguous(), path,
                   *self.tensors()]
        self._kernel((particles, -(-candidates // _ROWS)), tensors, (horizon, candidates))
        return path

    def __deepcopy__(self, memo: dict) -> 'CudaRollout':
        """Copies the tensors and shares the kernel."""
        twin = object.__new__(CudaRollout)
        twin._kernel = self._kernel
        twin._weights, twin._numbers, twin._inputs = (tensor.clone() for tensor in self.tensors())
        return twin


def cuda_rollout(parameters: DynamicsParameters, device: torch.device, predict: Predict,
                 capability: Callable[[torch.device], tuple[int, int]] = torch.cuda.get_device_capability) -> CudaRollout | None:
    """A rollout of a network in one launch; None where the device has no such kernel. `predict` is one step of the network."""
    if device.type != 'cuda' or capability(device) != _CAPABILITY:
        return None
    return trusted(CudaRollout, parameters, device, predict, _proven)


def trusted(kernel: Callable[[DynamicsParameters, torch.device], CudaRollout], parameters: DynamicsParameters,
            device: torch.device, predict: Predict, proven: dict[tuple, bool]) -> CudaRollout | None:
    """The kernel if it agrees with single steps; otherwise None, logged once.

    Each shape of network is tested once. `proven` has the results by sizes and device, and takes up the new one.
    """
    key = *parameters.sizes, parameters.shape.hidden_layers, parameters.shape.hidden_size, str(device)
    if not proven.get(key, True):
        return None
    try:
        made = kernel(parameters, device)
        if key not in proven:
            _prove(made, parameters, device, predict)
    except Exception as error:  # Whatever the cause, single steps still work.
        _logger.info('trajectories are rolled out step by step: %s', error)
        proven[key] = False
        return None
    proven[key] = True
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
    path = rollout.roll_out(obs, actions, order, noise)
    before, scale = obs.expand(members, _TRIAL_CANDIDATES, obs_size), parameters.outputs.std.to(device)
    for step in range(2):
        mean, std = predict(before, actions[:, step].expand(members, -1, -1))
        expected = torch.addcmul(mean, std, noise[step].unsqueeze(1))
        error, change = (float((difference / scale).abs().max()) for difference in (path[step] - expected, expected - before))
        if not error <= _TOLERANCE * change:
            raise RuntimeError(f'the kernel differs from single steps by {error:.3g} at changes of {change:.3g}')
        before = path[step]


@functools.lru_cache(maxsize=16)
def _kernel(obs_size: int, action_size: int, units: int, layers: int, device: torch.device) -> '_Kernel':
    """The kernel for these sizes.

    Raises:
        RuntimeError: It needs more memory than there is, or does not compile.
    """
    steps, first_steps = (whole(size, 16) // 16 for size in (units, obs_size + action_size))
    tiles, obs_tiles = steps, whole(obs_size, 16) // 16
    buffer = 512 * max(first_steps * tiles, steps * tiles, 2 * steps * obs_tiles)
    shared_bytes = 2 * buffer + _ROWS * (32 * (first_steps + steps) + 4 * ((obs_size + action_size) | 1))
    there_are = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
    if shared_bytes + _BARRIERS_BYTES > there_are:
        raise RuntimeError(f'{units} units need {shared_bytes} bytes of shared memory, there are {there_are}')
    constants = {'OBS': obs_size, 'ACTION': action_size, 'UNITS': units, 'LAYERS': layers, 'INPUT_BOUND': f'{INPUT_BOUND}f'}
    source = [*(f'#define {name} {value}' for name, value in constants.items()), _product('multiply_layer', tiles),
              _product('multiply_last', 2 * obs_tiles), _SOURCE.read_text(encoding='utf-8')]
    return _Kernel('\n'.join(source), shared_bytes, device)


def _product(name: str, tiles: int) -> str:
    """CUDA function with the matrix instruction for tiles of 8 columns, which has to name all registers that it adds to."""
    count = 4 * tiles
    sums = ', '.join(f'%{index}' for index in range(count))
    operands = ', '.join(f'"+f"(sums[{index}])' for index in range(count))
    return (f'__device__ __forceinline__ void {name}(float (&sums)[{count}], unsigned long long from, unsigned long long by) {{\n'
            '    asm volatile("{\\n.reg .pred p;\\nsetp.ne.b32 p, 1, 0;\\n"\n'
            f'        "wgmma.mma_async.sync.aligned.m64n{8 * tiles}k16.f32.bf16.bf16 {{{sums}}}, %{count}, %{count + 1}, '
            f'p, 1, 1, 0, 0;\\n}}"\n        : {operands} : "l"(from), "l"(by));\n}}\n')


class _Kernel:
    """A compiled `roll_out`, launched on torch's current stream.

    Args:
        source: Source text.
        shared_bytes: Shared memory of a block.
        device: Device of the launches.

    Raises:
        RuntimeError: The source does not compile, or the code cannot be loaded.
    """

    def __init__(self, source: str, shared_bytes: int, device: torch.device) -> None:
        # Imported here, because machines without a GPU may lack the bindings.
        from cuda.bindings import driver

        torch.cuda.init()
        with torch.cuda.device(device):
            code = np.frombuffer(_compiled(source), dtype=np.uint8)
            self._module = _checked(driver.cuModuleLoadData(code.ctypes.data))
            self._function = _checked(driver.cuModuleGetFunction(self._module, b'roll_out'))
            _checked(driver.cuFuncSetAttribute(
                self._function, driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes))
        self._launch, self._shared_bytes, self._device = driver.cuLaunchKernel, shared_bytes, device

    def __call__(self, blocks: tuple[int, int], tensors: list[torch.Tensor], numbers: tuple[int, ...]) -> None:
        """Launch with pointers to the tensors, then the numbers."""
        values = *(tensor.data_ptr() for tensor in tensors), *numbers
        types = *(ctypes.c_void_p for _ in tensors), *(ctypes.c_int for _ in numbers)
        with torch.cuda.device(self._device):
            stream = torch.cuda.current_stream().cuda_stream
            _checked(self._launch(self._function, *blocks, 1, _THREADS, 1, 1, self._shared_bytes, stream, (values, types), 0))


def _compiled(source: str) -> bytes:
    """Machine code of a source text.

    Raises:
        RuntimeError: The text does not compile; with the compiler's log.
    """
    from cuda.bindings import nvrtc

    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b'rollout.cu', 0, [], []))
    options = [f'--gpu-architecture={_ARCHITECTURE}'.encode()]
    status, = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if status.value:
        log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        raise RuntimeError(f'the kernel does not compile: {log.decode(errors="replace")}')
    code = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program)))
    _checked(nvrtc.nvrtcGetCUBIN(program, code))
    return code


def _checked(result: tuple) -> Any:
    """Result of a call of CUDA's bindings without its status.

    Raises:
        RuntimeError: The call failed.
    """
    status, *values = result
    if status.value:
        raise RuntimeError(f'CUDA says {status.name}')
    return values[0] if values else None


def _packed(weight: torch.Tensor) -> torch.Tensor:
    """Weights (E, K, N) in the order of rollout.cu, flat for each member, bfloat16.

    The order is, from outside in: steps of 16 rows, tiles of 8 columns, the step's two groups of 8 rows, columns, rows.
    """
    members, rows, columns = weight.shape
    padding = (0, whole(columns, 16) - columns, 0, whole(rows, 16) - rows)
    full = torch.nn.functional.pad(weight, padding).to(torch.bfloat16)
    parts = full.view(members, -1, 2, 8, full.shape[2] // 8, 8)  # Steps, parts of 8 rows, rows, tiles, columns.
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(members, -1)
