"""A grid over the arm's workspace, whose cells the tool can go to or not, as a discrete Gymnasium environment.

It knows the arm's kinematics and no physics: a step is one from cell to cell, and takes the arm there.
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiDiscrete

from mbrl_ros.environments.mazes import MOVES, is_inside, moved, picture
from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.inverse import reach_down
from mbrl_ros.robots.profile import load_robot

_CELL_M = 0.1
#: Cells ahead of the base, and to both sides of it.
_AHEAD, _ASIDE = 8, 7
#: Rows and columns of the obstacle: 0.4 to 0.5 m ahead, and 0.3 m to both sides.
_OBSTACLE = (slice(4, 5), slice(4, 10))
#: Colours of cells out of reach, the obstacle, the way and the goal, RGB.
_FAR, _BLOCKED, _WAY, _GOAL = (190, 190, 190), (90, 90, 90), (255, 255, 255), (110, 190, 110)


class ReachGrid(gymnasium.Env):
    """The tool goes over the table to a goal, around an obstacle, cell by cell; each step costs 1, and the goal ends the episode.

    A cell is reachable if the arm's inverse kinematics bring the tool to its middle, pointing down, it is not in the obstacle,
    and it is connected with the tool's cell at home. A step out of these goes nowhere. An observation has the row and column of
    the tool, then those of the goal; an action is a step to the base, from it, to the right or to the left. Reset draws a cell
    for the tool and one of a few goals. `info` has `joints_rad`, the arm's joint positions, and `is_success`.

    Args:
        robot: Name in `config/robots`, or the path of a YAML file.
        num_goals: Number of goals, which are far from each other. A table learns each of them by itself.
        height_m: Height of the tool over the base.
        render_mode: None or `rgb_array`.

    Raises:
        ConfigError: There is no such robot, or it reaches fewer cells than there are goals.

    Attributes:
        free: Which cells are reachable, shape (rows, columns), bool.
        goals: Cells of the goals.
    """

    metadata: ClassVar[dict[str, Any]] = {'render_modes': ['rgb_array'], 'render_fps': 8}

    def __init__(self, robot: str = 'panda', num_goals: int = 4, height_m: float = 0.15, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        shape = _AHEAD, 2 * _ASIDE
        centres = [(_CELL_M * (row + 0.5), _CELL_M * (column + 0.5 - _ASIDE), height_m) for row, column in np.ndindex(*shape)]
        profile = load_robot(robot)
        joints, reached = reach_down(profile, torch.tensor(centres, dtype=torch.float64))
        self._joints_rad, self._in_reach = joints.numpy().reshape(*shape, -1), reached.numpy().reshape(shape)
        may = self._in_reach.copy()
        may[_OBSTACLE] = False
        home = np.abs(self._joints_rad - profile.home_rad).sum(axis=-1)
        self.free = distances(may, np.unravel_index(np.where(may, home, np.inf).argmin(), shape)) >= 0
        if self.free.sum() <= num_goals:
            raise ConfigError(f'the grid of {robot} at {height_m} m has {self.free.sum()} reachable cells, too few for '
                              f'{num_goals} goals')
        self._cells = [tuple(map(int, cell)) for cell in np.argwhere(self.free)]
        self.goals = _apart(self._cells, num_goals)
        self._tool = self._goal = self.goals[0]
        self.observation_space, self.action_space = MultiDiscrete([*shape, *shape]), Discrete(len(MOVES))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a goal, and a cell for the tool; `options` may give them as `goal` and `tool`."""
        super().reset(seed=seed)
        goal = self.goals[self.np_random.integers(len(self.goals))]
        others = [cell for cell in self._cells if cell != goal]
        drawn = {'goal': goal, 'tool': others[self.np_random.integers(len(others))], **(options or {})}
        self._goal, self._tool = drawn['goal'], drawn['tool']
        return self._obs(), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Go to the next cell, if it is reachable."""
        cell = moved(self._tool, action)
        if is_inside(cell, self.free.shape) and self.free[cell]:
            self._tool = cell
        return self._obs(), -1.0, self._tool == self._goal, False, self._info()

    def render(self) -> np.ndarray | None:
        """Picture from above, the base below, shape (height, width, 3), in mode `rgb_array`."""
        if self.render_mode != 'rgb_array':
            return None
        colors = np.where(self._in_reach[..., None], _WAY, _FAR)
        colors[_OBSTACLE] = _BLOCKED
        colors[self._goal] = _GOAL
        return picture(colors, self._tool)[::-1, ::-1]

    def _obs(self) -> np.ndarray:
        return np.array([*self._tool, *self._goal])

    def _info(self) -> dict[str, Any]:
        return {'joints_rad': self._joints_rad[self._tool].copy(), 'is_success': self._tool == self._goal}


def distances(free: np.ndarray, goal: tuple[int, int]) -> np.ndarray:
    """Steps of the shortest way from each cell to a goal, shape (rows, columns); -1 where there is none."""
    steps, edge = np.full(free.shape, -1), [tuple(goal)]
    steps[edge[0]] = 0
    while edge:
        cell = edge.pop(0)
        for place in (moved(cell, action) for action in range(len(MOVES))):
            if is_inside(place, free.shape) and free[place] and steps[place] < 0:
                steps[place] = steps[cell] + 1
                edge.append(place)
    return steps


def _apart(cells: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """Cells of which each is as far as possible from those before it."""
    chosen = [cells[0]]
    while len(chosen) < count:
        chosen.append(max(cells, key=lambda cell: min(np.hypot(*np.subtract(cell, other)) for other in chosen)))
    return chosen
