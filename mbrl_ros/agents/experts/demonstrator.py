"""Scripted experts for the tasks over a table, from which a model gets its first experience of contact.

Exploration by smooth noise hardly ever takes hold of a cube, so that a model which starts from it has seen none being held.
An expert sees what a planner sees and acts as a planner acts; it knows no clock, only what it observes and what it was at.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from mbrl_ros.errors import ConfigError, GoalError
from mbrl_ros.robots.twist import TWIST_SIZE, TwistConfig
from mbrl_ros.spaces.tabletop import BODY, BODY_YAW, OPENING, SIZE, TOOL, TOOL_YAW

_OPEN, _CLOSED = 1.0, -1.0
_ACTION_SIZE = TWIST_SIZE + 1
#: Share of the noise that lasts from one action to the next, and share of its size that the opening gets.
_NOISE_DECAY, _GRIP_NOISE = 0.8, 0.5
#: Speeds for errors, each second: of the tool's position and of its yaw.
_POSITION_GAIN, _YAW_GAIN = 4.0, 3.0
#: A cube looks the same after a quarter turn, and so do two fingers that push.
_QUARTER = 0.5 * np.pi
#: How far the fingertips reach below the tool, and the lowest that the tool is sent for that reason.
_FINGERTIP_M, _LOWEST_M = 0.008, 0.015
#: Errors of position and yaw with which the tool starts down, and with which it gives up on the way.
_START_M, _START_RAD, _GIVE_UP_M, _GIVE_UP_RAD = 0.012, 0.1, 0.03, 0.35
#: Height above where it is to work at which the tool counts as down, and how far below that it heads, lest noise hold it up.
_LEVEL_M, _SINK_M = 0.008, 0.01
_TINY_M = 1e-6


class _Script(Protocol):
    """One episode of a task."""

    def move(self, obs: np.ndarray) -> np.ndarray:
        """Twist of the tool, m/s and rad/s, and the opening in [-1, 1], shape (5,), for an observation (18,)."""


class Demonstrator:
    """Scripted expert over observations of `ToolSpace`: lifts a cube, brings it somewhere, or pushes it along the table.

    `lift` takes hold of the body and raises it to the goal's height; `pick_place` carries it on to the goal, which may be on
    the table, and keeps hold of it there; `push` shoves it along the table with closed fingers until it is within 15 mm of
    the goal. What goes wrong on the way is begun anew: a grasp that misses, a body that is dropped or slides aside.

    The body is a cube that lies on the table at z = 0 and is at least 1 cm smaller than the gripper opens.

    Args:
        task: `lift`, `pick_place` or `push`.
        noise_std: Standard deviation of the smooth noise on actions, for data of what is beside the path; 0 for none.
        seed: Seed of that noise; equal seeds and episodes have equal noise.
        twist: Speeds that actions are in units of; those of the `ToolSpace` that is acted in.

    Raises:
        ConfigError: There is no such task, or the noise is negative.
    """

    def __init__(self, task: str, *, noise_std: float = 0.1, seed: int = 0, twist: TwistConfig | None = None) -> None:
        if task not in DEMONSTRATED:
            raise ConfigError(f'there is no demonstration of {task!r}; known: {", ".join(sorted(DEMONSTRATED))}')
        if not noise_std >= 0.0:
            raise ConfigError(f'noise_std of a demonstration cannot be negative, got {noise_std}')
        twist = twist or TwistConfig()
        self.task = task
        self._scale = np.array([*[twist.max_linear_m_s] * 3, twist.max_yaw_rad_s, 1.0])
        self._noise_std = noise_std * np.array([*[1.0] * TWIST_SIZE, _GRIP_NOISE])
        self._seed = seed
        self._script: _Script | None = None

    def reset(self, goal_m: Sequence[float] | np.ndarray, episode: int) -> None:
        """Begin an episode.

        Args:
            goal_m: Where the body's centre is to be, in the base frame, shape (3,), m; a lift needs its height alone.
            episode: Index of the episode, 0 or more, which with the seed decides on the noise.

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
        """What to do next; to be asked once for each control step.

        Args:
            obs: Observation of `ToolSpace`, shape (18,).

        Returns:
            Shape (5,), within [-1, 1].

        Raises:
            GoalError: No episode has begun.
        """
        if self._script is None:
            raise GoalError(f'a demonstration of {self.task} needs a goal first; call reset')
        wanted = np.clip(self._script.move(np.asarray(obs, dtype=np.float64)) / self._scale, -1.0, 1.0)
        return np.clip(wanted + self._next_noise(), -1.0, 1.0)

    def _next_noise(self) -> np.ndarray:
        """First-order autoregressive, so that it moves the arm instead of shaking it; shape (5,)."""
        fresh = np.sqrt(1.0 - _NOISE_DECAY**2) * self._rng.standard_normal(_ACTION_SIZE)
        self._noise = _NOISE_DECAY * self._noise + fresh * self._noise_std
        return self._noise


class _Grasp(enum.Enum):
    """Where a grasp has got to."""

    ABOVE = enum.auto()  #: go above the body and turn to it, the gripper open
    DOWN = enum.auto()   #: go down around it
    CLOSE = enum.auto()  #: close until the fingers stop
    HOLD = enum.auto()   #: have hold of it


class _Carry:
    """Take hold of the body from above, and bring it to the goal, or to the goal's height where it is.

    Args:
        goal: Shape (3,), m.
        raises_only: Whether the goal's x and y do not matter.
    """

    #: Heights over the body to wait at and to carry it at, and the distance from the tool at which it is no longer held.
    _HOVER_M, _CLEARANCE_M, _LOST_M = 0.1, 0.06, 0.035
    #: Room that the body needs between the fingers, and its largest speed when held.
    _ROOM_M, _CARRY_M_S = 0.01, 0.3
    #: Fingers stand still on the body at less than this speed, having closed by this much at least.
    _STILL_M_S, _CLOSED_BY_M = 0.01, 0.005

    def __init__(self, goal: np.ndarray, raises_only: bool) -> None:
        self._goal, self._raises_only = goal, raises_only
        self._phase = _Grasp.ABOVE
        self._rest_m, self._opened_m = np.inf, 0.0

    def move(self, obs: np.ndarray) -> np.ndarray:
        """See `_Script.move`."""
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
        """The phase after what is observed now."""
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
        """Up first, over next, and down to a goal on the table once above it."""
        to_goal = self._goal - obs[BODY]
        if self._raises_only:
            to_goal[:2] = 0.0
        away = float(np.hypot(*to_goal[:2]))
        needed = self._rest_m + np.clip(2.0 * (away - _START_M), 0.0, self._CLEARANCE_M)
        to_goal[2] = max(self._goal[2], needed) - obs[BODY][2]
        to_goal[:2] *= np.clip(1.0 - (needed - obs[BODY][2]) / self._CLEARANCE_M, 0.0, 1.0)
        return np.array([*_limited(_POSITION_GAIN * to_goal, self._CARRY_M_S), 0.0, _CLOSED])


class _Pushing(enum.Enum):
    """Where a push has got to."""

    BEHIND = enum.auto()  #: go above the place behind the body, closing the gripper
    DOWN = enum.auto()    #: go down there
    PUSH = enum.auto()    #: push
    DONE = enum.auto()    #: stand


class _Push:
    """Go over to the far side of the body, lower the closed fingers there, and push it towards the goal.

    Args:
        goal: Shape (3,), m; its height does not matter.
    """

    #: Distance from the body's corners at which the tool goes down, and height above the body at which it gets there.
    _GAP_M, _TRAVEL_M = 0.035, 0.05
    #: Slowest and fastest push, speed for each metre from the goal, and sideways for each metre beside the line of the push.
    _SLOW_M_S, _FAST_M_S, _SPEED_GAIN, _STEER_GAIN = 0.04, 0.15, 2.5, 3.0
    #: Distances from the goal at which the push ends and at which another is needed; share of half the body's edge by which
    #: the tool may be beside that line.
    _NEAR_M, _AGAIN_M, _ASIDE = 0.015, 0.03, 1.0

    def __init__(self, goal: np.ndarray) -> None:
        self._goal = goal
        self._phase = _Pushing.BEHIND
        self._rest_m = np.inf

    def move(self, obs: np.ndarray) -> np.ndarray:
        """See `_Script.move`."""
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
        """Velocity of the tool over the table, shape (2,), m/s; none near the body before the fingers are above it."""
        if self._phase is _Pushing.DONE:
            return np.zeros(2)
        if self._phase is _Pushing.PUSH:
            return self._push(obs, along, distance)
        velocity = _POSITION_GAIN * self._to_start(obs, along)
        if self._phase is _Pushing.DOWN:
            return velocity
        clear = obs[TOOL][2] - _FINGERTIP_M - 2.0 * self._rest_m
        return velocity * np.clip(clear / (self._TRAVEL_M - _FINGERTIP_M - _SINK_M), 0.0, 1.0)

    def _to_start(self, obs: np.ndarray, along: np.ndarray) -> np.ndarray:
        """From the tool to where it goes down: behind the body, clear of its corners."""
        clear = np.sqrt(2.0) * self._rest_m + self._GAP_M
        return obs[BODY][:2] - clear * along - obs[TOOL][:2]

    def _next_phase(self, obs: np.ndarray, along: np.ndarray, distance: float) -> _Pushing:
        """The phase after what is observed now."""
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

    def _push(self, obs: np.ndarray, along: np.ndarray, distance: float) -> np.ndarray:
        """Towards the goal, slower near it, and back onto the line through body and goal, shape (2,), m/s."""
        to_body = obs[BODY][:2] - obs[TOOL][:2]
        aside = to_body - (to_body @ along) * along
        speed = np.clip(self._SPEED_GAIN * distance, self._SLOW_M_S, self._FAST_M_S)
        return speed * along + self._STEER_GAIN * aside


#: Scripts by task.
DEMONSTRATED: dict[str, Callable[[np.ndarray], _Script]] = {
    'lift': lambda goal: _Carry(goal, raises_only=True),
    'pick_place': lambda goal: _Carry(goal, raises_only=False),
    'push': _Push,
}


def _working_height(body_z: float) -> float:
    """Height of the tool at which its fingers are beside a body with its centre there."""
    return max(body_z, _LOWEST_M)


def _wrapped(angle: float) -> float:
    """The smallest turn that looks the same, within an eighth turn."""
    return (angle + 0.5 * _QUARTER) % _QUARTER - 0.5 * _QUARTER


def _yaw_error(obs: np.ndarray) -> float:
    """From the tool's yaw to the nearest face of the body."""
    return _wrapped(obs[BODY_YAW] - obs[TOOL_YAW])


def _limited(velocity: np.ndarray, largest: float) -> np.ndarray:
    """The same direction, no faster than that."""
    return velocity / max(1.0, float(np.linalg.norm(velocity)) / largest)
