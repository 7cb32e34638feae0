"""Whether the arm does what it is told: commanded against measured motion, without a learned model.

A servo answers late: after a dead time, and then with a lag. Over a window of time it has therefore moved as far as it was told
to in some window of the recent past. The watch compares the measured motion with all windows that are late by up to the
longest response; a motion that lies between none of them, by more than a tolerance, is not the command's.
"""

import bisect
import dataclasses
import operator
from collections import deque

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.control.safety.commanded import CommandedMotion

#: Delays that are tried between none and the longest response.
_NUM_DELAYS = 16
#: Commanded and measured motion in a window from which the response is identified, rad; an arm that stands tells nothing.
_TELLING_RAD = 0.01
#: Share of the motion that the best delay may leave unexplained in what is learned from.
_EXPLAINED = 0.3
#: Windows are looked at that are late by up to this many identified responses, and a moment.
_RESPONSES, _MOMENT_S = 2.0, 0.05
#: Equal measurements in a row that are no coincidence, and speed of a joint that stands, rad/s.
_STALLED_STATES, _STANDING_RAD_S = 4, 0.02
#: Share of the old error that each window leaves in the identification.
_MEMORY = 0.98


@dataclasses.dataclass(frozen=True)
class FollowingConfig(Config):
    """When an arm does not follow."""

    tolerance_rad: float = setting(0.03, 'Distance between commanded and measured motion of a window that is no fault.',
                                   unit='rad', low=0.001, high=1.0)
    tolerated_share: float = setting(0.1, 'As a share of the commanded motion, for servos that overshoot.', low=0.0, high=1.0)
    windows_s: tuple[float, ...] = setting((0.15, 0.6), 'Lengths of the windows: the shorter sees fast motion early, the longer '
                                                        'slow motion at all.', unit='s', low=0.02, high=5.0)
    max_response_s: float = setting(0.25, 'Longest time, dead time and lag together, by which a sound arm is late.', unit='s',
                                    low=0.01, high=1.0)
    max_speed_factor: float = setting(1.5, 'Measured speed, in velocity limits, from which the arm is out of control.', low=1.0,
                                      high=10.0)
    settle_s: float = setting(1.0, 'Time without a fault before the arm may move again; doubles with each hold in a row.',
                              unit='s', low=0.0, high=60.0)
    max_settle_s: float = setting(30.0, 'Longest such time while the joints are seen to move; otherwise it is 30 s at least.',
                                  unit='s', low=0.0, high=3600.0)


class FollowingWatch:
    """Compares what the joints were told with what they did.

    Args:
        joints: Names of the J joints.
        config: Tolerances.

    Attributes:
        response_s: Time by which the joints are late, as far as it was identified; NaN before the first telling motion.
    """

    def __init__(self, joints: tuple[str, ...], config: FollowingConfig) -> None:
        self._joints, self._config = joints, config
        self._delays_ns = np.linspace(0.0, config.max_response_s * 1e9, _NUM_DELAYS).astype(np.int64)
        self._windows_ns = [round(window_s * 1e9) for window_s in sorted(config.windows_s)]
        self._commanded = CommandedMotion(len(joints), 2.0 * (max(config.windows_s) + config.max_response_s))
        self._errors = np.zeros(_NUM_DELAYS)
        self.response_s = np.nan
        self.reset()

    def reset(self) -> None:
        """Forget the motion, as when the arm was put elsewhere; the identified response stays."""
        self._commanded.reset()
        self._measured: deque[tuple[int, np.ndarray]] = deque()

    def told(self, start_ns: int, velocity: np.ndarray) -> None:
        """Note what the driver was told, shape (J,), rad/s, and from when on."""
        self._commanded.told(start_ns, velocity)

    def pending(self, stamp_ns: int, now_ns: int) -> np.ndarray:
        """Motion that was commanded and cannot be in positions measured at `stamp_ns`, shape (J,), rad."""
        late_ns = 0 if np.isnan(self.response_s) else round(self.response_s * 1e9)
        before, after = self._commanded.displacements(np.array([stamp_ns - late_ns, now_ns]))
        return after - before

    def lead(self, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """How far a commanded position may lie below and above the measured one, shape (J,) each, rad.

        That is what was commanded within the longest response, and the tolerance.
        """
        told = self._commanded.displacements(now_ns - self._delays_ns)
        way = told[0] - told  # (K, J)
        return way.min(axis=0) - self._config.tolerance_rad, way.max(axis=0) + self._config.tolerance_rad

    @property
    def is_still(self) -> bool:
        """Whether positions stay what they are to the last bit: the joints stand, or the measurements stall."""
        recent = [q for _, q in list(self._measured)[-_STALLED_STATES:]]
        return len(recent) == _STALLED_STATES and all(np.array_equal(q, recent[-1]) for q in recent)

    def is_stalled(self, velocity: np.ndarray) -> bool:
        """Whether they do although the joints are said to move, at (J,) rad/s; then nobody knows where the arm is."""
        return self.is_still and bool(np.abs(velocity).max() > _STANDING_RAD_S)

    def check(self, stamp_ns: int, q: np.ndarray) -> str:
        """Compare measured positions, shape (J,), rad, with the command; the joint that does not follow, in words, or ''."""
        if self._measured and stamp_ns <= self._measured[-1][0]:
            return ''
        self._measured.append((stamp_ns, q))
        while self._measured[0][0] < stamp_ns - 2 * self._windows_ns[-1]:
            self._measured.popleft()
        begins = [self._measured_at(stamp_ns - window_ns) for window_ns in self._windows_ns]
        ends = stamp_ns - self._delays_ns
        places = self._commanded.displacements(np.concatenate([ends, *(ends - (stamp_ns - begin_ns) for begin_ns, _ in begins)]))
        last, *firsts = places.reshape(len(begins) + 1, _NUM_DELAYS, -1)
        details = [self._compare((stamp_ns - begin_ns) * 1e-9, q - begin, last - first)
                   for (begin_ns, begin), first in zip(begins, firsts)]
        told, moved = last - firsts[0], q - begins[0][1]
        if not any(details) and min(np.abs(told).max(), np.abs(moved).max()) >= _TELLING_RAD:
            self._identify(told, moved)
        return next(filter(None, details), '')

    def _measured_at(self, stamp_ns: int) -> tuple[int, np.ndarray]:
        """Newest measurement that is as old as a stamp, or the first."""
        later = bisect.bisect_right(self._measured, stamp_ns, key=operator.itemgetter(0))
        return self._measured[max(later - 1, 0)]

    def _compare(self, window_s: float, moved: np.ndarray, told: np.ndarray) -> str:
        """Compare the motion of a window, shape (J,), rad, with what was told with each delay, (K, J); a fault in words."""
        near = told if np.isnan(self.response_s) else told[self._delays_ns * 1e-9 <= _RESPONSES * self.response_s + _MOMENT_S]
        lowest, highest = near.min(axis=0), near.max(axis=0)
        tolerance = self._config.tolerance_rad + self._config.tolerated_share * np.maximum(-lowest, highest)
        excess = np.maximum(lowest - moved, moved - highest) - tolerance
        worst = int(np.argmax(excess))
        if excess[worst] <= 0.0:
            return ''
        nearest = near[np.argmin(np.abs(near[:, worst] - moved[worst])), worst]
        return f'{self._joints[worst]} moved {moved[worst]:.3f} rad in {window_s:.2f} s, told was {nearest:.3f} rad'

    def _identify(self, told: np.ndarray, moved: np.ndarray) -> None:
        """Follow the delay (K,) that explains the motion best; told (K, J), moved (J,)."""
        errors = np.square(told - moved).sum(axis=1)
        if errors.min() > _EXPLAINED**2 * np.square(moved).sum():
            return
        self._errors = _MEMORY * self._errors + errors
        self.response_s = float(self._delays_ns[np.argmin(self._errors)]) * 1e-9
