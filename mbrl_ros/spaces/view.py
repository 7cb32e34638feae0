"""Views: what a learned policy sees of an observation and a goal, and in which axes it acts.

A view is to a policy what a frame is to a model of the dynamics: equal situations at another place look the same, so the policy
learns them once. Features of a view may be redundant; no model has to predict them.
"""

from typing import Protocol

import torch

from mbrl_ros.spaces.space import Space


class View(Protocol):
    """Pure functions between observations, goals and actions, and features and actions of a policy; all of float32.

    Attributes:
        name: Name of the view.
        version: Counts changes of what features or axes mean; a policy learned through another version cannot act.
        num_features: F.
    """

    name: str
    version: int
    num_features: int

    def features(self, obs: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """What a policy sees, shape (..., F).

        Args:
            obs: Shape (..., O).
            goal: Shape (..., 3), metres, base frame; ignored by a view of a space without such goals.
        """

    def seen(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """An action, shape (..., A), in the axes of the view."""

    def action(self, obs: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Inverse of `seen`, limited to [-1, 1]; shape (..., A)."""


class PlainView:
    """The observation as it is, with the goal where there is one; implements `View`.

    Args:
        num_entries: First entries of an observation that are seen.
        has_goal: Whether the goal is seen.
    """

    name, version = 'plain', 1

    def __init__(self, num_entries: int, *, has_goal: bool) -> None:
        self._num_entries, self._has_goal = num_entries, has_goal
        self.num_features = num_entries + 3 * has_goal

    def features(self, obs: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """See `View.features`."""
        seen = obs[..., :self._num_entries]
        return torch.cat([seen, goal], dim=-1) if self._has_goal else seen

    def seen(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """See `View.seen`; the action itself."""
        return action

    def action(self, obs: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """See `View.action`."""
        return seen.clamp(-1.0, 1.0)


def view_of(space: Space, obs_size: int) -> View:
    """The view of a space; the whole observation with the goal for a space that has none of its own."""
    return getattr(space, 'view', None) or PlainView(obs_size, has_goal=True)


def label(view: View) -> str:
    """Name and version of a view, as on the card of a bundle."""
    return f'{view.name} {view.version}'
