"""Probabilistic ensemble (PETS, Chua et al. 2018, arXiv:1805.12114) with batched matrix products over all members."""

import dataclasses
import math

import torch
from torch.nn import functional

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble.normalizer import Normalizer

_INITIAL_MAX_LOGVAR = 0.5
_INITIAL_MIN_LOGVAR = -10.0
#: Outputs start near zero: the linear part then gives the whole prediction, and its residual scale the whole uncertainty.
_OUTPUT_INIT_GAIN = 0.1


@dataclasses.dataclass(frozen=True)
class EnsembleConfig(Config):
    """Size and regularisation of the networks."""

    ensemble_size: int = setting(5, 'Number of members.', low=1, high=64)
    hidden_layers: int = setting(2, 'Hidden layers of each member.', low=1, high=8)
    hidden_size: int = setting(64, 'Units of each hidden layer.', low=1, high=2048)
    weight_decay: tuple[float, ...] = setting((1e-4, 2e-4, 5e-4), 'Decay of the first, the hidden and the last layers.', low=0.0)
    logvar_penalty: float = setting(0.01, 'Pull of the learned variance bounds towards each other.', low=0.0)

    def check(self) -> None:
        """Raise ConfigError when `weight_decay` does not have three numbers."""
        if len(self.weight_decay) != 3:
            raise ConfigError(f'EnsembleConfig.weight_decay needs three numbers (first, hidden, last layers), '
                              f'got {self.weight_decay!r}')

    @property
    def hidden_units(self) -> int:
        """Units of two hidden layers; a prediction holds both at a time for each row."""
        return 2 * self.hidden_size


class Ensemble(torch.nn.Module):
    """E independent networks with SiLU units and diagonal Gaussian outputs, on normalised inputs and outputs.

    Note:
        Each member learns variance bounds of its own; the paper shares them. The members are therefore independent, and an
        ensemble trains exactly as its members would alone.

    Args:
        input_size: I.
        output_size: O.
        config: Sizes and regularisation.
        generator: Source of the initial weights.
    """

    def __init__(self, input_size: int, output_size: int, config: EnsembleConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.output_size = output_size
        members = config.ensemble_size
        sizes = [input_size, *[config.hidden_size] * config.hidden_layers, 2 * output_size]
        self.weights = torch.nn.ParameterList(
            _truncated_normal((members, rows, columns), 0.5 / math.sqrt(rows), generator)
            for rows, columns in zip(sizes, sizes[1:]))
        self.biases = torch.nn.ParameterList(torch.zeros(members, 1, columns) for columns in sizes[1:])
        self.max_logvar = torch.nn.Parameter(torch.full((members, 1, output_size), _INITIAL_MAX_LOGVAR))
        self.min_logvar = torch.nn.Parameter(torch.full((members, 1, output_size), _INITIAL_MIN_LOGVAR))
        with torch.no_grad():
            self.weights[-1].mul_(_OUTPUT_INIT_GAIN)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance, each (E, B, O), of inputs (E, B, I); all normalised.

        The log-variance is bounded softly from both sides (appendix A.1 of the paper).
        """
        hidden = inputs
        for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
            hidden = functional.silu(torch.baddbmm(bias, hidden, weight))
        mean, logvar = torch.baddbmm(self.biases[-1], hidden, self.weights[-1]).split(self.output_size, dim=-1)
        logvar = self.max_logvar - functional.softplus(self.max_logvar - logvar)
        return mean, self.min_logvar + functional.softplus(logvar - self.min_logvar)

    @property
    def decay_rates(self) -> list[float]:
        """Weight decay of each layer."""
        first, middle, last = self.config.weight_decay
        return [first, *[middle] * (len(self.weights) - 2), last]

    @torch.no_grad()
    def rebase(self, old: Normalizer, new: Normalizer, output_scale: torch.Tensor) -> None:
        """Rewrite the weights for other normalisers of inputs and outputs; the function of raw inputs stays the same.

        Args:
            old: Normaliser of the inputs so far.
            new: Normaliser of the inputs from now on.
            output_scale: Factor on the means, shape (O,); variances are multiplied by its square.
        """
        first, last = self.weights[0].double(), self.weights[-1]
        shift = ((new.mean - old.mean) / old.std).double()
        self.biases[0].copy_(self.biases[0].double() + (shift @ first).unsqueeze(1))
        self.weights[0].copy_(first * (new.std / old.std).double().unsqueeze(-1))
        last[..., :self.output_size] *= output_scale
        self.biases[-1][..., :self.output_size] *= output_scale
        log_scale = 2.0 * torch.log(output_scale)
        for logvar in (self.biases[-1][..., self.output_size:], self.max_logvar, self.min_logvar):
            logvar += log_scale


def _truncated_normal(shape: tuple[int, ...], std: float, generator: torch.Generator) -> torch.Tensor:
    """Normal numbers cut at two standard deviations, made of uniform ones in a sixth of the time of torch's `trunc_normal_`."""
    largest = math.erf(math.sqrt(2.0))
    return torch.empty(shape).uniform_(-largest, largest, generator=generator).erfinv_().mul_(math.sqrt(2.0) * std)
