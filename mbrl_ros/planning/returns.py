"""Returns of rollouts: discounted rewards of objective and model until the episode ends, plus values at the horizon."""

import torch

from mbrl_ros.errors import ShapeError
from mbrl_ros.planning.planner import DiscountedObjective, Objective
from mbrl_ros.types import DynamicsModel, is_world_model

_CACHED_NUMBERS = 1 << 20


def particle_returns(objective: Objective, path: torch.Tensor, actions: torch.Tensor, start: torch.Tensor | None = None,
                     model: DynamicsModel | None = None, cached_numbers: int = _CACHED_NUMBERS) -> torch.Tensor:
    """Return of each rollout, shape (P, N); not finite where it diverged or its reward is not finite.

    Rewards of the objective and of a `WorldModel` are added up. A reward after a predicted end of the episode is weighted by the
    probability that the episode has not ended by then. Values are added at the end of the horizon.

    Args:
        objective: Reward of steps; may be a `DiscountedObjective`.
        path: States as `rollout` returns them, shape (H, P, N, S).
        actions: Sequences, shape (N, H, A).
        start: State before the first action, shape (S,); only a `WorldModel` needs it.
        model: Model that predicted the path; a `WorldModel` adds its own rewards, ends and value.
        cached_numbers: How many numbers of the path a CPU works on at once.

    Raises:
        ShapeError: The objective's rewards do not have the shape of the path's steps, or are no floating-point numbers.
    """
    actions, particles = actions.transpose(0, 1).unsqueeze(1), path.shape[1]
    is_plain = not _is_discounted(objective) and not is_world_model(model)
    # On a CPU an objective is faster on parts that fit into the caches, and allocating large temporaries is slow.
    at_once = particles if path.device.type != 'cpu' else max(1, particles * cached_numbers // max(1, path.numel()))
    parts = [_rewards(objective, part, actions).sum(dim=0) if is_plain else _return(objective, part, actions, start, model)
             for part in path.split(at_once, dim=1)]  # Each (p, N)
    returns = torch.cat(parts) if len(parts) > 1 else parts[0]
    return torch.add(returns, path[-1].sum(dim=-1), alpha=0.0)


def _return(objective: Objective, path: torch.Tensor, actions: torch.Tensor, start: torch.Tensor,
            model: DynamicsModel) -> torch.Tensor:
    """Discounted return, shape (p, N), of a path of shape (H, p, N, S) with actions (H, 1, N, A)."""
    horizon, rewards = len(path), _rewards(objective, path, actions)  # (H, p, N)
    discount = objective.discount if _is_discounted(objective) else 1.0
    weight = torch.as_tensor(discount, dtype=path.dtype, device=path.device) ** torch.arange(horizon + 1, device=path.device)
    weight = weight.view(-1, 1, 1)  # (H + 1, 1, 1)
    last = objective.value(path[-1]) if _is_discounted(objective) else torch.zeros_like(rewards[-1])
    if is_world_model(model):
        before = torch.cat([start.expand(1, *path.shape[1:]), path[:-1]])
        earned, ended = model.outcome(before, actions, path)
        lives = torch.cumprod(1.0 - ended.to(path.dtype), dim=0)
        weight = weight * torch.cat([torch.ones_like(lives[:1]), lives])  # (H + 1, p, N)
        rewards, last = rewards + earned, last + model.value(path[-1])
    return (weight[:-1] * rewards).sum(dim=0) + weight[-1] * last


def _is_discounted(objective: Objective | DiscountedObjective) -> bool:
    return hasattr(objective, 'discount')


def _rewards(objective: Objective, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """The objective's rewards; their shape is checked, because a wrong shape that broadcasts would be summed silently."""
    rewards = objective(obs, action)
    if not isinstance(rewards, torch.Tensor) or not rewards.is_floating_point() or rewards.device != obs.device:
        kind = f'{rewards.dtype} on {rewards.device}' if isinstance(rewards, torch.Tensor) else type(rewards).__name__
        raise ShapeError(f'the objective needs to return a floating-point tensor on {obs.device}, got {kind}')
    if rewards.shape not in (obs.shape[:-1], action.shape[:-1]):  # The second is that of an objective of actions alone.
        raise ShapeError(f'the objective needs to return shape {tuple(obs.shape[:-1])} for obs of shape {tuple(obs.shape)}, '
                         f'got {tuple(rewards.shape)}')
    return rewards.expand(obs.shape[:-1])
