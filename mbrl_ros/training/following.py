"""Which reward a learned policy follows: after a change of its weights the one before, until it has caught up."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Following:
    """The reward that what was learned follows, and how far it is with another one.

    Attributes:
        weights: Weights by term of the reward that it follows; empty if they are not known, or if it has none.
        wanted: Weights that the newest round was made with; equal to `weights` unless it has to catch up.
        rounds: Rounds made in a row to catch up with `wanted`.
    """

    weights: Mapping[str, float]
    wanted: Mapping[str, float]
    rounds: int

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> 'Following':
        """Nothing to catch up with under these weights."""
        return cls(weights, weights, 0)

    def is_behind(self, weights: Mapping[str, float]) -> bool:
        """Whether there is something to catch up with under these weights."""
        return bool(self.weights) and (self.wanted != self.weights or self.weights != weights)

    def rounds_with(self, weights: Mapping[str, float]) -> int:
        """Rounds made in a row to catch up with these weights."""
        return self.rounds if weights == self.wanted else 0

    def after_round(self, weights: Mapping[str, float], rounds_to_follow: int) -> 'Following':
        """After a round with these weights; `rounds_to_follow` of them in a row catch up."""
        if not self.is_behind(weights):
            return Following(weights, weights, self.rounds)
        rounds = self.rounds_with(weights) + 1
        return Following(weights if rounds >= rounds_to_follow else self.weights, weights, rounds)
