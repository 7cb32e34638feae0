"""Where training starts: at the networks of the model in use, unless entries are now seen on quite another scale.

What a network knows of a body's jitter at rest says nothing about the moving body.
"""

import torch

from mbrl_ros.models.ensemble.ensemble import Ensemble
from mbrl_ros.models.ensemble.normalizer import INPUT_BOUND, Normalizer
from mbrl_ros.models.ensemble.parameters import DynamicsParameters

#: Largest factor between two scales of an entry at which what was learned on one is kept on the other.
_COMPARABLE = 10.0


@torch.no_grad()
def warm_network(initial: DynamicsParameters, fresh: Ensemble, inputs: Normalizer, outputs: Normalizer,
                 smallest_change: torch.Tensor) -> Ensemble | None:
    """The networks of a model for other normalisers; inputs of another scale have the weights of new networks.

    None if the networks have other shapes, or an output has another scale. A network that is sure of all other outputs learns a
    new one hardly at all, while a new network learns all of them.

    Args:
        initial: The model; not modified.
        fresh: New networks; not modified.
        inputs: Normaliser of the inputs from now on.
        outputs: Normaliser of the outputs from now on, the unit of the result's means.
        smallest_change: Smallest scale of outputs from now on, shape (O,); those that do not vary have no smaller one.
    """
    shapes = ({name: value.shape for name, value in network.items()} for network in (initial.network, fresh.state_dict()))
    if next(shapes) != next(shapes) or not _are_comparable(initial.outputs.std.maximum(smallest_change), outputs.std).all():
        return None
    old, network = initial.inputs, initial.ensemble(fresh.config)
    is_new = ~_are_comparable(old.std, inputs.std) | (((inputs.mean - old.mean) / old.std).abs() > INPUT_BOUND)
    kept = Normalizer(torch.where(is_new, old.mean, inputs.mean), torch.where(is_new, old.std, inputs.std))
    network.rebase(old, kept, initial.residual_scale * initial.outputs.std / outputs.std)
    network.weights[0][:, is_new] = fresh.weights[0][:, is_new]
    return network


def _are_comparable(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    ratio = new / old
    return (ratio <= _COMPARABLE) & (ratio >= 1.0 / _COMPARABLE)
