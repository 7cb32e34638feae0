"""The way of the tool around boxes, which a solver that looks half a second ahead does not see.

Shortest ways in a visibility graph (Lozano-Pérez and Wesley 1979): its nodes are corners and middles of the edges of grown boxes.
Only the cost knows of the way; what keeps the arm clear of the boxes are the constraints.
"""

import itertools

import numpy as np

#: Boxes are grown by this for the nodes, and by less for the question what sees what, m.
_NODES_M, _SIGHT_M = 0.12, 0.05
#: The tool is drawn to the point of the way this far ahead, m.
_AHEAD_M = 0.25


class Guide:
    """Shortest ways around boxes.

    Args:
        boxes: Lower and upper corner of each, shape (B, 2, 3), m.
        lowest_m: Nodes lie at least this high, m.
    """

    def __init__(self, boxes: np.ndarray, lowest_m: float) -> None:
        self._lower, self._upper = boxes[:, 0] - _SIGHT_M, boxes[:, 1] + _SIGHT_M
        # On the edges of a cube at least two of three coordinates are at an end.
        shares = np.array([share for share in itertools.product((0.0, 0.5, 1.0), repeat=3) if share.count(0.5) <= 1])
        low, high = boxes[:, None, 0] - _NODES_M, boxes[:, None, 1] + _NODES_M
        nodes = (low + shares * (high - low)).reshape(-1, 3)
        self._nodes = nodes[(nodes[:, 2] >= lowest_m) & ~self._within(nodes)]
        between = np.linalg.norm(self._nodes[:, None] - self._nodes, axis=-1)
        self._lengths = np.where(self._sees(self._nodes[:, None], self._nodes), between, np.inf)
        self._next = np.tile(np.arange(len(self._nodes)), (len(self._nodes), 1))
        for by in range(len(self._nodes)):  # Floyd's algorithm.
            through = self._lengths[:, by, None] + self._lengths[by]
            self._next = np.where(through < self._lengths, self._next[:, by, None], self._next)
            self._lengths = np.minimum(self._lengths, through)

    def target(self, tool: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Point to draw the tool to, shape (3,): the goal where it is in sight or no way is known, else a part of the way on."""
        if self._sees(tool, goal):
            return goal
        first = np.where(self._sees(tool, self._nodes), np.linalg.norm(self._nodes - tool, axis=-1), np.inf)
        last = np.where(self._sees(goal, self._nodes), np.linalg.norm(self._nodes - goal, axis=-1), np.inf)
        whole = first[:, None] + self._lengths + last
        if not np.isfinite(whole).any():
            return goal
        node, end = np.unravel_index(whole.argmin(), whole.shape)
        place, left = tool, _AHEAD_M
        while True:
            length = float(np.linalg.norm(self._nodes[node] - place))
            if length >= left:
                return place + (self._nodes[node] - place) * left / length
            place, left = self._nodes[node], left - length
            if node == end:
                return place + (goal - place) * min(1.0, left / float(np.linalg.norm(goal - place)))
            node = self._next[node, end]

    def _within(self, points: np.ndarray) -> np.ndarray:
        """Which points (..., 3) lie in a grown box, shape (...)."""
        return ((points[..., None, :] > self._lower) & (points[..., None, :] < self._upper)).all(axis=-1).any(axis=-1)

    def _sees(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Whether the segments between points (..., 3) pass by all grown boxes, shape (...)."""
        way = (end - start)[..., None, :]
        start = np.broadcast_to(start[..., None, :], way.shape)
        way = np.where(np.abs(way) < 1e-9, 1e-9, way)
        ends = np.sort(np.stack([(self._lower - start) / way, (self._upper - start) / way]), axis=0)
        enters, leaves = ends[0].max(axis=-1), ends[1].min(axis=-1)
        return ~((enters < leaves) & (leaves > 0.0) & (enters < 1.0)).any(axis=-1)
