"""Sequences of transitions to unroll a model along: each within one episode, and on the way to one goal."""

import dataclasses

import torch

from mbrl_ros.models.actor_critic.experience import Hindsight, Steps, last_of_episode


class Sequences:
    """Draws sequences of H transitions, or fewer where an unbroken run of transitions ends.

    Args:
        replay: Source of N transitions, which gives a sequence its goal.
        breaks: Whether a transition does not follow the one before, shape (N,), bool; the first one's counts for nothing.
        starts: Indices of the transitions that sequences begin with, shape (M,); repeated ones are drawn more often.
        horizon: H.
        generator: Source of all draws.
    """

    def __init__(self, replay: Hindsight, breaks: torch.Tensor, starts: torch.Tensor, horizon: int,
                 generator: torch.Generator) -> None:
        self._replay, self._starts, self._generator = replay, starts, generator
        self._last = last_of_episode(breaks.cumsum(0))
        self._ahead = torch.arange(horizon).unsqueeze(1)

    def draw(self, count: int) -> tuple[Steps, torch.Tensor]:
        """Sequences, drawn evenly with replacement.

        Returns:
            Transitions with two leading axes (H, B), and whether each is one of its sequence, shape (H, B), bool. After the end
            of a run its last transition is repeated.
        """
        starts = self._starts[torch.randint(len(self._starts), (count,), generator=self._generator)]
        rows, last = starts + self._ahead, self._last[starts]
        steps = self._replay.steps.take(rows.minimum(last))
        goal = self._replay.relabelled(starts).goal.expand_as(steps.goal)
        return dataclasses.replace(steps, goal=goal), rows <= last
