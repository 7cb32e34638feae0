"""One decision of model-predictive control by a solver, and what it falls back on."""

import dataclasses
from collections.abc import Callable

import numpy as np

from mbrl_ros.planning.solver.cost import CostWeights
from mbrl_ros.planning.solver.horizon import HorizonProblem, LinearisableModel, Path, Start


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A path to follow.

    Attributes:
        path: The path.
        iterations: Quadratic programmes whose step was made; 0 for a fallback.
        note: Why it is a fallback, and which; empty for none.
    """

    path: Path
    iterations: int
    note: str = ''

    @property
    def next_actions(self) -> np.ndarray:
        """The actions shifted by one step, to start the next decision from, shape (H, A)."""
        return np.concatenate([self.path.actions[1:], np.zeros_like(self.path.actions[:1])])


def choose(problem: HorizonProblem, model: LinearisableModel, start: Start, actions: np.ndarray, goal: np.ndarray,
           weights: CostWeights, is_over: Callable[[], bool] = bool) -> Chosen:
    """Make a real-time iteration.

    The path is the best one after all iterations, each of which keeps every limit. If none does, it is the earlier plan where
    that still keeps them, and otherwise the hardest stop, which may not.

    Args:
        problem: The problem.
        model: Learned dynamics.
        start: Where the path starts.
        actions: Actions to start from, shape (H, A): those of the decision before, shifted.
        goal: Goal of the tool, base frame, shape (3,), m.
        weights: Weights of the cost.
        is_over: Asked before each iteration; true makes no more of them.
    """
    path, iterations, why = problem.predict(model, start, actions), 0, ''
    broken = problem.violation(start, path)
    while iterations < problem.max_iterations and not why:
        if is_over():
            why = 'no time for a solve'
        elif (better := problem.improved(model, start, path, goal, weights)) is None:
            why = 'no step of the solver keeps the limits'
        else:
            path, iterations = better, iterations + 1
    if iterations:
        return Chosen(path, iterations)
    if not broken:
        return Chosen(path, 0, f'{why}: following the last plan')
    stop = problem.predict(model, start, problem.braking(start))
    beyond = problem.violation(start, stop)
    outcome = f'braking, beyond {beyond}' if beyond else 'braking'
    return Chosen(stop, 0, f'{why}, and the last plan breaks limits ({broken}): {outcome}')
