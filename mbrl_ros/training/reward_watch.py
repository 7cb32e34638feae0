"""What a trainer notes and tells when the weights of the reward change: that it retrains, and how long that took."""

import dataclasses
import math
from collections.abc import Mapping

from mbrl_ros.agents.agent import Follows
from mbrl_ros.training.rounds import Rounds
from mbrl_ros.types import TrainingReport


class RewardWatch:
    """Compares what was learned with the weights of the reward that the episode manager reports.

    Args:
        rounds: Owner of what was learned.
        is_learning: Whether there are any rounds.

    Attributes:
        is_behind: Whether what was learned has yet to catch up with the newest weights.
        text: How far that is, or how long it took, in words; empty before a change.
    """

    def __init__(self, rounds: Rounds, *, is_learning: bool) -> None:
        self.is_behind, self.text = False, ''
        self._rounds, self._is_learning = rounds, is_learning
        self._weights: Mapping[str, float] = {}
        self._since_s, self._follow_s = 0.0, math.nan

    def on_weights(self, weights: Mapping[str, float], now_s: float) -> bool:
        """Take the weights of a report, heard at a steady time; returns whether there is anything new to tell."""
        if weights == self._weights:
            return False
        is_first, self._weights, self._since_s = not self._weights, weights, now_s
        self.is_behind, self._follow_s = self._rounds.is_behind(weights), math.nan
        if self.is_behind:
            self.text = self._progress()
        elif is_first:
            self.text = ''
        elif self._rounds.follows is Follows.NEVER:
            self.text = 'reward changed: the agent does not follow'
        else:
            self.text, self._follow_s = 'reward changed: the agent follows at once', 0.0
        return bool(self.text)

    def on_round(self, now_s: float) -> None:
        """Note the end of a round at a steady time."""
        was_behind, self.is_behind = self.is_behind, bool(self._weights) and self._rounds.is_behind(self._weights)
        if self.is_behind:
            self.text, self._follow_s = self._progress(), math.nan
        elif was_behind:
            self._follow_s = now_s - self._since_s
            rounds = self._rounds.following.rounds
            self.text = f'the agent follows the new reward after {rounds} round{"s"[:rounds > 1]}, {self._follow_s:.1f} s'

    def marked(self, report: TrainingReport) -> TrainingReport:
        """A report with what is known of this."""
        return dataclasses.replace(report, retraining=self.is_behind, follow_s=self._follow_s, following=self.text)

    def _progress(self) -> str:
        if not self._is_learning:
            return 'reward changed: learning is off, so the agent follows the one before'
        rounds = self._rounds.following.rounds_with(self._weights)
        return f'retraining: reward changed ({rounds} of {self._rounds.config.rounds_to_follow} rounds)'
