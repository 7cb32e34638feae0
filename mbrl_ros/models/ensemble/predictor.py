"""Prediction in the planner's inner loop, with constant factors folded into the learned parameters."""

import contextlib
import copy
import functools
from collections.abc import Callable, Hashable, Iterator

import torch
from torch.nn import functional

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.models.ensemble.kernels import fused, native
from mbrl_ros.models.ensemble.kernels.cuda_rollout import cuda_rollout
from mbrl_ros.models.ensemble.kernels.folding import FoldedParameters
from mbrl_ros.models.ensemble.kernels.fused import FusedEnsemble
from mbrl_ros.models.ensemble.normalizer import INPUT_BOUND
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.spaces.frame import Frame
from mbrl_ros.types import DynamicsModel


class Predictor:
    """Predicts the next observation with all members at once; implements `types.DynamicsModel`.

    Args:
        parameters: Learned parameters; not modified.
        device: Device of the predictions.
        precision: Arithmetic of the networks' products, one of `precisions(device)`. The linear part, variances and all sums
            stay float32.
        backend: Code for a CPU: `auto` for the fastest, `torch`, or a kind of compiled code as in `kernels.native`.

    Raises:
        ConfigError: The device does not have that precision.

    Attributes:
        device, precision: As given.
        hidden_units: As `EnsembleConfig.hidden_units`.
    """

    def __init__(self, parameters: DynamicsParameters, device: torch.device | str = 'cpu', precision: str = 'float32',
                 backend: str = 'auto') -> None:
        self.ensemble_size, self.obs_size, self.action_size = parameters.sizes
        self.device, self.precision = torch.device(device), precision
        if precision not in precisions(self.device):
            raise ConfigError(f'precision {precision!r} is not there on {self.device.type!r}; '
                              f'there is {", ".join(precisions(self.device))}')
        self.output_scale = parameters.outputs.std.to(device)
        self.hidden_units = parameters.shape.hidden_units
        is_compiled = self.device.type == 'cpu' and native.kind_of(backend, precision) is not None
        self._fused = FusedEnsemble(parameters, precision, backend) if is_compiled else None
        self._network = None if self._fused else _Network(parameters, self.device, precision)
        self._rollout = (cuda_rollout(parameters, self.device, self._network.predict)
                         if (self.device.type, precision) == ('cuda', 'bfloat16') else None)

    @functools.cached_property
    def kind(self) -> Hashable:
        """Equal for predictors that differ only in the values of `tensors`; None for compiled code, which cannot be captured."""
        return None if self._fused else (self.precision, *(tuple(tensor.shape) for tensor in self.tensors()))

    def tensors(self) -> list[torch.Tensor]:
        """All tensors that a prediction depends on, in a fixed order; not for compiled code."""
        return [self.output_scale, *self._network.tensors(), *(self._rollout.tensors() if self._rollout else ())]

    def in_frame(self, frame: Frame) -> 'Predictor | None':
        """A copy of this model, learned in `frame`, that takes and predicts observations outside of the frame.

        None without compiled code for the frame; `models.framed.FramedModel` then calls the frame itself.
        """
        fused = self._fused and self._fused.in_frame(frame)
        if fused is None:
            return None
        framed = copy.copy(self)
        framed._fused = fused
        return framed

    @torch.no_grad()
    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the next observation, each (E, B, O).

        Args:
            obs: Shape (E, B, O), float32, on the predictor's device.
            action: Shape (E, B, A), normalised to [-1, 1].

        Raises:
            ShapeError: `obs` or `action` has another shape or type, or is on another device.
            MemoryError: Compiled code found no memory for its working set.
        """
        check_batch(self, obs, action)
        if (obs.device.type, action.device.type) != (self.device.type, self.device.type):
            raise ShapeError(f'predict needs obs and action on {self.device.type!r}, got {obs.device.type!r} '
                             f'and {action.device.type!r}')
        return self._fused.predict(obs, action) if self._fused else self._network.predict(obs, action)

    @torch.no_grad()
    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor,
                 noise: torch.Tensor) -> torch.Tensor | None:
        """Sample whole trajectories at once, where this predictor can; see `planning.propagation.rollout`.

        Args:
            obs: Start of all trajectories, shape (O,).
            actions: Shape (N, H, A).
            members: The member that predicts each particle at each step, shape (H, P).
            noise: Standard normal, shape (H, P, O).

        Returns:
            Observations after each action, shape (H, P, N, O), with any strides. NaN and infinity stay to the last step, because
            each step adds to the one before. None where single steps are needed.

        Raises:
            MemoryError: Compiled code found no memory for its working set.
        """
        compiled = self._fused or self._rollout
        return compiled.roll_out(obs, actions, members, noise) if compiled else None

    def disagreement(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Standard deviation of the members' means, mean over dimensions, in units of the output scale.

        Args:
            obs: Shape (B, O).
            action: Shape (B, A).

        Returns:
            Shape (B,); 0 for a single member.

        Raises:
            ShapeError: As for `predict`.
        """
        mean, _ = self.predict(obs.expand(self.ensemble_size, *obs.shape), action.expand(self.ensemble_size, *action.shape))
        return (mean.std(dim=0, unbiased=False) / self.output_scale).mean(dim=-1)


def check_batch(model: DynamicsModel, obs: torch.Tensor, action: torch.Tensor) -> None:
    """Check the arguments of `model.predict`.

    Raises:
        ShapeError: `obs` is not (E, B, O), `action` is not (E, B, A), or one of them is not float32.
    """
    members, leading = model.ensemble_size, (model.ensemble_size, *obs.shape[1:2])
    if obs.shape != (*leading, model.obs_size) or action.shape != (*leading, model.action_size):
        raise ShapeError(f'predict needs obs ({members}, B, {model.obs_size}) and action ({members}, B, {model.action_size}), '
                         f'got {tuple(obs.shape)} and {tuple(action.shape)}')
    if (obs.dtype, action.dtype) != (torch.float32, torch.float32):
        raise ShapeError(f'predict needs obs and action of float32, got {str(obs.dtype).removeprefix("torch.")} and '
                         f'{str(action.dtype).removeprefix("torch.")}')


class _Network:
    """All members in torch's batched products.

    Biases of the layers on the input multiply a column of ones, which normalisation leaves as it is. In reduced precision the
    first layer and the linear part stay float32.
    """

    def __init__(self, parameters: DynamicsParameters, device: torch.device, precision: str) -> None:
        folded = FoldedParameters.of(parameters)
        dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32

        def placed(tensor: torch.Tensor, kind: torch.dtype = torch.float32) -> torch.Tensor:
            return tensor.to(device, kind).contiguous()

        self._input_mean = placed(functional.pad(folded.input_mean, (0, 1)))                # (I + 1,)
        self._input_scale = placed(functional.pad(folded.input_scale, (0, 1), value=1.0))   # (I + 1,)
        self._first = placed(torch.cat([folded.weights[0], folded.biases[0]], dim=1))       # (E, I + 1, hidden)
        self._hidden = [(placed(bias, dtype), placed(weight, dtype))
                        for bias, weight in zip(folded.biases[1:], folded.weights[1:])]
        self._linear = placed(torch.cat([folded.linear, folded.mean_bias], dim=1))          # (E, I + 1, O)
        self._mean, self._logit = placed(folded.mean, dtype), placed(folded.logit, dtype)   # each (E, hidden, O)
        self._logit_bias = placed(folded.logit_bias, dtype)                                 # (E, 1, O)
        self._largest_variance, self._smallest_variance = placed(folded.largest_variance), placed(folded.smallest_variance)
        self._one = torch.ones(1, 1, 1, device=device)
        self._dtype = dtype
        self._on_cuda, self._is_tf32 = device.type == 'cuda', precision == 'tf32'

    def tensors(self) -> list[torch.Tensor]:
        pairs = [tensor for pair in self._hidden for tensor in pair]
        return [self._input_mean, self._input_scale, self._first, *pairs, self._linear, self._mean, self._logit, self._logit_bias,
                self._largest_variance, self._smallest_variance]

    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.cat([obs, action, self._one.expand(*obs.shape[:2], 1)], dim=-1)  # (E, B, I + 1)
        inputs.sub_(self._input_mean).mul_(self._input_scale).clamp_(-INPUT_BOUND, INPUT_BOUND)
        with self._tf32(False):
            hidden = functional.silu(torch.bmm(inputs, self._first), inplace=True).to(self._dtype)
            mean = torch.baddbmm(obs, inputs, self._linear)
        with self._tf32(self._is_tf32):
            for bias, weight in self._hidden:
                hidden = functional.silu(torch.baddbmm(bias, hidden, weight), inplace=True)
            share = torch.baddbmm(self._logit_bias, hidden, self._logit)
            if self._dtype is torch.float32:
                mean.baddbmm_(hidden, self._mean)
            else:
                mean, share = mean + torch.bmm(hidden, self._mean), share.float()
        return mean, torch.addcmul(self._smallest_variance, self._largest_variance, share.sigmoid_()).sqrt_()

    def _tf32(self, is_allowed: bool) -> contextlib.AbstractContextManager:
        return tf32_products(is_allowed) if self._on_cuda else contextlib.nullcontext()


@contextlib.contextmanager
def tf32_products(is_allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 for float32 products on CUDA; restores the switch afterwards.

    Torch has one switch for the whole process and reads it at each launch, so it also applies to other threads meanwhile. A
    captured graph keeps the state of the switch at its capture.
    """
    switch = torch.backends.cuda.matmul
    before = switch.allow_tf32
    switch.allow_tf32 = is_allowed
    try:
        yield
    finally:
        switch.allow_tf32 = before


def precisions(device: torch.device | str, is_supported: Callable[[str], bool] = fused.is_supported) -> tuple[str, ...]:
    """Precisions of predictions on a device, the exact one first; a CPU has those that compiled code supports."""
    if torch.device(device).type == 'cuda':
        return 'float32', 'tf32', 'bfloat16'
    return 'float32', *(name for name in fused.PRECISIONS[1:] if is_supported(name))
