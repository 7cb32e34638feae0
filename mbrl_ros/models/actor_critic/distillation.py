"""A policy that regresses on labels: what a planner would do in imagined states."""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import BundleError, TrainingCancelled
from mbrl_ros.models.actor_critic.learning import LearnedPolicy, normalised
from mbrl_ros.models.actor_critic.networks import Networks, mean_action
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.spaces.view import View
from mbrl_ros.types import GOAL_SIZE


@dataclasses.dataclass(frozen=True)
class DistillationConfig(Config):
    """What is labelled in a round, and how the policy learns it."""

    starts: int = setting(16, 'Imagined starts of a round, for one episode of the planner and one of the policy each.', low=2,
                          high=10_000)
    steps: int = setting(25, 'Control steps of an imagined episode.', low=1, high=1000)
    max_labels: int = setting(20_000, 'Newest labels that are kept.', low=100, high=1_000_000)
    updates: int = setting(300, 'Gradient steps of a round.', low=1, high=100_000)
    batch_size: int = setting(256, 'Labels of a gradient step.', low=1, high=100_000)
    hidden_size: int = setting(128, 'Units of each of two hidden layers.', low=1, high=2048)
    learning_rate: float = setting(1e-3, 'First step size of AdamW in a round; it falls along a half cosine.', low=1e-6, high=0.1)
    tolerance: float = setting(0.25, 'The policy begins to act when its mean imagined return is at most this many standard '
                                     'deviations of the planner\'s returns below theirs, and stops at twice as many.',
                               low=0.0, high=1e3)

    @property
    def rounds_of_labels(self) -> int:
        """Rounds whose labels are kept, where no episode ends early."""
        return math.ceil(self.max_labels / (2 * self.starts * self.steps))


@dataclasses.dataclass(frozen=True)
class Labels:
    """What the planner would do: N labels, float32.

    Attributes:
        obs: Shape (N, O).
        goal: Shape (N, 3); NaN without goals.
        action: First action of the plan, shape (N, A).
    """

    obs: torch.Tensor
    goal: torch.Tensor
    action: torch.Tensor

    @classmethod
    def of(cls, rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> 'Labels':
        """Labels from one (obs, goal, action) each."""
        return cls(*(torch.from_numpy(np.array(column, dtype=np.float32)) for column in zip(*rows)))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], obs_size: int, action_size: int) -> 'Labels':
        """Inverse of `columns`; raises BundleError if the tensors are no labels of these sizes."""
        sizes = {'obs': obs_size, 'goal': GOAL_SIZE, 'action': action_size}
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        count = shapes.get('obs', (0,))[0]
        if shapes != {name: (count, size) for name, size in sizes.items()}:
            raise BundleError(f'the labels of a policy need one row each of sizes {sizes}, got the shapes {shapes}')
        return cls(**tensors)

    def with_newer(self, newer: 'Labels', max_labels: int) -> 'Labels':
        """Both, without the oldest beyond a number."""
        return Labels(*(torch.cat(both)[-max_labels:] for both in zip(self.columns().values(), newer.columns().values())))

    def columns(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        return dict(vars(self))


def regressed(policy: LearnedPolicy | None, view: View, labels: Labels, config: DistillationConfig, *, seed: int,
              is_cancelled: Callable[[], bool]) -> LearnedPolicy:
    """Policy after gradient steps on the squared distance from labels; a new one if there is none so far."""
    generator = torch.Generator().manual_seed(seed)
    features, target = view.features(labels.obs, labels.goal), view.seen(labels.obs, labels.action)
    inputs = policy.inputs if policy else Normalizer.fit(features, constant_scale=1.0)
    actor = Networks(1, view.num_features, 2 * target.shape[1], config.hidden_size, generator=generator)
    if policy:
        actor = copy.deepcopy(policy.actor)
    features = normalised(inputs, features)
    optimiser = torch.optim.AdamW(actor.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.updates)
    for _ in range(config.updates):
        if is_cancelled():
            raise TrainingCancelled
        rows = torch.randint(len(features), (config.batch_size,), generator=generator)
        loss = (mean_action(actor, features[rows]) - target[rows]).square().sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return LearnedPolicy(inputs, actor)
