"""Learned parameters with every constant factor folded in, for predictions in reduced precision."""

import dataclasses

import torch

from mbrl_ros.models.ensemble.parameters import DynamicsParameters


@dataclasses.dataclass(frozen=True)
class FoldedParameters:
    """The change of an observation as a network and a linear part of normalised inputs, both in the observation's own units.

    Inputs are normalised before they are rounded, so that an entry that varies little far from zero keeps its digits.

    Attributes:
        input_mean: Shape (I,), I = O + A.
        input_scale: What the centred inputs are multiplied by, shape (I,).
        weights: Of the hidden layers, shapes (E, I, hidden), (E, hidden, hidden), …
        biases: Likewise, each (E, 1, hidden).
        mean: Last layer's weights for the mean, shape (E, hidden, O).
        logit: For the share of the variance, shape (E, hidden, O).
        mean_bias: The linear part's included, shape (E, 1, O).
        logit_bias: Shape (E, 1, O).
        linear: Shape (E, I, O).
        smallest_variance: Shape (E, 1, O).
        largest_variance: What the sigmoid of the logit is a share of, on top of the smallest, shape (E, 1, O).
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
        """Fold; the parameters are not modified."""
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
    """Zeros behind the last axis, up to `size`."""
    return torch.nn.functional.pad(tensor, (0, size - tensor.shape[-1]))
