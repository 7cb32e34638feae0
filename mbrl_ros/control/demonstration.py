"""Checks of demonstrated actions. Any node may publish them, so nothing about them is taken for granted."""

from collections.abc import Sequence

import numpy as np

from mbrl_ros.control.safety.hold import HoldReason
from mbrl_ros.errors import PlanningError
from mbrl_ros.types import DemonstratedAction


class DemonstrationRefused(PlanningError):
    """A demonstrated action cannot be followed; the text gives the figures and may be empty.

    Attributes:
        hold: Name of the hold that follows.
    """

    def __init__(self, hold: HoldReason, detail: str = '') -> None:
        super().__init__(detail)
        self.hold = hold


def checked_action(shown: DemonstratedAction | None, names: Sequence[str], now_ns: int, max_age_s: float) -> np.ndarray:
    """The demonstrated action, shape (A,), within [-1, 1], its entries in the order of `names`.

    Args:
        shown: Newest demonstrated action, if any; its entries may be in any order.
        names: The A entries of the task's actions.
        now_ns: Time by the clock that stamped the action.
        max_age_s: Largest difference between stamp and `now_ns`, in either direction.

    Raises:
        DemonstrationRefused: No action, an old one, one with other entries, or one with a number not within [-1, 1].
    """
    if shown is None:
        raise DemonstrationRefused(HoldReason.NO_DEMONSTRATION)
    age_s = (now_ns - shown.stamp_ns) * 1e-9
    if abs(age_s) > max_age_s:
        raise DemonstrationRefused(HoldReason.NO_DEMONSTRATION, f'{age_s:.3f} s old, at most {max_age_s:g} s is allowed')
    if sorted(shown.names) != sorted(names):
        raise _unsound(f'entries {", ".join(shown.names) or "none"}, the task has {", ".join(names)}')
    if shown.action.shape != (len(names),):
        raise _unsound(f'{len(names)} entries but {shown.action.size} numbers')
    within = np.abs(shown.action) <= 1.0
    if not within.all():
        index = int(np.argmin(within))
        raise _unsound(f'{shown.names[index]} is {shown.action[index]:g}')
    return shown.action[[shown.names.index(name) for name in names]]


def _unsound(detail: str) -> DemonstrationRefused:
    return DemonstrationRefused(HoldReason.DEMONSTRATION_REFUSED, detail)
