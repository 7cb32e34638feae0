"""Short paths of a policy in a learned model, from real states, to learn from."""

import dataclasses
from collections.abc import Callable, Sequence

import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.models.actor_critic.experience import Steps
from mbrl_ros.spaces.view import View
from mbrl_ros.types import DynamicsModel

#: Share of the real steps about which the members disagree less than the unit of doubt.
_KNOWN_SHARE = 0.95
#: Doubt beyond this many units counts no more.
_MOST_UNITS = 3.0

#: Action in the axes of the view, shape (B, A), for features, shape (B, F).
Policy = Callable[[torch.Tensor], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class ImaginationConfig(Config):
    """What is imagined in a round."""

    paths: int = setting(2000, 'Imagined paths, each from a real state; 0 imagines nothing.', low=0, high=1_000_000)
    horizon: int = setting(4, 'Steps of a path.', low=1, high=100)
    doubt: float = setting(2.0, 'Reward taken off where the members disagree twice as much as about nearly all real steps.',
                           low=0.0, high=1e6)


def imagine(model: DynamicsModel, view: View, policy: Policy, real: Steps, is_over: Callable[[torch.Tensor], torch.Tensor],
            config: ImaginationConfig, *, starts: Steps, largest: Sequence[float] = (), generator: torch.Generator) -> Steps:
    """Branched rollouts (Janner et al. 2019, arXiv:1906.08253); each member predicts its own paths all the way.

    Rewards are lower where the members disagree (Yu et al. 2020, arXiv:2005.13239). A path ends before a step that is not finite,
    and after one that ends the episode.

    Args:
        model: Ensemble of E members.
        view: What the policy sees, and how it acts.
        policy: The policy.
        real: Real transitions, which the unit of doubt comes from.
        is_over: Whether observations, shape (B, O), are the end of an episode for good, shape (B,), bool.
        config: Settings.
        starts: N transitions, whose observations and goals the paths start from; N is a multiple of E.
        largest: Largest experienced value of each entry of an observation, which imagined ones do not exceed; empty without.
        generator: Source of the predictions' noise.
    """
    bounds = torch.tensor(largest) if largest else torch.full(real.obs.shape[1:], torch.inf)
    unit = disagreement(model, real.obs, real.action).quantile(_KNOWN_SHARE).clamp(min=torch.finfo(torch.float32).tiny)
    obs, goal, parts = starts.obs, starts.goal, []
    goes_on = torch.ones(len(obs), dtype=torch.bool)
    for _ in range(config.horizon):
        action = view.action(obs, policy(view.features(obs, goal)))
        next_obs = torch.minimum(_next(model, obs, action, generator), bounds)
        goes_on = goes_on & torch.isfinite(next_obs).all(dim=1)
        ends = is_over(next_obs)
        doubt = config.doubt * (disagreement(model, obs, action) / unit - 1.0).clamp(0.0, _MOST_UNITS)
        step = Steps(obs, action, next_obs, goal, 1.0 - ends.float(), torch.zeros_like(ends), doubt)
        parts.append(step.take(goes_on))
        obs, goes_on = next_obs, goes_on & ~ends
    return Steps.joined(parts)


def disagreement(model: DynamicsModel, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Disagreement of the members about single steps, shape (B,), as `planning.propagation.disagreement` has it for a path.

    Args:
        model: Ensemble.
        obs: Shape (B, O).
        action: Shape (B, A).
    """
    members = model.ensemble_size
    mean, _ = model.predict(obs.expand(members, -1, -1).contiguous(), action.expand(members, -1, -1).contiguous())
    return (mean.std(dim=0, correction=0) / model.output_scale).square().mean(dim=1).sqrt()


def _next(model: DynamicsModel, obs: torch.Tensor, action: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Sampled next observations, shape (N, O); the first N / E are the first member's."""
    mean, std = model.predict(*(part.view(model.ensemble_size, -1, part.shape[1]).contiguous() for part in (obs, action)))
    return torch.addcmul(mean, std, torch.randn(mean.shape, generator=generator)).view(obs.shape)
