"""Prediction in the planner's inner loop: learned parameters with every constant factor folded in."""

import contextlib
import copy
import functools
from collections.abc import Callable, Hashable, Iterator

import torch
from torch.nn import functional

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.models.ensemble.kernels import fused, native
from mbrl_ros.models.ensemble.kernels.cuda_rollout import cuda_rollout
from mbrl_ros.models.ensemble.kernels.fused import FusedEnsemble
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.spaces.frame import Frame


class Predictor:
    """Next observation of all members at once; implements `types.DynamicsModel`.

    Args:
        parameters: What was learned; not modified.
        device: Where to predict.
        precision: Arithmetic of the networks' products, one of `precisions(device)`. The linear part, variances and all
            sums stay float32.
        backend: What multiplies on a processor: `auto` for the fastest, `torch`, or a kind of compiled code, as in
            `kernels.native`.

    Raises:
        ConfigError: The device does not have that precision.

    Attributes:
        device: Where it predicts.
        precision: As given.
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
        """Equal for predictors that differ in nothing but the numbers in `tensors`; None where those cannot be replayed."""
        return None if self._fused else (self.precision, *(tuple(tensor.shape) for tensor in self.tensors()))

    def tensors(self) -> list[torch.Tensor]:
        """Everything learned that a prediction outside of compiled code for the processor depends on, in a fixed order."""
        return [self.output_scale, *self._network.tensors(), *(self._rollout.tensors() if self._rollout else ())]

    def in_frame(self, frame: Frame) -> 'Predictor | None':
        """The same model, learned in a frame, as one that takes and predicts observations as they are outside of it.

        None where there is no compiled code for the frame; `models.framed.FramedModel` then calls the frame itself.
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
            ShapeError: Another shape, type or device.
        """
        self._check(obs, action)
        return self._fused.predict(obs, action) if self._fused else self._network.predict(obs, action)

    @torch.no_grad()
    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor,
                 noise: torch.Tensor) -> torch.Tensor | None:
        """Sample whole trajectories at once, where this predictor can; see `planning.propagation.rollout`.

        Args:
            obs: Where all start, shape (O,).
            actions: Shape (N, H, A).
            members: Which member predicts a particle at a step, shape (H, P).
            noise: Standard normal, shape (H, P, O).

        Returns:
            Observations after each action, shape (H, P, N, O), in whichever order in memory is fast. What is not finite stays so,
            as each step adds to it. None where trajectories have to be made step by step.
        """
        made_by = self._fused or self._rollout
        return made_by.roll_out(obs, actions, members, noise) if made_by else None

    def disagreement(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Standard deviation of the members' means, mean over dimensions, in units of the output scale.

        Args:
            obs: Shape (B, O).
            action: Shape (B, A).

        Returns:
            Shape (B,); 0 for a single member.

        Raises:
            ShapeError: Another shape.
        """
        mean, _ = self.predict(obs.expand(self.ensemble_size, *obs.shape), action.expand(self.ensemble_size, *action.shape))
        return (mean.std(dim=0, unbiased=False) / self.output_scale).mean(dim=-1)

    def _check(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        fits = (obs.ndim == 3 and action.ndim == 3 and obs.shape[0] == self.ensemble_size
                and obs.shape[:2] == action.shape[:2]
                and obs.shape[2] == self.obs_size and action.shape[2] == self.action_size)
        if not fits:
            raise ShapeError(f'predict needs obs ({self.ensemble_size}, B, {self.obs_size}) and action '
                             f'({self.ensemble_size}, B, {self.action_size}), got {tuple(obs.shape)} and {tuple(action.shape)}')
        if (obs.dtype, action.dtype) != (torch.float32, torch.float32):
            raise ShapeError(f'predict needs obs and action of float32, got {str(obs.dtype).removeprefix("torch.")} and '
                             f'{str(action.dtype).removeprefix("torch.")}')
        if (obs.device.type, action.device.type) != (self.device.type, self.device.type):
            raise ShapeError(f'predict needs obs and action on {self.device.type!r}, got {obs.device.type!r} '
                             f'and {action.device.type!r}')


class _Network:
    """All members in torch's batched products.

    Normalisers go into the first and last layers and into the linear part, biases of the layers on the input ride on a
    column of ones, and the learned variance bounds become two factors: exp of the softly bounded log-variance v is
    exactly `exp(min) + exp(max) * sigmoid(v - max)`. In reduced precision
    the first layer and the linear part, whose inputs are raw, stay float32.
    """

    def __init__(self, parameters: DynamicsParameters, device: torch.device, precision: str) -> None:
        network = parameters.ensemble()
        raw = Normalizer.identity(parameters.inputs.mean.shape[0])
        network.rebase(parameters.inputs, raw, parameters.residual_scale * parameters.outputs.std)
        weights = [weight.detach() for weight in network.weights]
        biases = [bias.detach() for bias in network.biases]
        _, size, _ = parameters.sizes
        maximum = network.max_logvar.detach()
        dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32

        def placed(tensor: torch.Tensor, kind: torch.dtype = torch.float32) -> torch.Tensor:
            return tensor.to(device, kind).contiguous()

        self._first = placed(torch.cat([weights[0], biases[0]], dim=1))                # (E, I + 1, hidden)
        self._hidden = [(placed(bias, dtype), placed(weight, dtype)) for bias, weight in zip(biases[1:-1], weights[1:-1])]
        last_bias = biases[-1][..., :size]
        self._linear = placed(_fold_linear(parameters, last_bias))                     # (E, I + 1, O)
        self._mean = placed(weights[-1][..., :size], dtype)                            # (E, hidden, O)
        self._logit = placed(weights[-1][..., size:], dtype)                           # (E, hidden, O)
        self._logit_bias = placed(biases[-1][..., size:] - maximum, dtype)             # (E, 1, O)
        self._largest_variance = placed(torch.exp(maximum))
        self._smallest_variance = placed(torch.exp(network.min_logvar.detach()))
        self._one = torch.ones(1, 1, 1, device=device)
        self._dtype = dtype
        self._on_cuda, self._is_tf32 = device.type == 'cuda', precision == 'tf32'

    def tensors(self) -> list[torch.Tensor]:
        pairs = [tensor for pair in self._hidden for tensor in pair]
        return [self._first, *pairs, self._linear, self._mean, self._logit, self._logit_bias, self._largest_variance,
                self._smallest_variance]

    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.cat([obs, action, self._one.expand(*obs.shape[:2], 1)], dim=-1)  # (E, B, I + 1)
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
    """Let float32 products on CUDA be TF32, or not; what was set before is set again afterwards.

    Torch has one switch for the whole process, read as each product is launched: another thread that multiplies meanwhile has
    it too. A captured graph keeps what the switch was when it was captured.
    """
    switch = torch.backends.cuda.matmul
    before = switch.allow_tf32
    switch.allow_tf32 = is_allowed
    try:
        yield
    finally:
        switch.allow_tf32 = before


def precisions(device: torch.device | str, is_supported: Callable[[str], bool] = fused.is_supported) -> tuple[str, ...]:
    """Arithmetic that predictions can be made in on a device, the exact one first.

    Args:
        device: Where to predict.
        is_supported: Whether there is compiled code for a precision.
    """
    if torch.device(device).type == 'cuda':
        return 'float32', 'tf32', 'bfloat16'
    return 'float32', *(name for name in fused.PRECISIONS[1:] if is_supported(name))


def _fold_linear(parameters: DynamicsParameters, network_bias: torch.Tensor) -> torch.Tensor:
    """Linear part on raw inputs and a one, in raw outputs, plus the network's last bias: shape (E, I + 1, O)."""
    inputs, outputs = parameters.inputs, parameters.outputs
    scale = outputs.std.double()
    weight = parameters.linear.weight.double() / inputs.std.double().unsqueeze(-1) * scale
    bias = parameters.linear.bias.double() * scale + outputs.mean.double() - (inputs.mean.double() @ weight).unsqueeze(1)
    return torch.cat([weight, bias + network_bias.double()], dim=1).float()
