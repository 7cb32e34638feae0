"""Where the joints are to be: commanded velocities as positions and as trajectories, for drivers that want those.

A reference that ran ahead of an arm that does not follow would make it jump when it obeys again. So the reference may lead the
measured positions by no more than what was commanded within the arm's response, and starts from them after any silence.
"""

import numpy as np

#: Speed at which the reference comes back to an arm that does not follow, rad/s.
_CREEP_RAD_S = 0.05
#: Distance of the points of a stop, seconds.
_STEP_S = 0.02


class PositionReference:
    """The integral of the velocities that were sent, kept near the arm.

    An arm that does not follow stands where it is measured, unless the measurements stall. Then the arm is elsewhere, and the
    reference creeps to the measured positions instead of jumping there.

    Attributes:
        is_near: Whether it lies as near to the measured positions as it has to.
    """

    def __init__(self) -> None:
        self.rest()

    def rest(self) -> None:
        """Nothing is sent any more; the next command starts from where the arm then is."""
        self._position: np.ndarray | None = None
        self.is_near = True

    def advance(self, velocity: np.ndarray, dt: float, q: np.ndarray, lead: tuple[np.ndarray, np.ndarray], *,
                in_doubt: bool = False) -> np.ndarray:
        """Go on for one period at a velocity, and return where that began, shape (J,), rad.

        Args:
            velocity: Mean velocity of the period, shape (J,), rad/s.
            dt: Length of the period, seconds.
            q: Newest measured positions, shape (J,), rad.
            lead: Lowest and highest distance from `q`, shape (J,) each, rad.
            in_doubt: Whether the measurements stall.
        """
        position = q if self._position is None else self._position
        missing = np.clip(position, q + lead[0], q + lead[1]) - position
        self.is_near = not missing.any()
        start = position + (np.clip(missing, -_CREEP_RAD_S * dt, _CREEP_RAD_S * dt) if in_doubt else missing)
        self._position = start + velocity * dt
        return start


def braking_window(start: np.ndarray, velocities: tuple[np.ndarray, np.ndarray], acceleration: np.ndarray, dt: float,
                   hold_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rolling window of a trajectory: from one velocity to the next in a period, which holds for a while, then a stop.

    What lies beyond has not passed the command filter. So the window brakes there, and a driver that hears nothing more comes to
    the stop that the filter has shown to be possible. The cubic spline that a joint_trajectory_controller makes of the points
    asks for no more than the acceleration limits.

    The window's first point is where the reference is now. By the time it takes effect that point has passed, and so the
    controller goes from point to point, never from the measured state to one of them. Whether it interpolates from the desired
    state makes no difference.

    Args:
        start: Where the window begins, shape (J,), rad.
        velocities: At the beginning and at the end of the first period, shape (J,) each, rad/s.
        acceleration: Limits to brake with, shape (J,), rad/s².
        dt: Period, seconds.
        hold_s: Time for which the velocity then holds, seconds: until the next window takes effect.

    Returns:
        Times from the start, shape (K,), positions and velocities, shape (K, J) each; the last point stands.
    """
    before, velocity = velocities
    # A stop that ends between two points would be a steeper spline: each joint takes a whole number of steps.
    steps = np.maximum(np.ceil(np.abs(velocity) / (acceleration * _STEP_S) - 1e-9), 1.0)  # (J,)
    index = np.arange(int(steps.max()) + 1)  # (S,)
    elapsed = np.minimum(index[:, None], steps)  # (S, J), steps of braking
    slowed = velocity * (1.0 - elapsed / steps)
    reached = start + 0.5 * (before + velocity) * dt
    braked = reached + velocity * hold_s + 0.5 * (velocity + slowed) * elapsed * _STEP_S
    return (np.concatenate([[0.0, dt], dt + hold_s + index * _STEP_S]), np.concatenate([[start, reached], braked]),
            np.concatenate([[before, velocity], slowed]))
