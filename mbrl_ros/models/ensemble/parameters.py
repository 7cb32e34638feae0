"""All learned parameters as named tensors: the result of a trainer, the content of a file, the input of a predictor."""

import dataclasses
from collections.abc import Mapping

import torch

from mbrl_ros.errors import BundleError
from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.linear import LinearPart
from mbrl_ros.models.ensemble.normalizer import Normalizer


@dataclasses.dataclass(frozen=True)
class DynamicsParameters:
    """Parameters of the change of the observation over one period: a linear part, plus a network for the linear part's errors.

    Attributes:
        inputs: Normaliser of observation and action together, I = O + A columns.
        outputs: Normaliser of the change of the observation, O columns.
        linear: Map from normalised inputs to normalised outputs.
        residual_scale: Spread of the linear part's errors in normalised outputs, shape (O,); the unit of the network's outputs.
        network: Parameters of an `Ensemble` by name; never modified.
    """

    inputs: Normalizer
    outputs: Normalizer
    linear: LinearPart
    residual_scale: torch.Tensor
    network: Mapping[str, torch.Tensor]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """E, O and A."""
        members, inputs, outputs = self.linear.weight.shape
        return members, outputs, inputs - outputs

    @property
    def shape(self) -> EnsembleConfig:
        """Configuration of an ensemble that these parameters fit into."""
        hidden_layers = sum(name.startswith('weights.') for name in self.network) - 1
        return EnsembleConfig(ensemble_size=self.sizes[0], hidden_layers=hidden_layers,
                              hidden_size=self.network['weights.0'].shape[-1])

    def ensemble(self, config: EnsembleConfig | None = None) -> Ensemble:
        """A new ensemble with these weights; the copy may be changed."""
        _, outputs, actions = self.sizes
        ensemble = Ensemble(outputs + actions, outputs, config or self.shape, generator=torch.Generator())
        ensemble.load_state_dict(self.network)
        return ensemble

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        return {
            'inputs.mean': self.inputs.mean, 'inputs.std': self.inputs.std,
            'outputs.mean': self.outputs.mean, 'outputs.std': self.outputs.std,
            'linear.weight': self.linear.weight, 'linear.bias': self.linear.bias,
            'residual_scale': self.residual_scale,
            **{f'network.{name}': tensor for name, tensor in self.network.items()},
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> 'DynamicsParameters':
        """Inverse of `tensors`.

        Raises:
            BundleError: A tensor is missing, superfluous, of the wrong shape or type, or has impossible values.
        """
        network = {name.removeprefix('network.'): value for name, value in tensors.items() if name.startswith('network.')}
        try:
            parameters = cls(Normalizer(tensors['inputs.mean'], tensors['inputs.std']),
                             Normalizer(tensors['outputs.mean'], tensors['outputs.std']),
                             LinearPart(tensors['linear.weight'], tensors['linear.bias']), tensors['residual_scale'], network)
            expected = _expected_shapes(parameters)
        except (KeyError, ValueError, IndexError) as error:
            raise BundleError(f'model lacks a tensor or has one without its axes ({error})') from None
        if wrong := sorted(set(tensors) ^ set(expected)):
            raise BundleError(f'model has missing or superfluous tensors: {", ".join(wrong)}')
        for name, shape in expected.items():
            tensor = tensors[name]
            if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
                raise BundleError(f'model tensor {name!r} needs shape {shape} of float32, '
                                  f'got {tuple(tensor.shape)} of {str(tensor.dtype).removeprefix("torch.")}')
            if not torch.isfinite(tensor).all():
                raise BundleError(f'model tensor {name!r} holds values that are not finite')
            if name.endswith(('.std', '_scale')) and not (tensor > 0).all():
                raise BundleError(f'model tensor {name!r} needs positive values, got {float(tensor.min()):g}')
        return parameters


def _expected_shapes(parameters: DynamicsParameters) -> dict[str, tuple[int, ...]]:
    members, outputs, actions = parameters.sizes
    inputs, shape = outputs + actions, parameters.shape
    sizes = [inputs, *[shape.hidden_size] * shape.hidden_layers, 2 * outputs]
    expected: dict[str, tuple[int, ...]] = {
        'inputs.mean': (inputs,), 'inputs.std': (inputs,), 'outputs.mean': (outputs,), 'outputs.std': (outputs,),
        'residual_scale': (outputs,), 'linear.weight': (members, inputs, outputs), 'linear.bias': (members, 1, outputs),
        'network.max_logvar': (members, 1, outputs), 'network.min_logvar': (members, 1, outputs)}
    for layer, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
        expected[f'network.weights.{layer}'] = (members, rows, columns)
        expected[f'network.biases.{layer}'] = (members, 1, columns)
    return expected
