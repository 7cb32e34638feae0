"""Whether the world has drifted away from a model: small surprises that go on, each of which could be chance.

Separate from `acceptance.describe_change`, which sees at once when nearly everything is different, and is for young models: to
one that has seen much, an episode in which all went differently happens now and then, and a body that has become heavier or
smoother changes few transitions, of which some were always hard to foresee.
"""

import dataclasses

from mbrl_ros.config import Config, setting

#: Where there is no moment to name.
NEVER_NS = -1


@dataclasses.dataclass(frozen=True)
class DriftConfig(Config):
    """When surprises amount to a drift, and how much what came since then counts. For surprise see `Validation.surprise`."""

    min_transitions: int = setting(2500, 'Transitions that a model has to be made from; a younger one is surprised by all that '
                                         'it sees for the first time.', low=1)
    slack: float = setting(0.35, 'Surprise at new transitions, beyond that at held-out ones, that counts as chance.', low=0.0)
    largest_step: float = setting(1.0, 'Most that one round adds to the sum, however much it surprises; below the alarm, so that '
                                       'one odd episode is none.', low=1e-6)
    alarm: float = setting(1.5, 'Sum of what goes beyond that, over rounds, which counts as a drift.', low=1e-6)
    recent_share: float = setting(0.5, 'Share that transitions since the last change have in a round, by repetition.', low=0.0,
                                  high=0.9)


@dataclasses.dataclass(frozen=True)
class DriftState:
    """What is known of changes; a run that is gone on with takes it up.

    Attributes:
        level: Sum of surprises; 0 when nothing points to a drift.
        usual: Surprise at held-out transitions before the sum left 0; a model that learns both worlds is surprised by either.
        rising_since_ns: First transition of the round in which the sum left 0; `NEVER_NS` while it is 0.
        changed_ns: First transition since the last change; `NEVER_NS` where there was none.
    """

    level: float = 0.0
    usual: float = 0.0
    rising_since_ns: int = NEVER_NS
    changed_ns: int = NEVER_NS


def follow(state: DriftState, config: DriftConfig, *, recent: float, before: float, stamp_ns: int) -> tuple[DriftState, bool]:
    """One-sided cumulative sum of surprises (CUSUM; Page 1954), one a round, and its estimate of when the change was.

    Args:
        state: After the round before.
        config: Thresholds.
        recent: Surprise at the transitions that are new in this round.
        before: Surprise at held-out ones of before.
        stamp_ns: The first of the new ones.

    Returns:
        The state, and whether the sum has just amounted to a drift; it then begins anew.
    """
    usual = state.usual if state.level else before
    level = max(0.0, state.level + min(recent - usual - config.slack, config.largest_step))
    began_ns = state.rising_since_ns if state.level else stamp_ns
    if level > config.alarm:
        return DriftState(changed_ns=began_ns), True
    return (DriftState(level, usual, began_ns, state.changed_ns) if level else DriftState(changed_ns=state.changed_ns)), False
