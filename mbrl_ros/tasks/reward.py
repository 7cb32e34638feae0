"""What learners of policies know of a task or an environment."""

from typing import Protocol

import torch


class GoalReward(Protocol):
    """What is wanted of a policy: the reward of any transition for any goal. A `tasks.Task` is one.

    The reward may change between two rounds of learning, and not within one.

    Attributes:
        has_goal: Whether there are goals, shape (3,); otherwise goals are ignored.
    """

    has_goal: bool

    def reward(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Reward of steps, shape (N,).

        Args:
            obs: Observations after the actions, shape (N, O).
            action: Shape (N, A), normalised to [-1, 1].
            goal: Shape (N, 3).
        """

    def is_within(self, obs: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Whether observations are at the goal, shape (N,), bool; false where that is not known."""

    def achieved(self, obs: torch.Tensor) -> torch.Tensor:
        """Position that should reach the goal, shape (N, 3); only where there are goals."""

    def is_over(self, obs: torch.Tensor) -> torch.Tensor:
        """Whether observations are the end of an episode for good, shape (N,), bool."""
