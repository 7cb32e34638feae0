"""Whether the world has changed, told from how much the bundle in use is surprised by what is new.

Two rules in one detector. A bundle made from few transitions is surprised by whatever it sees first; there only typical errors
many times larger count. One made from many is hardly ever surprised, and small surprises that go on add up to an alarm: a body
that has become heavier or smoother changes few transitions, of which some were always hard to foresee.
"""

import dataclasses

from mbrl_ros.agents.agent import Surprise
from mbrl_ros.config import Config, setting

#: Where there is no moment to name.
NEVER_NS = -1


@dataclasses.dataclass(frozen=True)
class DriftConfig(Config):
    """When surprises amount to a change, and how much what came since then counts."""

    min_transitions: int = setting(2500, 'Transitions that a bundle has to be made from for small surprises to be added up; of a '
                                         'younger one only typical errors are compared.', low=1)
    change_factor: float = setting(5.0, 'A young bundle reports a change when it typically errs this many times more on new '
                                        'transitions than on held-out ones of its own time.', low=1.5)
    change_floor: float = setting(0.05, 'Typical error, in typical changes, that never counts as a change.', low=0.0)
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
        usual: Surprise at held-out transitions before the sum left 0; a bundle that learns both worlds is surprised by either.
        rising_since_ns: First transition of the round in which the sum left 0; `NEVER_NS` while it is 0.
        changed_ns: First transition since the last drift; `NEVER_NS` where there was none.
    """

    level: float = 0.0
    usual: float = 0.0
    rising_since_ns: int = NEVER_NS
    changed_ns: int = NEVER_NS


def detect(state: DriftState, config: DriftConfig, *, recent: Surprise, before: Surprise, num_transitions: int,
           since_ns: int) -> tuple[DriftState, str]:
    """Look at one round.

    Args:
        state: After the round before.
        config: Thresholds.
        recent: At the transitions that are new in this round.
        before: At held-out ones that the bundle in use knew of.
        num_transitions: What the bundle in use was made from.
        since_ns: Stamp of the first of the new transitions.

    Returns:
        The state after this round, and what has changed, in words; empty when nothing has.
    """
    if num_transitions < config.min_transitions:
        return state, _abrupt(recent, before, config)
    state, has_drifted = _follow(state, config, recent=recent.level, before=before.level, since_ns=since_ns)
    said = (f'the world has drifted: the model in use has been more surprised by what is new than by what was before, '
            f'lately by {recent.level:.2f} against {before.level:.2f}')
    return state, said if has_drifted else ''


def _abrupt(recent: Surprise, before: Surprise, config: DriftConfig) -> str:
    """Say that nearly everything is different; typical errors, as one collision with a joint's stop must not move them."""
    if recent.typical_error <= max(config.change_factor * before.typical_error, config.change_floor):
        return ''
    return (f'the arm has changed or is where it never was: the model in use typically errs by {recent.typical_error:.4f} on '
            f'{recent.num_transitions} new transitions, by {before.typical_error:.4f} before')


def _follow(state: DriftState, config: DriftConfig, *, recent: float, before: float, since_ns: int) -> tuple[DriftState, bool]:
    """One-sided cumulative sum of surprises (CUSUM; Page 1954), one a round, and its estimate of when the change was.

    Returns:
        The state, and whether the sum has just amounted to a drift; it then begins anew.
    """
    usual = state.usual if state.level else before
    level = max(0.0, state.level + min(recent - usual - config.slack, config.largest_step))
    began_ns = state.rising_since_ns if state.level else since_ns
    if level > config.alarm:
        return DriftState(changed_ns=began_ns), True
    return (DriftState(level, usual, began_ns, state.changed_ns) if level else DriftState(changed_ns=state.changed_ns)), False
