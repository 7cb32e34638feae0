"""Checks of the newest state: is it there, complete, fresh, and possible after the state before?"""

import dataclasses

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.control.safety.hold import HoldReason
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import RobotState


@dataclasses.dataclass(frozen=True)
class StateWatchConfig(Config):
    """Limits beyond which a state is too old, too new, or impossible."""

    max_age_s: float = setting(0.1, 'Oldest state that may be acted on.', unit='s', low=0.001, high=5.0)
    max_future_s: float = setting(0.05, 'How far in the future a state may be stamped.', unit='s', low=0.0, high=5.0)
    jump_tolerance_rad: float = setting(0.1, 'Motion between two states beyond what the velocity limits explain.',
                                        unit='rad', low=0.001, high=3.0)
    jump_settle_s: float = setting(0.5, 'Time without a jump before the arm may move again.', unit='s', low=0.0, high=60.0)


class StateWatch:
    """Judges each state before it is used.

    Args:
        robot: Names of the joints and their velocity limits.
        config: Tolerances.

    Attributes:
        detail: Figures or joints behind the last check's hold; may be empty.
    """

    def __init__(self, robot: RobotProfile, config: StateWatchConfig) -> None:
        self._robot = robot
        self._config = config
        self._limits = np.array(robot.max_velocity_rad_s)
        self.detail = ''
        self.reset()

    def reset(self) -> None:
        """Forget the last state, because the world may have been reset."""
        self._last: RobotState | None = None
        self._jump_ns: int | None = None
        self._jump_detail = ''

    def check(self, state: RobotState | None, now_ns: int) -> HoldReason | None:
        """The reason to hold, or None if the newest state may be acted on; `now_ns` is a time by the clock of the stamps."""
        self.detail = ''
        if state is None:
            return HoldReason.NO_STATE
        sound = {name for name, *values in zip(state.names, state.position, state.velocity) if np.isfinite(values).all()}
        if incomplete := [joint for joint in self._robot.joints if joint not in sound]:
            self.detail = ', '.join(incomplete)
            return HoldReason.STATE_INCOMPLETE
        age_s = (now_ns - state.stamp_ns) * 1e-9
        if age_s > self._config.max_age_s:
            self.detail = f'{age_s:.3f} s old, at most {self._config.max_age_s:g} s is allowed'
            return HoldReason.STALE_STATE
        if age_s < -self._config.max_future_s:
            self.detail = f'{-age_s:.3f} s ahead, at most {self._config.max_future_s:g} s is allowed'
            return HoldReason.FUTURE_STATE
        return self._check_jump(state)

    def _check_jump(self, state: RobotState) -> HoldReason | None:
        if self._last is not None and (jumped := self._jumped(self._last, state)):
            self._jump_ns, self._jump_detail = state.stamp_ns, ', '.join(jumped)
        self._last = state
        if self._jump_ns is None:
            return None
        if 0 <= state.stamp_ns - self._jump_ns < self._config.jump_settle_s * 1e9:
            self.detail = self._jump_detail
            return HoldReason.STATE_JUMP
        self._jump_ns = None
        return None

    def _jumped(self, last: RobotState, state: RobotState) -> list[str]:
        """Each joint that moved further than its velocity limit allows, with the distance."""
        moved = np.abs(state.positions(self._robot.joints) - last.positions(self._robot.joints))
        elapsed_s = abs(state.stamp_ns - last.stamp_ns) * 1e-9
        allowed = self._limits * elapsed_s + self._config.jump_tolerance_rad
        return [f'{joint} by {distance:.2f} rad' for joint, distance, limit in zip(self._robot.joints, moved, allowed)
                if distance > limit]
