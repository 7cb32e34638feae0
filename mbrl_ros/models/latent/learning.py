"""Losses of a latent model, its critics and its policy (TD-MPC; Hansen et al. 2022, arXiv:2203.04955, equations 7 to 11).

The model is unrolled along sequences of real transitions. At each step its latent should be what the encoder makes of the next
observation, and it should tell reward, end and value. The policy learns from the critics at encoded observations.

Note:
    Reward and value are regressed with Huber's loss. Targets of latents come from the encoder itself, as in TD-MPC2 (2310.16828).
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional

from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import BundleError
from mbrl_ros.models.actor_critic.networks import values_of
from mbrl_ros.models.actor_critic.soft_actor_critic import ActorCriticConfig, Batch, SoftActorCritic, Tensors, value_loss
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.latent.networks import LatentNetworks, LatentSizes
from mbrl_ros.models.latent.world import LatentModel, Units


@dataclasses.dataclass(frozen=True)
class LatentLearningConfig(Config):
    """How a latent model, its critics and its policy are learned."""

    sizes: LatentSizes = section(LatentSizes, 'Encoder, dynamics and outcome.')
    actor_critic: ActorCriticConfig = section(ActorCriticConfig, 'Policy and critics.')
    consistency: float = setting(2.0, 'Weight of the squared error of a predicted latent, for each feature.', low=0.0, high=1e4)
    reward: float = setting(1.0, 'Weight of the error of a predicted reward, and of a predicted end.', low=0.0, high=1e4)
    value: float = setting(0.05, 'Weight of the error of a value.', low=0.0, high=1e4)
    shown: float = setting(1.0, 'Weight with which the encoder learns what tells demonstrated actions.', low=0.0, high=1e4)
    fading: float = setting(0.5, 'Factor by which an error counts less with each step of a sequence.', low=0.0, high=1.0)


class Unrolled(NamedTuple):
    """B sequences of H steps, as a latent model sees them.

    Attributes:
        features: Normalised, of the first observation, shape (B, F).
        next_features: Normalised, after each step, shape (H, B, F).
        action: In the axes of the view, shape (H, B, A).
        reward: Shape (H, B).
        goes_on: 0 where the step ended the episode for good, else 1, shape (H, B).
        is_inside: Whether the step is one of its sequence, shape (H, B), bool.
        is_shown: Whether the first action is to be imitated, shape (B,), bool.
    """

    features: torch.Tensor
    next_features: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    goes_on: torch.Tensor
    is_inside: torch.Tensor
    is_shown: torch.Tensor


class LatentLearning:
    """Latent model, critics, policy and their optimisers.

    Args:
        inputs: Normaliser of the features, (F,).
        action_size: A.
        config: Settings.
        generator: Source of the initial weights.

    Attributes:
        networks: Encoder, dynamics and outcome.
        policy: Actor and critics, which see latents.
    """

    def __init__(self, inputs: Normalizer, action_size: int, config: LatentLearningConfig, generator: torch.Generator) -> None:
        self._inputs, self._config, self._sizes = inputs, config, (len(inputs.mean), action_size)
        self.networks = LatentNetworks.of_sizes(*self._sizes, config.sizes, generator)
        # Noise goes on features; a latent with noise would be none.
        self.policy = SoftActorCritic(
            self.networks.latent_size, action_size, dataclasses.replace(config.actor_critic, imitation_noise=0.0), generator,
            shared=self.networks.parameters())

    def resume(self, groups: Mapping[str, Tensors]) -> None:
        """Continue with the tensors of `groups()`; raises BundleError if they do not fit."""
        found = LatentNetworks.from_groups(groups, *self._sizes)
        try:
            self.networks.load_state_dict(found.state_dict())
        except RuntimeError as error:
            raise BundleError(f'the latent model has other sizes ({error})') from None
        self.policy.resume(groups)

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """All tensors by name, for each group's name."""
        return {**self.networks.groups(), **self.policy.groups()}

    def model(self, units: Units) -> LatentModel:
        """The model so far; later updates do not change it.

        A running average of the policy would lag behind the latent that it sees.
        """
        parts = self.networks, self.policy.critics, self.policy.actor
        return LatentModel(self._inputs, *copy.deepcopy(parts), units)

    def update(self, batch: Unrolled, generator: torch.Generator, *, learns_policy: bool = True) -> None:
        """One step of model and critics, and of the policy, which only imitates where it does not learn from the critics."""
        self.policy.generator = generator
        noise = self._config.actor_critic.imitation_noise * torch.randn(batch.features.shape, generator=generator)
        beside = self.networks.encode(batch.features + noise * batch.is_shown.unsqueeze(1))
        loss = self.loss(batch)
        if self._config.shown and batch.is_shown.any():
            loss = loss + self._config.shown * (self.policy.away(beside, batch.action[0]) * batch.is_shown).mean()
        self.policy.update_critics(loss)
        latent = beside.detach()
        if learns_policy:
            self.policy.update_actor(Batch(latent, batch.action[0], batch.reward[0], latent, batch.goes_on[0], batch.is_shown))
        elif batch.is_shown.any():
            self.policy.imitate(latent[batch.is_shown], batch.action[0][batch.is_shown])

    def loss(self, batch: Unrolled) -> torch.Tensor:
        """Weighted errors of latents, rewards, ends and values along the sequences, shape ()."""
        config, (horizon, count) = self._config, batch.reward.shape
        with torch.no_grad():
            reached = self.networks.encode(batch.next_features.flatten(0, 1))  # (H B, S)
            steps = Batch(reached, *(part.flatten(0, 1) for part in (batch.action, batch.reward)), reached,
                          batch.goes_on.flatten(), batch.is_inside.flatten())
            target = self.policy.targets(steps)
        latents = [self.networks.encode(batch.features)]
        for action in batch.action:
            latents.append(self.networks.next(latents[-1], action))
        before, after = torch.cat(latents[:-1]), torch.cat(latents[1:])  # (H B, S)
        reward, end = self.networks.outcome_of(before, steps.action)
        values = values_of(self.policy.critics, before, steps.action)
        earned = config.actor_critic.reward_scale * steps.reward
        error = (config.consistency * (after - reached).square().sum(dim=1) / self._sizes[0]
                 + config.reward * functional.huber_loss(reward, earned, reduction='none')
                 + config.reward * functional.binary_cross_entropy_with_logits(end, 1.0 - steps.goes_on, reduction='none')
                 + config.value * value_loss(values, target).sum(dim=0))
        weight = config.fading ** torch.arange(horizon).unsqueeze(1) * batch.is_inside
        return (weight * error.view(horizon, count)).sum() / weight.sum()
