"""Experience that policies learn from: real transitions, whose goals may be replaced, and imagined ones."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from mbrl_ros.errors import ModelError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.origin import origin_of
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.types import Tag


@dataclasses.dataclass(frozen=True)
class Steps:
    """N transitions as float32 tensors.

    Attributes:
        obs: Shape (N, O).
        action: Shape (N, A).
        next_obs: Shape (N, O).
        goal: Shape (N, 3); NaN without a goal.
        goes_on: 0 where the transition ended the episode for good, else 1, shape (N,).
        is_shown: Whether the action is to be imitated, shape (N,), bool.
        doubt: What is taken off the reward because the model does not know the transition, shape (N,); 0 for real ones.
    """

    obs: torch.Tensor
    action: torch.Tensor
    next_obs: torch.Tensor
    goal: torch.Tensor
    goes_on: torch.Tensor
    is_shown: torch.Tensor
    doubt: torch.Tensor

    @classmethod
    def of(cls, rows: Transitions) -> 'Steps':
        """Recorded transitions; demonstrated actions are to be imitated, unless the arm was held.

        Raises:
            ModelError: Observations are too far from zero for float32.
        """
        if origin_of(rows.obs):
            raise ModelError('observations lie so far from zero that float32 cannot resolve them, which a policy needs')
        columns = (torch.tensor(values, dtype=torch.float32)
                   for values in (rows.obs, rows.action, rows.next_obs, rows.goal, 1.0 - rows.terminated))
        shown = torch.from_numpy(rows.tags & (Tag.DEMONSTRATED | Tag.HELD) == Tag.DEMONSTRATED)
        return cls(*columns, shown, torch.zeros(len(rows)))

    @classmethod
    def joined(cls, parts: Sequence['Steps']) -> 'Steps':
        """At least one part, one after another."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(cls)))

    def __len__(self) -> int:
        return len(self.obs)

    def take(self, rows: torch.Tensor) -> 'Steps':
        """Transitions chosen by a mask or indices."""
        return type(self)(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The experience of a round.

    Attributes:
        steps: N transitions, episodes one after another.
        episode: Number of each transition's episode, shape (N,).
        rows: Indices to draw from, those of transitions that matter more several times.
    """

    steps: Steps
    episode: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def of(cls, transitions: Transitions, recent: np.ndarray, repeats: int) -> 'Recorded':
        """Recorded transitions; recent ones, a mask of shape (N,), count so many times more. Raises ModelError as `Steps.of`."""
        rows = np.concatenate([np.arange(len(transitions)), np.tile(np.flatnonzero(recent), repeats)])
        return cls(Steps.of(transitions), torch.from_numpy(transitions.episode.copy()), torch.from_numpy(rows))


class Hindsight:
    """Draws transitions, some of them on the way to what was achieved later in the same episode.

    Hindsight experience replay with the strategy `future` (Andrychowicz et al. 2017, arXiv:1707.01495).

    Args:
        steps: N transitions, episodes one after another.
        last: Index of the last transition of each transition's episode, shape (N,).
        achieved: Position that should reach the goal, shape (N, 3), of observations, shape (N, O); None leaves goals as they are.
        share: Share of the transitions whose goal is replaced.
        generator: Source of all draws.
        rows: Indices to draw from; all transitions alike by default.
    """

    def __init__(self, steps: Steps, last: torch.Tensor, achieved: Callable[[torch.Tensor], torch.Tensor] | None, share: float,
                 generator: torch.Generator, rows: torch.Tensor | None = None) -> None:
        self.steps, self._last, self._share, self._generator = steps, last, share, generator
        self._rows = torch.arange(len(steps)) if rows is None else rows
        self._achieved = None if achieved is None else achieved(steps.next_obs)

    def draw(self, count: int) -> Steps:
        """Transitions, drawn evenly from the rows with replacement."""
        return self.relabelled(self._rows[torch.randint(len(self._rows), (count,), generator=self._generator)])

    def relabelled(self, rows: torch.Tensor) -> Steps:
        """Transitions by their indices, shape (B,)."""
        chosen = self.steps.take(rows)
        if self._achieved is None:
            return chosen
        replaced, later = torch.rand((2, len(rows)), generator=self._generator)
        later = rows + (later * (self._last[rows] - rows + 1)).long()
        goal = torch.where((replaced < self._share).unsqueeze(1), self._achieved[later], chosen.goal)
        return dataclasses.replace(chosen, goal=goal)


def last_of_episode(episode: torch.Tensor) -> torch.Tensor:
    """Index of the last row of each row's episode, shape (N,), for the episodes' numbers, shape (N,), equal ones side by side."""
    _, counts = torch.unique_consecutive(episode, return_counts=True)
    return torch.repeat_interleave(counts.cumsum(0) - 1, counts)


def with_goals(steps: Steps, last: torch.Tensor, wanted: GoalReward) -> Steps:
    """Steps that were recorded without a goal as on the way to where their episode ended.

    Args:
        steps: N transitions, episodes one after another.
        last: Index of the last transition of each transition's episode, shape (N,).
        wanted: Reward of transitions.
    """
    if not wanted.has_goal:
        return steps
    unknown = steps.goal.isnan().any(dim=1, keepdim=True)
    return dataclasses.replace(steps, goal=torch.where(unknown, wanted.achieved(steps.next_obs)[last], steps.goal))


def with_successes(steps: Steps, last: torch.Tensor, wanted: GoalReward) -> Steps:
    """Steps of own episodes that ended at their goal as to be imitated too (Oh et al. 2018, arXiv:1806.05635)."""
    return dataclasses.replace(steps, is_shown=steps.is_shown | wanted.is_within(steps.next_obs, steps.goal)[last])
