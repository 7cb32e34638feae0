"""Mazes of Sutton and Barto (2018, chapter 8) as Gymnasium environments."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

#: Row and column of a step up, down, left and right.
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
#: Maps, where `#` is a wall: of example 8.1, and before and after the change of examples 8.2 and 8.3.
MAPS = {
    'dyna': ('.......#G',
             '..#....#.',
             'S.#....#.',
             '..#......',
             '.....#...',
             '.........'),
    'right_open': ('........G',
                   '.........',
                   '.........',
                   '########.',
                   '.........',
                   '...S.....'),
    'left_open': ('........G',
                  '.........',
                  '.........',
                  '.########',
                  '.........',
                  '...S.....'),
    'both_open': ('........G',
                  '.........',
                  '.........',
                  '.#######.',
                  '.........',
                  '...S.....'),
}
#: Colours of a wall, the way, the goal and where one is, RGB, and the edge of a cell in a picture.
_WALL, _WAY, _GOAL, _HERE, _PIXELS = (90, 90, 90), (255, 255, 255), (110, 190, 110), (50, 90, 200), 24


class Maze(gymnasium.Env):
    """A way through a maze, from S to G; a step earns 1 at the goal, which ends the episode, and else 0.

    An observation is the number of the cell, row by row, an action a step up, down, left or right. A step into a wall goes
    nowhere.

    Args:
        maze: Name in `MAPS`.
        changed: Name of the maze that it becomes; None if it never does.
        change_at: Steps since the environment was made, over all episodes, after which it changes.
        render_mode: None or `rgb_array`.
    """

    metadata: ClassVar[dict[str, Any]] = {'render_modes': ['rgb_array'], 'render_fps': 8}

    def __init__(self, maze: str, changed: str | None = None, change_at: int = 0, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._rows, self._changed, self._left = np.array([list(row) for row in MAPS[maze]]), changed, change_at
        self._place = self._start
        self.observation_space, self.action_space = Discrete(self._rows.size), Discrete(len(MOVES))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Go back to the start."""
        super().reset(seed=seed)
        self._place = self._start
        return self._obs(), {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Go a step, if there is no wall."""
        if self._changed and self._left == 0:
            self._rows, self._changed = np.array([list(row) for row in MAPS[self._changed]]), None
        self._left -= 1
        place = moved(self._place, action)
        if is_inside(place, self._rows.shape) and self._rows[place] != '#':
            self._place = place
        is_there = bool(self._rows[self._place] == 'G')
        return self._obs(), float(is_there), is_there, False, {'is_success': is_there}

    def render(self) -> np.ndarray | None:
        """Picture, shape (height, width, 3), in mode `rgb_array`."""
        if self.render_mode != 'rgb_array':
            return None
        colors = np.where((self._rows == '#')[..., None], _WALL, np.where((self._rows == 'G')[..., None], _GOAL, _WAY))
        return picture(colors, self._place)

    @property
    def _start(self) -> tuple[int, int]:
        row, column = np.argwhere(self._rows == 'S')[0]
        return int(row), int(column)

    def _obs(self) -> int:
        return int(np.ravel_multi_index(self._place, self._rows.shape))


def moved(place: tuple[int, int], action: int) -> tuple[int, int]:
    """Row and column after a step."""
    return place[0] + MOVES[action][0], place[1] + MOVES[action][1]


def is_inside(place: tuple[int, int], shape: tuple[int, ...]) -> bool:
    """Whether a row and column are of a grid with this shape."""
    return all(0 <= index < size for index, size in zip(place, shape))


def picture(colors: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """Picture of cells with colours, shape (rows, columns, 3), and of where one is; shape (height, width, 3), uint8."""
    colors = colors.astype(np.uint8)
    colors[place] = _HERE
    return np.kron(colors, np.ones((_PIXELS, _PIXELS, 1), dtype=np.uint8))
