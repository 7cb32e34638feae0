"""An arm in the same process behind the command guard: one control period a step, as the live stack drives it."""

from typing import Protocol

import numpy as np

from mbrl_ros.control.safety.guard import CommandGuard, GuardConfig
from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import AppliedCommand, RobotState

#: Lowest rate of the guard, where the physics allows it.
_LOWEST_HZ = 100.0


class Arm(Protocol):
    """What obeys: joint velocities in, the state a moment later out."""

    def step(self, velocity: np.ndarray, opening_m: float | None = None) -> RobotState:
        """Go on for one period of the guard.

        Args:
            velocity: Of the joints, shape (J,), rad/s.
            opening_m: That the fingers move to; None leaves them moving to what they were told last.
        """


def guard_rate_hz(physics_hz: float, control_hz: float) -> float:
    """Lowest rate from 100 Hz on that divides a control period into equal numbers of physics steps.

    Raises:
        ConfigError: The control rate does not divide the rate of the physics.
    """
    steps = round(physics_hz / control_hz) if control_hz > 0.0 else 0
    if steps < 1 or abs(steps * control_hz - physics_hz) > 1e-6:
        raise ConfigError(f'control_hz needs a divisor of the physics rate, {physics_hz} Hz, got {control_hz}')
    return physics_hz / max(count for count in range(1, steps + 1)
                            if steps % count == 0 and (count == 1 or physics_hz / count >= _LOWEST_HZ))


class GuardedArm:
    """Brings an arm to the controller's velocities as the command guard does before a driver.

    Args:
        arm: The arm.
        robot: Its profile.
        config: Settings of the guard.
        period_s: Period of the guard.
        control_period_s: Control period, a multiple of it.

    Attributes:
        velocity: Velocity that was reached by the last step, shape (J,), rad/s.
    """

    def __init__(self, arm: Arm, robot: RobotProfile, config: GuardConfig, *, period_s: float, control_period_s: float) -> None:
        self._arm, self._joints = arm, robot.joints
        self._ticks = round(control_period_s / period_s)
        self._guard = CommandGuard(robot, config, period_s=period_s, control_period_s=control_period_s, lockstep=True)
        self.reset()

    def reset(self) -> None:
        """The arm stands, wherever it was put."""
        self._guard.reset()
        self.velocity = np.zeros(len(self._joints))

    def step(self, state: RobotState, velocity: np.ndarray, opening_m: float | None = None) -> RobotState:
        """Follow a command for one control period.

        Args:
            state: State of the arm now.
            velocity: Wanted velocities, shape (J,), rad/s.
            opening_m: As for `Arm.step`.

        Returns:
            The state at the end of the period.
        """
        self._guard.accept(AppliedCommand(state.stamp_ns, self._joints, velocity, opening_m), state.stamp_ns)
        for _ in range(self._ticks):
            self.velocity = self._guard.tick(state.stamp_ns, state).velocity
            state = self._arm.step(self.velocity, opening_m)
            opening_m = None
        return state
