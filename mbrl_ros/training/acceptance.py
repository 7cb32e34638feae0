"""Whether a candidate replaces the model in use: not when it is worse by more than chance, and always with the reason."""

import dataclasses

from mbrl_ros.config import Config, setting
from mbrl_ros.models.ensemble.metrics import Validation


@dataclasses.dataclass(frozen=True)
class AcceptanceConfig(Config):
    """How much a candidate may be worse than the model in use, on the same held-out transitions."""

    rmse_tolerance: float = setting(0.1, 'Share by which its error may be larger; room for chance.', low=0.0, high=1.0)
    rmse_floor: float = setting(0.002, 'Difference in error, in output standard deviations, that never matters.', low=0.0)
    nll_tolerance: float = setting(0.5, 'Amount by which its negative log-likelihood a dimension may be larger.', low=0.0)
    change_factor: float = setting(
        5.0, 'The arm counts as changed when the model in use typically errs this many times more on new transitions than on '
        'held-out ones of its own time.', low=1.5)
    change_floor: float = setting(0.05, 'Typical error, in output standard deviations, that never counts as a change.', low=0.0)


@dataclasses.dataclass(frozen=True)
class Decision:
    """Attributes: `accepted`, and `reason`, one sentence with the figures."""

    accepted: bool
    reason: str


def decide(candidate: Validation, current: Validation | None, config: AcceptanceConfig, *, changed: str = '') -> Decision:
    """Compare a candidate with the model in use.

    Args:
        candidate: Validation of the candidate on the held-out transitions of today.
        current: Validation of the model in use on the same ones; None when there is none.
        config: Tolerances.
        changed: What `describe_change` said; put before the reason.
    """
    prefix = f'{changed}; ' if changed else ''
    figures = f'held-out error {candidate.rmse:.4f} on {candidate.num_transitions} transitions'
    if not (candidate.rmse < float('inf') and candidate.nll < float('inf')):
        return Decision(False, f'{prefix}rejected: its predictions are not finite')
    if current is None:
        return Decision(True, f'{prefix}accepted: first model, {figures}')
    compared = f'{figures}, the model in use has {current.rmse:.4f}'
    if candidate.rmse > max((1.0 + config.rmse_tolerance) * current.rmse, current.rmse + config.rmse_floor):
        return Decision(False, f'{prefix}rejected: {compared}')
    if candidate.nll > current.nll + config.nll_tolerance and candidate.rmse > current.rmse - config.rmse_floor:
        return Decision(False, f'{prefix}rejected: negative log-likelihood {candidate.nll:.2f}, the model in use has '
                               f'{current.nll:.2f}, at no smaller error; {compared}')
    worse = ', worse by no more than chance' if candidate.rmse > current.rmse else ''
    return Decision(True, f'{prefix}accepted{worse}: {compared}')


def describe_change(recent: Validation, before: Validation, config: AcceptanceConfig) -> str:
    """Say that the arm moves differently from what the model in use had learned; empty when it does not.

    Args:
        recent: Validation of the model in use on transitions newer than itself.
        before: Its validation on held-out transitions of its own time.
        config: Thresholds.
    """
    if recent.typical_error <= max(config.change_factor * before.typical_error, config.change_floor):
        return ''
    return (f'the arm has changed or is where it never was: the model in use typically errs by {recent.typical_error:.4f} on '
            f'{recent.num_transitions} new transitions, by {before.typical_error:.4f} before')
