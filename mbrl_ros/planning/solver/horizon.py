"""Optimal control of an arm's joint velocities over a horizon, one quadratic programme at a time.

Each step of sequential quadratic programming linearises the learned dynamics, the known kinematics and the distances from
keep-out boxes along the actions so far. A real-time iteration (Diehl, Bock and Schlöder 2005) makes one or a few steps for each
control tick, from the actions of the tick before, shifted by one step. The last action of a horizon is zero: a plan ends at rest,
so that it can be followed to its end where no new one is found.
"""

import dataclasses
from typing import Protocol

import numpy as np

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.planning.solver.clearance import Clearance, Distances
from mbrl_ros.planning.solver.cost import CostWeights
from mbrl_ros.planning.solver.guide import Guide
from mbrl_ros.planning.solver.quadratic import LeastSquares, QuadraticSolver, condensed
from mbrl_ros.robots.boxes import box_corners
from mbrl_ros.robots.profile import RobotProfile

#: Rounding that is no violation of a limit, in the limit's unit.
_ROUNDING = 1e-5
#: Shares of a step that are tried, the first that keeps the limits is made.
_SHARES = (1.0, 0.5, 0.2, 0.05)
#: Bounds of rows that are not used.
_FREE = 1e6
#: A pair comes no nearer than this in one step of the iteration, m.
_FAR_M = 0.4


class LinearisableModel(Protocol):
    """A model of the dynamics with its derivatives."""

    def predict(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Next observations, shape (B, O), for shapes (B, O) and (B, A)."""

    def linearise(self, obs: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the next observation by observation, shape (B, O, O), and by action, shape (B, O, A)."""


@dataclasses.dataclass(frozen=True)
class SolverConfig(Config):
    """The horizon, its limits and what is kept out of."""

    horizon: int = setting(10, 'Control steps of a plan; at its end the arm stands.', low=2, high=100)
    max_iterations: int = setting(1, 'Quadratic programmes for each decision.', low=1, high=20)
    max_step_rad: float = setting(0.15, 'Largest change of a predicted joint position in one of them.', unit='rad', low=0.01,
                                  high=3.0)
    velocity_scale: float = setting(0.98, 'Share of the velocity limits that actions use.', low=0.01, high=1.0)
    position_margin_rad: float = setting(0.03, 'Distance kept from the position limits.', unit='rad', low=0.0, high=0.5)
    jerk_scale: float = setting(1.0, 'Share of the jerk limits that plans use.', low=1e-3, high=1.0)
    boxes_m: tuple[float, ...] = setting((), 'Keep-out boxes in the base frame: lower corner (x, y, z) and upper corner of each.',
                                         unit='m', low=-10.0, high=10.0)
    margin_m: float = setting(0.03, 'Distance that the solver keeps from boxes and from the lowest height.', unit='m', low=0.0,
                              high=0.5)
    least_margin_m: float = setting(0.015, 'Smallest distance of a plan that is followed.', unit='m', low=0.0, high=0.5)
    max_rows: int = setting(96, 'Nearest pairs of a point of a link and a box, over all steps, to look at.', low=1, high=1000)

    def check(self) -> None:
        """Raise ConfigError when `boxes_m` are no boxes, or the margins contradict each other."""
        box_corners(self.boxes_m, 'SolverConfig.boxes_m')
        if self.least_margin_m > self.margin_m:
            raise ConfigError(f'SolverConfig.least_margin_m needs at most margin_m {self.margin_m}, got {self.least_margin_m}')


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a plan starts.

    Attributes:
        obs: Shape (O,): joint positions, then velocities.
        previous: Action before the first, shape (A,).
        before: Action before that, shape (A,).
    """

    obs: np.ndarray
    previous: np.ndarray
    before: np.ndarray


@dataclasses.dataclass(frozen=True)
class Path:
    """Actions with what they lead to.

    Attributes:
        actions: Shape (H, A).
        obs: Predicted observations, the start first, shape (H + 1, O).
        seen: Distances at the middle and at the end of each step, H of each, the start last.
    """

    actions: np.ndarray
    obs: np.ndarray
    seen: Distances


class HorizonProblem:
    """The problem of one robot.

    Args:
        robot: Profile with a resolved URDF.
        period_s: Control period.
        config: Settings.
        max_action_change: Largest change of an action within one step, shape (A,); by default the acceleration limits allow it.

    Attributes:
        max_iterations: Quadratic programmes for each decision.

    Raises:
        ConfigError: CasADi is not installed, the boxes are none, or the profile has no capsules for them.
    """

    def __init__(self, robot: RobotProfile, period_s: float, config: SolverConfig,
                 max_action_change: np.ndarray | None = None) -> None:
        self._config, self._period_s, self.max_iterations = config, period_s, config.max_iterations
        self._clearance = Clearance(robot, config.boxes_m)
        self._guide = Guide(box_corners(config.boxes_m, 'boxes_m'), robot.workspace.lowest_link_m)
        joints, horizon, max_velocity = len(robot.joints), config.horizon, np.array(robot.max_velocity_rad_s)
        self._joints, self._max_velocity = joints, max_velocity
        self._lower, self._upper = np.array(robot.position_lower_rad), np.array(robot.position_upper_rad)
        by_acceleration = np.array(robot.max_acceleration_rad_s2) * period_s / max_velocity
        self._max_change = by_acceleration if max_action_change is None else np.array(max_action_change)
        jerk = np.array(robot.max_jerk_rad_s3 or (np.inf,) * joints) * config.jerk_scale
        self._max_bend = np.minimum(jerk * period_s ** 2 / max_velocity, 2.0 * self._max_change)
        self._home = np.array(robot.home_rad)
        self._half_range = np.where(robot.endless, np.pi, 0.5 * (self._upper - self._lower))
        # The last action is zero, so that H - 1 actions are free.
        self._differences = np.kron(np.eye(horizon, horizon - 1) - np.eye(horizon, horizon - 1, -1), np.eye(joints))
        self._free = (horizon - 1) * joints
        # Rows of a limit of jerk that the limit of acceleration implies are left out.
        self._is_bent = bool((self._max_bend < 2.0 * self._max_change).any())
        before = np.concatenate([np.zeros((joints, self._free)), self._differences[:-joints]])
        self._bends = (self._differences - before)[:self._is_bent * horizon * joints]
        self._solver = QuadraticSolver(self._free, 2 * horizon * joints + len(self._bends) + config.max_rows)

    def predict(self, model: LinearisableModel, start: Start, actions: np.ndarray) -> Path:
        """What actions, shape (H, A), lead to."""
        obs = np.empty((len(actions) + 1, len(start.obs)))
        obs[0] = start.obs
        for step, action in enumerate(actions):
            obs[step + 1] = model.predict(obs[step][None], action[None])[0]
        q, velocity = obs[:, :self._joints], obs[:, self._joints:]
        return Path(actions, obs, self._clearance.look(np.concatenate([self._between(q, velocity), q[1:], q[:1]])))

    def improved(self, model: LinearisableModel, start: Start, path: Path, goal: np.ndarray,
                 weights: CostWeights) -> Path | None:
        """Path after one step of sequential quadratic programming; None where it would break a limit.

        The step is halved while what it leads to breaks a limit, because the programme knows only linear ones.

        Args:
            model: Learned dynamics.
            start: Where the plan starts.
            path: Actions to start from.
            goal: Goal of the tool, base frame, shape (3,), m.
            weights: Weights of the cost.
        """
        moves = condensed(*model.linearise(path.obs[:-1], path.actions))[:, :, :-1].reshape(len(path.actions), -1, self._free)
        q_moves, velocity_moves = moves[:, :self._joints], moves[:, self._joints:]
        cost = self._cost(path, q_moves, self._guide.target(path.seen.tool[-1], goal), weights)
        changes, bends = self._changes(start, path.actions)
        near_rows, near_least = self._near(path, q_moves, velocity_moves)
        rows = np.concatenate([q_moves.reshape(-1, self._free), self._differences, self._bends, near_rows])
        limits = [self._position_room(path.obs[1:, :self._joints]), (-self._max_change - changes, self._max_change - changes),
                  *[(-self._max_bend - bends, self._max_bend - bends)] * self._is_bent,
                  (near_least, np.full(len(near_least), _FREE))]
        row_bounds = tuple(np.concatenate([limit[side].ravel() for limit in limits]) for side in (0, 1))
        free = path.actions[:-1].ravel()
        most = self._config.velocity_scale
        found = self._solver.solve(cost, (np.minimum(-most - free, 0.0), np.maximum(most - free, 0.0)), rows, row_bounds)
        if found is None:
            return None
        for share in _SHARES:
            actions = np.zeros_like(path.actions)
            actions[:-1] = np.clip(free + share * found, -1.0, 1.0).reshape(-1, self._joints)
            better = self.predict(model, start, actions)
            if not self.violation(start, better):
                return better
        return None

    def violation(self, start: Start, path: Path) -> str:
        """Which limit a path breaks, in words with the figures; empty if it keeps all.

        What the start already exceeds may not be exceeded further.
        """
        q, velocity = path.obs[:, :self._joints], path.obs[:, self._joints:]
        changes, bends = self._changes(start, path.actions)
        least = self._least(path, self._config.least_margin_m)
        beyond, fast = np.maximum(self._lower - q, q - self._upper), np.abs(velocity) - self._max_velocity
        excesses = {
            'position (rad)': beyond[1:] - np.maximum(beyond[0], 0.0),
            'speed (rad/s)': fast[1:] - np.maximum(fast[0], 0.0),
            'acceleration (share)': np.abs(changes) / self._max_change - 1.0,
            'jerk (share)': np.abs(bends) / self._max_bend - 1.0,
            'distance from a box or the floor (m)': least - path.seen.values,
        }
        if not np.isfinite(path.obs).all():
            return 'the prediction is not finite'
        worst = {name: float(excess.max(initial=0.0)) for name, excess in excesses.items()}
        return ', '.join(f'{name} by {excess:.2g}' for name, excess in worst.items() if excess > _ROUNDING)

    def braking(self, start: Start) -> np.ndarray:
        """Actions of the hardest stop within the limit of acceleration, shape (H, A)."""
        steps = np.arange(1, self._config.horizon + 1)[:, None]
        return np.sign(start.previous) * np.maximum(np.abs(start.previous) - steps * self._max_change, 0.0)

    def _between(self, q: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Middles of the steps of cubic paths through positions and velocities; linear in both, so it serves derivatives too."""
        return 0.5 * (q[:-1] + q[1:]) + 0.125 * self._period_s * (velocity[:-1] - velocity[1:])

    def _changes(self, start: Start, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and second differences of actions, shape (H, A) each."""
        changes = np.diff(np.concatenate([start.before[None], start.previous[None], actions]), axis=0)
        return changes[1:], np.diff(changes, axis=0)

    def _cost(self, path: Path, q_moves: np.ndarray, goal: np.ndarray, weights: CostWeights) -> LeastSquares:
        """Gauss-Newton model of the cost; the distance is reweighted, as it is no square."""
        horizon, cost = len(path.actions), LeastSquares(self._free)
        ends = slice(horizon, 2 * horizon)
        gap = path.seen.tool[ends] - goal  # (H, 3)
        share = np.ones(horizon)
        share[-1] += weights.terminal
        share /= np.sqrt((gap * gap).sum(axis=-1) + weights.softness_m ** 2)
        tool_moves = self._clearance.tool_jacobian(path.seen)[ends] @ q_moves  # (H, 3, n)
        cost.add(gap.ravel(), tool_moves.reshape(-1, self._free), share.repeat(3))
        away = (path.obs[1:, :self._joints] - self._home) / self._half_range
        cost.add(away.ravel(), (q_moves / self._half_range[:, None]).reshape(-1, self._free), weights.posture / self._joints)
        free = path.actions[:-1].ravel()
        cost.add(free, np.eye(self._free), weights.speed / self._joints)
        # The change from the action before is not counted: the first action should be free to react.
        between = self._differences[self._joints:]
        cost.add(between @ free, between, weights.change / self._joints)
        return cost

    def _position_room(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest change of predicted positions, shape (H, J) each; within the margin a joint may stay."""
        margin, step = self._config.position_margin_rad, self._config.max_step_rad
        return np.clip(self._lower + margin - q, -step, 0.0), np.clip(self._upper - margin - q, 0.0, step)

    def _least(self, path: Path, margin_m: float) -> np.ndarray:
        """Distance that each pair has to keep, shape (P,): a pair that starts nearer may stay there, but not touch."""
        return np.clip(path.seen.values[-1], 0.0, margin_m)

    def _near(self, path: Path, q_moves: np.ndarray, velocity_moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the smallest distances, shape (max_rows, n), and their smallest changes, shape (max_rows,)."""
        rows, least = np.zeros((self._config.max_rows, self._free)), np.full(self._config.max_rows, -_FREE)
        rest = path.seen.values[:-1] - self._least(path, self._config.margin_m)
        order = np.argsort(rest, axis=None, kind='stable')[:self._config.max_rows]
        order = order[rest.ravel()[order] < _FAR_M]
        samples, pairs = np.unravel_index(order, rest.shape)
        still = np.zeros((1, *q_moves.shape[1:]))
        both = [np.concatenate([still, values]) for values in (q_moves, velocity_moves)]
        sampled = np.concatenate([self._between(*both), q_moves])  # (2H, J, n)
        gradients = self._clearance.gradients(path.seen, samples, pairs)
        rows[:len(order)] = (gradients[:, None] @ sampled[samples])[:, 0]
        least[:len(order)] = -rest.ravel()[order]
        return rows, least
