"""The command filter: every command to the arm passes it.

The filter brings a command within the velocity, position, acceleration and height limits of the robot profile. Position and
height are judged where the arm would come to rest if it braked from the next tick on, so that a stop always stays possible.

The rules act in this order: velocity scales the whole vector and keeps its direction; position and acceleration clip each joint;
height shrinks the rest towards braking. Acceleration wins: no rule and no stop changes the velocity faster than its limit.
"""

import dataclasses

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.robots.origins import JointOrigins
from mbrl_ros.robots.profile import RobotProfile

#: The height rule chooses among these shares of a wanted command that is too low; 0 is pure braking.
_SHARES = np.linspace(1.0, 0.0, 9)[1:]
#: Points of the braking path whose heights are checked, as shares of the longest braking time of a joint.
_BRAKING_TIMES = np.array([0.0, 1 / 3, 2 / 3, 1.0])
#: Periods for which a command may go on when the next one is late; then the command guard brakes.
HOLD_PERIODS = 1.5
#: Time over which the speed of an origin is judged, seconds.
_MOMENT_S = 0.01
#: Jerk of a profile that limits none, rad/s³.
_UNLIMITED = 1e9


@dataclasses.dataclass(frozen=True)
class CommandFilterConfig(Config):
    """Margins within the limits of the robot profile."""

    velocity_scale: float = setting(1.0, 'Share of the velocity limits that may be used.', low=0.01, high=1.0, live=True)
    acceleration_scale: float = setting(1.0, 'Share of the acceleration limits that may be used.', low=0.05, high=1.0)
    max_speed_m_s: float = setting(0.0, 'Largest speed of the tool and of the joints along their ways; 0 for no such limit.',
                                   unit='m/s', low=0.0, high=10.0)
    position_margin_rad: float = setting(0.02, 'Distance kept from the position limits.', unit='rad', low=0.0, high=0.5)
    height_margin_m: float = setting(0.0, 'Added to lowest_link_m and lowest_tool_m of the workspace.', unit='m', low=0.0,
                                     high=0.5)


@dataclasses.dataclass(frozen=True)
class FilteredCommand:
    """What may be sent.

    Attributes:
        velocity: Shape (J,), rad/s.
        clamped: Names of the rules that changed the command, in the order in which they acted.
        refusal: Why the wanted command could not be checked and was replaced by braking; empty if it was checked.
    """

    velocity: np.ndarray
    clamped: tuple[str, ...] = ()
    refusal: str = ''


class CommandFilter:
    """Turns wanted joint velocities into ones that may be sent.

    The filter remembers the last velocity that it let through, because the limits of acceleration and jerk bound the change from
    it.

    Args:
        robot: Limits, and the lowest height of moving joint origins.
        config: Margins.
        late_s: Time for which a driver that hears nothing goes on; position limits keep that far away.

    Raises:
        ConfigError: The robot's URDF has no such chain.
    """

    def __init__(self, robot: RobotProfile, config: CommandFilterConfig, late_s: float = 0.0) -> None:
        self._robot, self._late_s = robot, late_s
        self._origins = JointOrigins(robot)
        self._lower = np.array(robot.position_lower_rad) + config.position_margin_rad
        self._upper = np.array(robot.position_upper_rad) - config.position_margin_rad
        self._acceleration = np.array(robot.max_acceleration_rad_s2) * config.acceleration_scale
        self._max_speed_m_s = config.max_speed_m_s
        self._jerk = np.array(robot.max_jerk_rad_s3 or (_UNLIMITED,) * len(robot.joints))
        # Only origins whose height depends on the joints are checked.
        ends = [np.where(robot.endless, turn, limit) for turn, limit in ((-np.pi, self._lower), (np.pi, self._upper))]
        samples = np.random.default_rng(0).uniform(*ends, (32, len(robot.joints)))
        self._moving = np.flatnonzero(np.ptp(self._origins.points(samples)[..., 2], axis=0) > 1e-6)
        is_tool = self._moving == len(robot.joints)
        self._floor_m = config.height_margin_m + np.where(is_tool, robot.workspace.lowest_tool_m, robot.workspace.lowest_link_m)
        self.velocity_scale = config.velocity_scale
        self.restart(np.zeros(len(robot.joints)))

    @property
    def previous(self) -> np.ndarray:
        """Last velocity that passed, shape (J,), rad/s."""
        return self._previous.copy()

    def restart(self, velocity: np.ndarray) -> None:
        """Go on from a measured velocity, shape (J,), rad/s, instead of from the last command.

        No command continues a speed beyond the limits; where the measurement is no number, the arm counts as standing.
        """
        limits = np.array(self._robot.max_velocity_rad_s)
        self._previous = np.clip(np.where(np.isnan(velocity), 0.0, velocity), -limits, limits)
        self._previous_acceleration = np.zeros(len(limits))

    def apply(self, velocity: np.ndarray, q: np.ndarray, dt: float, hold_s: float | None = None,
              within_s: float = 0.0) -> FilteredCommand:
        """Bring a wanted velocity within all limits; one that cannot be checked is replaced by a step of braking.

        Args:
            velocity: Wanted velocities, shape (J,), rad/s.
            q: Joint positions when the command takes effect, shape (J,), rad.
            dt: Time until the next command, seconds.
            hold_s: How long the command may go on before the arm brakes, seconds; by default `HOLD_PERIODS` times `dt` as to the
                position limits, and `dt` as to the heights, which the command guard checks again at its own rate.
            within_s: Time in which the velocity is to be reached, at an even acceleration, seconds; by default `dt`.
        """
        if refusal := self._refusal(velocity, q):
            return FilteredCommand(self.brake(dt), (), refusal)
        limits = np.array(self._robot.max_velocity_rad_s) * self.velocity_scale
        scaled = self._slowed(velocity / max(1.0, float(np.max(np.abs(velocity) / limits))), q)
        stoppable = self._clip_position(scaled, q, max(hold_s or HOLD_PERIODS * dt, self._late_s))
        due = stoppable if within_s <= dt else self._previous + (stoppable - self._previous) * dt / within_s
        reachable = self._clip_acceleration(due, np.abs(stoppable - self._previous), dt)
        raised = self._keep_above_floor(reachable, q, dt, hold_s or dt)
        stages = {'velocity': (velocity, scaled), 'position': (scaled, stoppable), 'acceleration': (due, reachable),
                  'height': (reachable, raised)}
        acted = tuple(rule for rule, (before, after) in stages.items() if not np.array_equal(before, after))
        self._take(raised, dt)
        return FilteredCommand(raised, acted)

    def brake(self, dt: float) -> np.ndarray:
        """Next velocity of the hardest stop within the acceleration limits, shape (J,), rad/s; zeros once the arm stands."""
        self._take(self._braked(dt), dt)
        return self.previous

    def _take(self, velocity: np.ndarray, dt: float) -> None:
        self._previous_acceleration = (velocity - self._previous) / dt
        self._previous = velocity.copy()

    def _refusal(self, velocity: np.ndarray, q: np.ndarray) -> str:
        size = len(self._robot.joints)
        for label, values in (('command', velocity), ('joint positions', q)):
            if np.shape(values) != (size,):
                return f'{label} of shape {np.shape(values)} for {size} joints'
            if not np.isfinite(values).all():
                joint = self._robot.joints[int(np.argmin(np.isfinite(values)))]
                return f'{label} not finite at {joint}'
        return ''

    def _braked(self, dt: float) -> np.ndarray:
        return np.sign(self._previous) * np.maximum(np.abs(self._previous) - self._acceleration * dt, 0.0)

    def _slowed(self, velocity: np.ndarray, q: np.ndarray) -> np.ndarray:
        """The largest share of a velocity at which no origin moves faster than allowed."""
        if not self._max_speed_m_s:
            return velocity
        before, after = self._origins.points(np.stack([q, q + velocity * _MOMENT_S]))
        speed = float(np.linalg.norm(after - before, axis=-1).max()) / _MOMENT_S
        return velocity * min(1.0, self._max_speed_m_s / max(speed, 1e-9))

    def _clip_position(self, velocity: np.ndarray, q: np.ndarray, dt: float) -> np.ndarray:
        """Clip to the largest speed v that, held for `dt` and then braked, stays within the distance d: v dt + v²/2a <= d."""
        a = self._acceleration
        towards_upper = np.sqrt((a * dt) ** 2 + 2.0 * a * np.maximum(self._upper - q, 0.0)) - a * dt
        towards_lower = np.sqrt((a * dt) ** 2 + 2.0 * a * np.maximum(q - self._lower, 0.0)) - a * dt
        return np.clip(velocity, -towards_lower, towards_upper)

    def _clip_acceleration(self, velocity: np.ndarray, missing: np.ndarray, dt: float) -> np.ndarray:
        """Nearest velocity one step on; the acceleration falls in time for its own end, as far as the jerk allows.

        Args:
            velocity: Wanted one step on, shape (J,), rad/s.
            missing: Change of velocity until that end, shape (J,), rad/s.
            dt: Length of the step, seconds.
        """
        wanted = (velocity - self._previous) / dt
        fading = np.sqrt(2.0 * self._jerk * missing)
        limit, change = np.minimum(self._acceleration, fading), self._jerk * dt
        allowed = np.clip(wanted, -limit, limit)
        allowed = np.clip(allowed, self._previous_acceleration - change, self._previous_acceleration + change)
        allowed = np.clip(allowed, -self._acceleration, self._acceleration)
        return np.where(allowed == wanted, velocity, self._previous + allowed * dt)

    def _keep_above_floor(self, velocity: np.ndarray, q: np.ndarray, dt: float, hold_s: float) -> np.ndarray:
        """Largest share of the command whose braking path keeps every moving origin above the floor.

        An origin that is already below the floor may rise but not sink.
        """
        if self._stays_above_floor(velocity[None], q, hold_s)[0]:
            return velocity
        braked = self._braked(dt)
        candidates = braked + _SHARES[:, None] * (velocity - braked)  # (N, J)
        allowed = self._stays_above_floor(candidates, q, hold_s)
        return candidates[int(np.argmax(allowed))] if allowed.any() else braked

    def _stays_above_floor(self, candidates: np.ndarray, q: np.ndarray, hold_s: float) -> np.ndarray:
        """Which candidates (N, J) brake above the floor, shape (N,)."""
        paths = self._braking_paths(candidates, q, hold_s)  # (N, 4, J)
        heights = self._heights(np.concatenate([paths.reshape(-1, len(q)), q[None]]))  # (N * 4 + 1, points)
        lowest = heights[:-1].reshape(len(candidates), len(_BRAKING_TIMES), -1).min(axis=1)  # (N, points)
        return (lowest >= np.minimum(self._floor_m, heights[-1])).all(axis=1)

    def _braking_paths(self, velocity: np.ndarray, q: np.ndarray, dt: float) -> np.ndarray:
        stop_time = np.abs(velocity) / self._acceleration  # (N, J)
        times = _BRAKING_TIMES[None, :, None] * stop_time.max(axis=1)[:, None, None]
        times = np.minimum(times, stop_time[:, None, :])  # (N, 4, J)
        travel = velocity[:, None, :] * times - 0.5 * np.sign(velocity)[:, None, :] * self._acceleration * times**2
        return q + velocity[:, None, :] * dt + travel

    def _heights(self, q: np.ndarray) -> np.ndarray:
        """Heights of the moving origins and the tool, m, shape (N, points), at joint positions (N, J)."""
        return self._origins.points(q)[:, self._moving, 2]
