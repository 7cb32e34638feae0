"""Rolling window for trajectory drivers: the command for one period, then a stop.

Later commands have not passed the command filter yet, so the window does not contain them. If no further message comes, the
driver executes the stop, which the filter has shown to be possible.
"""

import numpy as np

_MIN_POINTS = 3


def braking_window(position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray,
                   dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Points one control period apart, from the end of the command's period to standstill.

    Args:
        position: Start of the command, shape (J,), rad.
        velocity: Filtered command, held for one period, shape (J,), rad/s.
        acceleration: Braking limits, shape (J,), rad/s².
        dt: Control period, seconds.

    Returns:
        Positions and velocities, each of shape (K, J) with K at least 3.
    """
    steps = max(_MIN_POINTS - 1, int(np.ceil(np.max(np.abs(velocity) / (acceleration * dt)) - 1e-9)))
    elapsed = np.arange(steps + 1)[:, None] * dt  # (K, 1)
    braking = np.minimum(elapsed, np.abs(velocity) / acceleration)  # (K, J)
    slowed = velocity - np.sign(velocity) * acceleration * braking
    travel = velocity * (dt + braking) - 0.5 * np.sign(velocity) * acceleration * braking**2
    slowed[-1] = 0.0  # Rounding must not leave a trajectory that ends in motion; drivers refuse it.
    return position + travel, slowed
