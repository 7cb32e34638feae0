"""Networks of actors and critics: several equal ones side by side, with layer normalisation.

Layer normalisation bounds what a critic can say where nothing was seen, so that many updates from little data stay stable (Ball
et al. 2023, arXiv:2302.02948).
"""

import math
from collections.abc import Mapping

import torch
from torch.nn import functional

from mbrl_ros.errors import BundleError

#: Size of the weights of the last layer relative to the others: actions and values start near zero.
_LAST_GAIN = 0.01
_LOG_STD_LOW, _LOG_STD_HIGH = -3.5, 1.0
_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


class Networks(torch.nn.Module):
    """E equal networks of two hidden layers with rectified units.

    Args:
        num_networks: E.
        input_size: I.
        output_size: O.
        hidden_size: Units of each hidden layer.
        generator: Source of the initial weights.
    """

    def __init__(self, num_networks: int, input_size: int, output_size: int, hidden_size: int = 128, *,
                 generator: torch.Generator) -> None:
        super().__init__()
        sizes, hidden = [input_size, hidden_size, hidden_size, output_size], (num_networks, 1, hidden_size)
        gains = [math.sqrt(2.0), math.sqrt(2.0), _LAST_GAIN]
        self.weights = torch.nn.ParameterList(
            gain / math.sqrt(rows) * torch.randn((num_networks, rows, columns), generator=generator)
            for gain, rows, columns in zip(gains, sizes, sizes[1:]))
        self.biases = torch.nn.ParameterList(torch.zeros(num_networks, 1, columns) for columns in sizes[1:])
        self.scales = torch.nn.ParameterList(torch.ones(hidden) for _ in range(2))
        self.shifts = torch.nn.ParameterList(torch.zeros(hidden) for _ in range(2))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> 'Networks':
        """Networks with the tensors of a `state_dict`.

        Raises:
            BundleError: The tensors are no such networks.
        """
        try:
            (number, inputs, hidden), outputs = tensors['weights.0'].shape, tensors['weights.2'].shape[2]
            networks = cls(number, inputs, outputs, hidden, generator=torch.Generator())
            networks.load_state_dict(tensors)
        except (KeyError, IndexError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise BundleError(f'the tensors are no networks of a policy ({type(error).__name__}: {error})') from None
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise BundleError('the networks of a policy have weights that are not finite')
        return networks

    @property
    def sizes(self) -> tuple[int, int, int]:
        """E, I and O."""
        return *self.weights[0].shape[:2], self.weights[-1].shape[-1]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs, shape (E, B, O), of inputs, shape (B, I), or (E, B, I) for inputs of each network's own."""
        hidden = inputs.expand(len(self.weights[0]), *inputs.shape[-2:])
        for weight, bias, scale, shift in zip(self.weights, self.biases, self.scales, self.shifts):
            hidden = functional.layer_norm(torch.baddbmm(bias, hidden, weight), weight.shape[-1:])
            hidden = functional.relu(torch.addcmul(shift, hidden, scale))
        return torch.baddbmm(self.biases[-1], hidden, self.weights[-1])


def mean_action(actor: Networks, features: torch.Tensor) -> torch.Tensor:
    """The most likely action before limits, shape (B, A), within (-1, 1), for features of shape (B, F).

    The actor is one network with 2 A outputs: mean and spread of a normal distribution that is squashed by tanh.
    """
    return torch.tanh(actor(features)[0].chunk(2, dim=-1)[0])


def sampled_action(actor: Networks, features: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A sampled action, shape (B, A), and the logarithm of its density, shape (B,); Haarnoja et al. 2018, appendix C.

    Args:
        actor: As for `mean_action`.
        features: Shape (B, F).
        noise: Standard normal, shape (B, A).
    """
    mean, spread = actor(features)[0].chunk(2, dim=-1)
    log_std = _LOG_STD_LOW + 0.5 * (_LOG_STD_HIGH - _LOG_STD_LOW) * (torch.tanh(spread) + 1.0)
    raw = mean + log_std.exp() * noise
    # log(1 - tanh(x)^2), written so that it is finite for any x.
    log_slope = 2.0 * (math.log(2.0) - raw - functional.softplus(-2.0 * raw))
    log_density = -0.5 * noise.square() - log_std - _HALF_LOG_TAU - log_slope
    return torch.tanh(raw), log_density.sum(dim=-1)


def values_of(critics: Networks, features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Value by each of E critics, shape (E, B), of features, shape (B, F), and action, shape (B, A)."""
    return critics(torch.cat([features, action], dim=1))[..., 0]
