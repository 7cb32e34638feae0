"""Learned parameters with constant factors folded in, and the layout of weights in blocks, for compiled code."""

import dataclasses

import torch

from mbrl_ros.models.ensemble.parameters import DynamicsParameters


@dataclasses.dataclass(frozen=True)
class FoldedParameters:
    """The change of an observation, in its own units, as a network and a linear part of normalised inputs.

    Inputs are normalised before they are rounded, so that an entry that varies little far from zero keeps its digits, and limited
    to `INPUT_BOUND`, as in training. The variance is exp of the softly bounded log-variance, which is exactly
    `smallest_variance + largest_variance * sigmoid(logit)`.

    Attributes:
        input_mean: Shape (I,), I = O + A.
        input_scale: Factor on the centred inputs, shape (I,).
        weights: Hidden layers, shapes (E, I, hidden), (E, hidden, hidden), …
        biases: Hidden layers, each (E, 1, hidden).
        mean, logit: Weights of the last layer, each (E, hidden, O).
        mean_bias: Bias of the mean, the linear part's included, shape (E, 1, O).
        logit_bias: Shape (E, 1, O).
        linear: Shape (E, I, O).
        smallest_variance, largest_variance: Each (E, 1, O).
    """

    input_mean: torch.Tensor
    input_scale: torch.Tensor
    weights: list[torch.Tensor]
    biases: list[torch.Tensor]
    mean: torch.Tensor
    logit: torch.Tensor
    mean_bias: torch.Tensor
    logit_bias: torch.Tensor
    linear: torch.Tensor
    smallest_variance: torch.Tensor
    largest_variance: torch.Tensor

    @classmethod
    def of(cls, parameters: DynamicsParameters) -> 'FoldedParameters':
        """Fold learned parameters, which are not modified."""
        _, obs_size, _ = parameters.sizes
        network, outputs = parameters.ensemble(), parameters.outputs
        network.rebase(parameters.inputs, parameters.inputs, parameters.residual_scale * outputs.std)
        *weights, last = (weight.detach() for weight in network.weights)
        *biases, last_bias = (bias.detach() for bias in network.biases)
        maximum = network.max_logvar.detach()
        mean_bias, logit_bias = last_bias.split(obs_size, dim=-1)
        return cls(
            parameters.inputs.mean, 1.0 / parameters.inputs.std, weights, biases, *last.split(obs_size, dim=-1),
            mean_bias + parameters.linear.bias * outputs.std + outputs.mean, logit_bias - maximum,
            parameters.linear.weight * outputs.std, torch.exp(network.min_logvar.detach()), torch.exp(maximum))


def padded(tensor: torch.Tensor, size: int) -> torch.Tensor:
    """Pad the last axis with zeros to `size`."""
    return torch.nn.functional.pad(tensor, (0, size - tensor.shape[-1]))


def whole(size: int, unit: int) -> int:
    """Smallest multiple of `unit` that is at least `size`."""
    return -(-size // unit) * unit
