"""The networks of a latent model: encoder, dynamics, outcome of a step.

The latent is normalised in groups (SimNorm of TD-MPC2; Hansen et al. 2024, arXiv:2310.16828): each group of entries is positive
and sums to 1, so that predictions stay bounded and latents cannot collapse to nothing.
"""

import dataclasses
from collections.abc import Mapping

import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import BundleError, ConfigError
from mbrl_ros.models.actor_critic.networks import Networks

#: Entries of the latent that are normalised together.
GROUP_SIZE = 8
_NAMES = 'encoder', 'dynamics', 'outcome'
#: Reward and end.
_OUTCOMES = 2

Tensors = Mapping[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class LatentSizes(Config):
    """Sizes of encoder, dynamics and outcome."""

    latent_size: int = setting(64, f'Entries of the latent (S), a multiple of {GROUP_SIZE}.', low=GROUP_SIZE, high=1024)
    hidden_size: int = setting(128, 'Units of each of two hidden layers.', low=1, high=2048)

    def check(self) -> None:
        """Raise ConfigError when the latent is not made of whole groups."""
        if self.latent_size % GROUP_SIZE:
            raise ConfigError(f'LatentSizes.latent_size needs a multiple of {GROUP_SIZE}, got {self.latent_size}')


class LatentNetworks(torch.nn.Module):
    """Encoder, dynamics and outcome, one network each.

    Attributes:
        encoder: Latent, before it is normalised, of features.
        dynamics: Next latent, likewise, of latent and action.
        outcome: Scaled reward, and logit of an end, of latent and action.
    """

    def __init__(self, encoder: Networks, dynamics: Networks, outcome: Networks) -> None:
        super().__init__()
        self.encoder, self.dynamics, self.outcome = encoder, dynamics, outcome

    @classmethod
    def of_sizes(cls, num_features: int, action_size: int, sizes: LatentSizes, generator: torch.Generator) -> 'LatentNetworks':
        """Networks of chance for F features and A entries of an action."""
        latent, joint = sizes.latent_size, sizes.latent_size + action_size
        return cls(Networks(1, num_features, latent, sizes.hidden_size, generator=generator, last_gain=1.0),
                   Networks(1, joint, latent, sizes.hidden_size, generator=generator, last_gain=1.0),
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
            if (own := getattr(found, name).sizes) != sizes or latent % GROUP_SIZE:
                raise BundleError(f'{name} of the latent model has the sizes {own}, here they are {sizes}, with a latent of a '
                                  f'multiple of {GROUP_SIZE} entries')
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
        return _normalised(self.encoder(features)[0])

    def next(self, latent: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Latent after a step, shape (B, S), from latent, shape (B, S), and action in the axes of the view, shape (B, A)."""
        return _normalised(self.dynamics(torch.cat([latent, action], dim=1))[0])

    def outcome_of(self, latent: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled reward of a step, and the logit of the probability that the episode ends with it, each of shape (B,)."""
        return self.outcome(torch.cat([latent, action], dim=1))[0].unbind(dim=1)


def _normalised(raw: torch.Tensor) -> torch.Tensor:
    """SimNorm: softmax over each group of entries, shape (B, S)."""
    return torch.softmax(raw.unflatten(-1, (-1, GROUP_SIZE)), dim=-1).flatten(-2)
