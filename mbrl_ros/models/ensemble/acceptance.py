"""Acceptance of a candidate: it replaces the model in use unless it is worse by more than chance, or worse than no model."""

import dataclasses

from mbrl_ros.config import Config, setting
from mbrl_ros.models.ensemble.metrics import Validation


@dataclasses.dataclass(frozen=True)
class AcceptanceConfig(Config):
    """How much a candidate may be worse than the model in use, or than a constant change, on the same held-out transitions."""

    rmse_tolerance: float = setting(0.1, 'Share by which the candidate\'s error may be larger by chance.', low=0.0, high=1.0)
    constant_tolerance: float = setting(1.0, 'Share by which a model\'s error may be larger than that of the mean change alone; '
                                             'few held-out transitions tell little.', low=0.0)
    rmse_floor: float = setting(0.002, 'Difference in error, in output standard deviations, that never matters.', low=0.0)
    nll_tolerance: float = setting(0.5, 'Amount by which the candidate\'s negative log-likelihood a dimension may be larger.',
                                   low=0.0)


def decide(candidate: Validation, current: Validation | None, constant: float, config: AcceptanceConfig) -> tuple[bool, str]:
    """Compare a candidate with the model in use and with a constant change, which no model may be worse than.

    Args:
        candidate: Validation of the candidate on held-out transitions.
        current: Validation of the model in use on the same transitions; None without a model in use.
        constant: Error of the mean change on the same transitions, see `metrics.constant_error`.
        config: Tolerances.

    Returns:
        Whether the candidate is accepted, and the reason, one sentence with the figures.
    """
    figures = f'held-out error {candidate.rmse:.4f} on {candidate.num_transitions} transitions'
    if not (candidate.rmse < float('inf') and candidate.nll < float('inf')):
        return False, 'rejected: its predictions are not finite'
    alone = f'the mean change alone has {constant:.4f}'
    is_useless = _is_worse(candidate.rmse, constant, config.constant_tolerance, config)
    if current is None:
        return not is_useless, f'rejected: {figures}, {alone}' if is_useless else f'accepted: first model, {figures}'
    compared = f'{figures}, the model in use has {current.rmse:.4f}'
    is_finite = current.rmse < float('inf')
    if is_useless or not is_finite or _is_worse(current.rmse, constant, config.constant_tolerance, config):
        # After a change of the world both may be useless for a while, one less than the other.
        is_better = not is_useless or not is_finite or _is_worse(current.rmse, candidate.rmse, config.rmse_tolerance, config)
        return is_better, f'{"accepted" if is_better else "rejected"}: {compared}, {alone}'
    if _is_worse(candidate.rmse, current.rmse, config.rmse_tolerance, config):
        return False, f'rejected: {compared}'
    if candidate.nll > current.nll + config.nll_tolerance and candidate.rmse > current.rmse - config.rmse_floor:
        return False, (f'rejected: negative log-likelihood {candidate.nll:.2f}, the model in use has {current.nll:.2f}, '
                       f'at no smaller error; {compared}')
    worse = ', worse by no more than chance' if candidate.rmse > current.rmse else ''
    return True, f'accepted{worse}: {compared}'


def _is_worse(rmse: float, other: float, tolerance: float, config: AcceptanceConfig) -> bool:
    return rmse > max((1.0 + tolerance) * other, other + config.rmse_floor)
