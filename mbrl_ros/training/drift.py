"""Detection of changed dynamics from the surprise of the bundle in use at new transitions.

The detector has two rules. A bundle trained on few transitions is surprised by any new region, so only a typical error that is
many times larger counts as a change. A bundle trained on many is rarely surprised, so small surprises are added up over rounds
until they raise an alarm. A body that became heavier or smoother, for example, changes only few transitions, and some of those
were hard to predict before.
"""

import dataclasses

from mbrl_ros.agents.agent import Surprise
from mbrl_ros.config import Config, setting

#: Stamp of an event that has not happened.
NEVER_NS = -1


@dataclasses.dataclass(frozen=True)
class DriftConfig(Config):
    """When surprises count as a change of the dynamics, and the weight of transitions since then."""

    min_transitions: int = setting(2500, 'Fewest transitions of a bundle whose small surprises are added up over rounds; a '
                                         'bundle trained on fewer is only tested by its typical error.', low=1)
    change_factor: float = setting(5.0, 'A bundle trained on fewer transitions reports a change when its typical error on new '
                                        'transitions is this many times that on held-out ones.', low=1.5)
    change_floor: float = setting(0.05, 'Typical error, in typical changes of a step, below which there is no change.', low=0.0)
    slack: float = setting(0.35, 'Surprise at new transitions above that at held-out ones that counts as chance.', low=0.0)
    largest_step: float = setting(1.0, 'Most that one round adds to the sum of surprises; below alarm, so that one odd episode '
                                       'raises no alarm.', low=1e-6)
    alarm: float = setting(1.5, 'Sum over rounds of the surprise above slack that counts as a change.', low=1e-6)
    recent_share: float = setting(0.5, 'Share of a round\'s training data that transitions since the last change get, by '
                                       'repetition.', low=0.0, high=0.9)


@dataclasses.dataclass(frozen=True)
class DriftState:
    """State of the detector; a resumed run continues with it.

    Attributes:
        level: Sum of surprises; 0 without any sign of a drift.
        usual: Surprise at held-out transitions before the sum left 0, kept because a bundle that learns the old and the new
            dynamics is surprised by both.
        rising_since_ns: First transition of the round in which the sum left 0; `NEVER_NS` while it is 0.
        changed_ns: First transition since the last drift; `NEVER_NS` before the first drift.
    """

    level: float = 0.0
    usual: float = 0.0
    rising_since_ns: int = NEVER_NS
    changed_ns: int = NEVER_NS


def detect(state: DriftState, config: DriftConfig, *, recent: Surprise, before: Surprise, num_transitions: int,
           since_ns: int) -> tuple[DriftState, str]:
    """Test one round for a change of the dynamics.

    Args:
        state: State after the round before.
        config: Thresholds.
        recent: Surprise at the transitions that are new in this round.
        before: Surprise at held-out transitions from before the bundle in use was trained.
        num_transitions: Number of transitions that the bundle in use was trained on.
        since_ns: Stamp of the first new transition.

    Returns:
        The state after this round, and a description of the change; empty without a change.
    """
    if num_transitions < config.min_transitions:
        # Median errors, because a single collision with a joint's stop must not report a change.
        if recent.typical_error <= max(config.change_factor * before.typical_error, config.change_floor):
            return state, ''
        return state, (f'the arm has changed or is where it never was: the model in use typically errs by '
                       f'{recent.typical_error:.4f} on {recent.num_transitions} new transitions, by {before.typical_error:.4f} '
                       f'before')
    state, has_drifted = _follow(state, config, recent=recent.level, before=before.level, since_ns=since_ns)
    said = (f'the world has drifted: the model in use has been more surprised by what is new than by what was before, '
            f'lately by {recent.level:.2f} against {before.level:.2f}')
    return state, said if has_drifted else ''


def _follow(state: DriftState, config: DriftConfig, *, recent: float, before: float, since_ns: int) -> tuple[DriftState, bool]:
    """Add one round to a one-sided cumulative sum of surprises (CUSUM; Page 1954), which also dates the change.

    Returns:
        The state, and whether the sum has exceeded `alarm`; it then starts again from 0.
    """
    usual = state.usual if state.level else before
    level = max(0.0, state.level + min(recent - usual - config.slack, config.largest_step))
    began_ns = state.rising_since_ns if state.level else since_ns
    if level > config.alarm:
        return DriftState(changed_ns=began_ns), True
    return (DriftState(level, usual, began_ns, state.changed_ns) if level else DriftState(changed_ns=state.changed_ns)), False
