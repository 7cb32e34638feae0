"""Scripted experts for the tasks over a table, which give a model its first experience of contact.

Random exploration hardly ever grasps a cube, so a model trained on it has never seen a held one. An expert has the observations
and actions of a planner. It needs no clock: its actions depend on the observation and on its phase.
"""

import enum
from collections.abc import Callable, Sequence

import numpy as np

from mbrl_ros.errors import ConfigError, GoalError
from mbrl_ros.robots.twist import TWIST_SIZE, TwistConfig
from mbrl_ros.spaces.tabletop import BODY, BODY_YAW, OPENING, SIZE, TOOL, TOOL_YAW

_OPEN, _CLOSED = 1.0, -1.0
_ACTION_SIZE = TWIST_SIZE + 1
#: Share of the noise that lasts from one action to the next, and size of the opening's noise relative to the others'.
_NOISE_DECAY, _GRIP_NOISE = 0.8, 0.5
#: Speed per error of the tool's position and yaw, 1/s.
_POSITION_GAIN, _YAW_GAIN = 4.0, 3.0
#: A cube looks the same after a quarter turn, and so do two fingers that push.
_QUARTER = 0.5 * np.pi
#: Distance of the fingertips below the tool, and the lowest height of the tool, which keeps them off the table.
_FINGERTIP_M, _LOWEST_M = 0.008, 0.015
#: Errors of position and yaw below which the tool starts down, and above which it goes up again.
_START_M, _START_RAD, _GIVE_UP_M, _GIVE_UP_RAD = 0.012, 0.1, 0.03, 0.35
#: Height above the working height at which the tool counts as down, and depth below it that the tool aims at, because of noise.
_LEVEL_M, _SINK_M = 0.008, 0.01
_TINY_M = 1e-6


class Demonstrator:
    """Scripted expert over observations of `ToolSpace` for `lift`, `pick_place` or `push`.

    `lift` grasps the body and raises it to the goal's height. `pick_place` carries it to the goal, which may be on the table, and
    keeps hold of it there. `push` pushes it along the table with closed fingers until it is within 15 mm of the goal. The expert
    starts again when a grasp misses, when it drops the body, or when the body slides aside.

    The body is a cube on the table at z = 0, at least 1 cm smaller than the open gripper.

    Args:
        task: `lift`, `pick_place` or `push`.
        noise_std: Standard deviation of the smooth noise on actions, which gives data beside the path; 0 for none.
        seed: Seed of the noise; equal seeds and episodes have equal noise.

    Raises:
        ConfigError: There is no such task, or the noise is negative.
    """

    def __init__(self, task: str, *, noise_std: float = 0.1, seed: int = 0) -> None:
        if task not in DEMONSTRATED:
            raise ConfigError(f'there is no demonstration of {task!r}; known: {", ".join(sorted(DEMONSTRATED))}')
        if not noise_std >= 0.0:
            raise ConfigError(f'noise_std of a demonstration cannot be negative, got {noise_std}')
        self.task, twist = task, TwistConfig()
        self._scale = np.array([*[twist.max_linear_m_s] * 3, twist.max_yaw_rad_s, 1.0])
        self._noise_std = noise_std * np.array([*[1.0] * TWIST_SIZE, _GRIP_NOISE])
        self._seed = seed
        self._script: _Carry | _Push | None = None

    def reset(self, goal_m: Sequence[float] | np.ndarray, episode: int) -> None:
        """Begin an episode.

        Args:
            goal_m: Goal of the body's centre in the base frame, shape (3,), m; a lift only uses its height.
            episode: Index of the episode, 0 or more; the seed of the noise depends on it.

        Raises:
            GoalError: The goal is not three finite numbers.
        """
        goal = np.array(goal_m, dtype=np.float64)
        if goal.shape != (3,) or not np.isfinite(goal).all():
            raise GoalError(f'a goal needs three finite coordinates, got {goal_m}')
        self._script = DEMONSTRATED[self.task](goal)
        self._rng = np.random.default_rng((self._seed, episode))
        self._noise = np.zeros(_ACTION_SIZE)

    def action(self, obs: np.ndarray) -> np.ndarray:
        """Next action, shape (5,), within [-1, 1]; call it once per control step.

        Args:
            obs: Observation of `ToolSpace`, shape (18,).

        Raises:
            GoalError: No episode has begun.
        """
        if self._script is None:
            raise GoalError(f'a demonstration of {self.task} needs a goal first; call reset')
        wanted = np.clip(self._script.move(np.asarray(obs, dtype=np.float64)) / self._scale, -1.0, 1.0)
        # First-order autoregressive noise moves the arm; white noise would only shake it.
        fresh = np.sqrt(1.0 - _NOISE_DECAY**2) * self._rng.standard_normal(_ACTION_SIZE)
        self._noise = _NOISE_DECAY * self._noise + fresh * self._noise_std
        return np.clip(wanted + self._noise, -1.0, 1.0)


class _Grasp(enum.Enum):
    """Phase of a grasp."""

    ABOVE = enum.auto()  #: go above the body and turn to it, the gripper open
    DOWN = enum.auto()   #: go down around it
    CLOSE = enum.auto()  #: close until the fingers stop
    HOLD = enum.auto()   #: hold it


class _Carry:
    """Grasp the body from above and bring it to the goal.

    Args:
        goal: Shape (3,), m.
        raises_only: Whether to ignore the goal's x and y.
    """

    #: Heights over the body for approaching it and for carrying it, and the distance from the tool at which it counts as lost.
    _HOVER_M, _CLEARANCE_M, _LOST_M = 0.1, 0.06, 0.035
    #: Room that the body needs between the fingers, and the largest speed of a held body.
    _ROOM_M, _CARRY_M_S = 0.01, 0.3
    #: Fingers rest on the body if they are slower than this and have closed by at least this much.
    _STILL_M_S, _CLOSED_BY_M = 0.01, 0.005

    def __init__(self, goal: np.ndarray, raises_only: bool) -> None:
        self._goal, self._raises_only = goal, raises_only
        self._phase = _Grasp.ABOVE
        self._rest_m, self._opened_m = np.inf, 0.0

    def move(self, obs: np.ndarray) -> np.ndarray:
        """Twist of the tool, m/s and rad/s, then the opening in [-1, 1], shape (5,), for an observation (18,)."""
        self._rest_m = min(self._rest_m, obs[BODY][2])
        self._phase = self._next_phase(obs)
        if self._phase is _Grasp.HOLD:
            return self._carry(obs)
        work = _working_height(obs[BODY][2])
        height = {_Grasp.ABOVE: obs[BODY][2] + self._HOVER_M, _Grasp.DOWN: work - _SINK_M, _Grasp.CLOSE: work}[self._phase]
        to_there = np.array([*obs[BODY][:2], height]) - obs[TOOL]
        grip = _CLOSED if self._phase is _Grasp.CLOSE else _OPEN
        return np.array([*_POSITION_GAIN * to_there, _YAW_GAIN * _yaw_error(obs), grip])

    def _next_phase(self, obs: np.ndarray) -> _Grasp:
        to_body = obs[BODY] - obs[TOOL]
        beside, turned = float(np.hypot(*to_body[:2])), abs(_yaw_error(obs))
        if self._phase is _Grasp.ABOVE:
            fits = obs[OPENING] > 2.0 * self._rest_m + self._ROOM_M
            return _Grasp.DOWN if fits and beside < _START_M and turned < _START_RAD else _Grasp.ABOVE
        if self._phase is _Grasp.DOWN:
            if beside > _GIVE_UP_M or turned > _GIVE_UP_RAD:
                return _Grasp.ABOVE
            if obs[TOOL][2] > _working_height(obs[BODY][2]) + _LEVEL_M:
                return _Grasp.DOWN
            self._opened_m = obs[OPENING]
            return _Grasp.CLOSE
        if np.linalg.norm(to_body) > self._LOST_M:
            return _Grasp.ABOVE
        if self._phase is _Grasp.CLOSE:
            stopped = obs[SIZE + OPENING] > -self._STILL_M_S and obs[OPENING] < self._opened_m - self._CLOSED_BY_M
            return _Grasp.HOLD if stopped else _Grasp.CLOSE
        return _Grasp.HOLD

    def _carry(self, obs: np.ndarray) -> np.ndarray:
        """Raise the body, move it over the goal, and then lower it to a goal on the table."""
        to_goal = self._goal - obs[BODY]
        if self._raises_only:
            to_goal[:2] = 0.0
        away = float(np.hypot(*to_goal[:2]))
        needed = self._rest_m + np.clip(2.0 * (away - _START_M), 0.0, self._CLEARANCE_M)
        to_goal[2] = max(self._goal[2], needed) - obs[BODY][2]
        to_goal[:2] *= np.clip(1.0 - (needed - obs[BODY][2]) / self._CLEARANCE_M, 0.0, 1.0)
        velocity = _POSITION_GAIN * to_goal
        return np.array([*(velocity / max(1.0, float(np.linalg.norm(velocity)) / self._CARRY_M_S)), 0.0, _CLOSED])


class _Pushing(enum.Enum):
    """Phase of a push."""

    BEHIND = enum.auto()  #: go above the place behind the body, and close the gripper
    DOWN = enum.auto()    #: go down there
    PUSH = enum.auto()    #: push
    DONE = enum.auto()    #: stand


class _Push:
    """Move behind the body, lower the closed fingers there, and push it towards the goal.

    Args:
        goal: Shape (3,), m; its height is ignored.
    """

    #: Distance from the body's corners at which the tool goes down, and its height above the body on the way there.
    _GAP_M, _TRAVEL_M = 0.035, 0.05
    #: Slowest and fastest push, speed per metre from the goal, and sideways speed per metre beside the line of the push.
    _SLOW_M_S, _FAST_M_S, _SPEED_GAIN, _STEER_GAIN = 0.04, 0.15, 2.5, 3.0
    #: Distances from the goal below which a push ends and above which another begins, and the tool's largest distance beside
    #: the line of the push, as a share of half the body's edge.
    _NEAR_M, _AGAIN_M, _ASIDE = 0.015, 0.03, 1.0

    def __init__(self, goal: np.ndarray) -> None:
        self._goal = goal
        self._phase = _Pushing.BEHIND
        self._rest_m = np.inf

    def move(self, obs: np.ndarray) -> np.ndarray:
        """See `_Carry.move`."""
        self._rest_m = min(self._rest_m, obs[BODY][2])
        to_goal = self._goal[:2] - obs[BODY][:2]
        distance = float(np.hypot(*to_goal))
        along = to_goal / max(distance, _TINY_M)
        self._phase = self._next_phase(obs, along, distance)
        low, high = _working_height(self._rest_m), 2.0 * self._rest_m + self._TRAVEL_M
        height = {_Pushing.BEHIND: high, _Pushing.DOWN: low - _SINK_M}.get(self._phase, low)
        turn = 0.0 if self._phase is _Pushing.DONE else _wrapped(np.arctan2(along[1], along[0]) - obs[TOOL_YAW])
        planar = self._planar(obs, along, distance)
        return np.array([*planar, _POSITION_GAIN * (height - obs[TOOL][2]), _YAW_GAIN * turn, _CLOSED])

    def _planar(self, obs: np.ndarray, along: np.ndarray, distance: float) -> np.ndarray:
        """Velocity of the tool over the table, shape (2,), m/s.

        A push is slower near the goal and steers back to the line through body and goal. On the way behind the body the tool
        waits until the fingers are above the body.
        """
        if self._phase is _Pushing.DONE:
            return np.zeros(2)
        if self._phase is _Pushing.PUSH:
            to_body = obs[BODY][:2] - obs[TOOL][:2]
            aside = to_body - (to_body @ along) * along
            speed = np.clip(self._SPEED_GAIN * distance, self._SLOW_M_S, self._FAST_M_S)
            return speed * along + self._STEER_GAIN * aside
        velocity = _POSITION_GAIN * self._to_start(obs, along)
        if self._phase is _Pushing.DOWN:
            return velocity
        clear = obs[TOOL][2] - _FINGERTIP_M - 2.0 * self._rest_m
        return velocity * np.clip(clear / (self._TRAVEL_M - _FINGERTIP_M - _SINK_M), 0.0, 1.0)

    def _to_start(self, obs: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Vector from the tool to the place where it goes down: behind the body, clear of its corners."""
        clear = np.sqrt(2.0) * self._rest_m + self._GAP_M
        return obs[BODY][:2] - clear * along - obs[TOOL][:2]

    def _next_phase(self, obs: np.ndarray, along: np.ndarray, distance: float) -> _Pushing:
        if self._phase is _Pushing.DONE:
            return _Pushing.BEHIND if distance > self._AGAIN_M else _Pushing.DONE
        if distance < self._NEAR_M:
            return _Pushing.DONE
        off = float(np.hypot(*self._to_start(obs, along)))
        if self._phase is _Pushing.BEHIND:
            return _Pushing.DOWN if off < _START_M else _Pushing.BEHIND
        if self._phase is _Pushing.DOWN:
            if off > _GIVE_UP_M:
                return _Pushing.BEHIND
            return _Pushing.PUSH if obs[TOOL][2] - _working_height(self._rest_m) < _LEVEL_M else _Pushing.DOWN
        to_body = obs[BODY][:2] - obs[TOOL][:2]
        aside = abs(to_body[0] * along[1] - to_body[1] * along[0])
        return _Pushing.BEHIND if to_body @ along < 0.0 or aside > self._ASIDE * self._rest_m else _Pushing.PUSH


#: Scripts by task.
DEMONSTRATED: dict[str, Callable[[np.ndarray], _Carry | _Push]] = {
    'lift': lambda goal: _Carry(goal, raises_only=True),
    'pick_place': lambda goal: _Carry(goal, raises_only=False),
    'push': _Push,
}


def _working_height(body_z: float) -> float:
    """Height of the tool for its fingers to be beside a body whose centre is at this height."""
    return max(body_z, _LOWEST_M)


def _wrapped(angle: float) -> float:
    """Reduce a turn by quarter turns to within an eighth turn."""
    return (angle + 0.5 * _QUARTER) % _QUARTER - 0.5 * _QUARTER


def _yaw_error(obs: np.ndarray) -> float:
    """Turn from the tool's yaw to the nearest face of the body."""
    return _wrapped(obs[BODY_YAW] - obs[TOOL_YAW])
