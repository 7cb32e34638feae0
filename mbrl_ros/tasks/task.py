"""What every task provides to the planner, the episode manager and the controller."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from mbrl_ros.config import Config


class Task(Protocol):
    """A reward over observations, with a goal and weights that may change between any two plans.

    Attributes:
        name: Key in the registry.
        state_names: State entries that make the observation: their positions, then their velocities.
        action_names: The A joints that actions command.
        obs_size: O = 2 * len(state_names).
        action_size: A.
        goal_tolerance_m: Largest distance that counts as being there.
        settle_steps: Consecutive control steps within tolerance that make a success.
        weights: Weights in use when none are given.
    """

    name: str
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    obs_size: int
    action_size: int
    goal_tolerance_m: float
    settle_steps: int
    weights: Config

    def terms(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
              weights: Config | None = None) -> dict[str, torch.Tensor]:
        """Weighted reward terms by name, each of shape (...); their sum is `reward`. Arguments as for `reward`."""

    def reward(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
               weights: Config | None = None) -> torch.Tensor:
        """Reward of steps; leading axes broadcast against each other.

        Args:
            obs: Observations that the actions led to, shape (..., O).
            action: Shape (..., A), normalised to [-1, 1].
            goal: Position in the base frame, shape (3,), metres.
            weights: Weights of the terms; the task's own when left out.

        Returns:
            Shape (...).
        """

    def objective(self, goal: torch.Tensor | Sequence[float],
                  weights: Config | None = None) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """`reward` bound to a goal and weights, as a planner takes it.

        To be planned with on a GPU without launch gaps it needs `kind`, `parameters` and `at` as well, as
        `planning.captured.ParametricObjective` has them.
        """

    def distance(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """Distance to the goal, metres, shape (...) for obs of shape (..., O)."""

    def is_within(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """Whether the distance is within tolerance, bool, shape (...)."""


class SuccessCounter:
    """Success once the goal has been held for so many control steps on end; then it stays.

    Args:
        settle_steps: Consecutive steps needed, 1 or more.
    """

    def __init__(self, settle_steps: int) -> None:
        self._needed = settle_steps
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._held = 0
        self.success = False

    def update(self, within: bool) -> bool:
        """Count one control step; True from the step on that makes the success."""
        self._held = self._held + 1 if within else 0
        self.success = self.success or self._held >= self._needed
        return self.success
