"""Whether the world has drifted away from a model: small surprises that go on, each of which could be chance.

Separate from `acceptance.describe_change`, which sees at once when nearly everything is different; a body that has become heavier or
smoother changes few transitions, and some of those were always hard to foresee.
"""

import dataclasses

from mbrl_ros.config import Config, setting


@dataclasses.dataclass(frozen=True)
class DriftConfig(Config):
    """When surprises amount to a drift. Surprise is the mean negative log-likelihood a dimension, see `Validation.surprise`."""

    slack: float = setting(0.35, 'Surprise at new transitions, beyond that at held-out ones, that counts as chance.', low=0.0)
    alarm: float = setting(1.5, 'Sum of what goes beyond that, over rounds, which counts as a drift.', low=1e-6)


class DriftAlarm:
    """One-sided cumulative sum of surprises (CUSUM; Page 1954), one a round.

    Args:
        config: Thresholds.

    Attributes:
        level: The sum; 0 when nothing points to a drift. To be kept and set again by a run that is gone on with.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self.level = 0.0

    def note(self, recent: float, before: float) -> bool:
        """Take the surprise at the newest transitions and that at held-out ones of before; whether that makes it a drift.

        After an alarm the sum begins anew.
        """
        self.level = max(0.0, self.level + recent - before - self._config.slack)
        raised = self.level > self._config.alarm
        if raised:
            self.level = 0.0
        return raised
