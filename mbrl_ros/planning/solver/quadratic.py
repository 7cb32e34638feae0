"""Quadratic programmes over a horizon: condensed dynamics, least-squares costs, and the solver behind CasADi."""

from types import ModuleType

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.modules import first_line

#: A constraint may be missed by this, in its own unit; what the solver itself allows is far less.
_TOLERANCE = 1e-6
_OPTIONS = {'error_on_fail': False, 'daqp': {'primal_tol': 1e-9, 'zero_tol': 1e-12, 'iter_limit': 2000}}
#: Keeps a programme strictly convex.
_RIDGE = 1e-6


def casadi_module() -> ModuleType:
    """CasADi, which only this agent needs.

    Raises:
        ConfigError: It is not installed, or cannot be imported.
    """
    try:
        import casadi
    except ImportError as error:
        raise ConfigError(f'the agent solver_mpc needs CasADi, which cannot be imported ({first_line(error)}); '
                          "`pip install '.[solver]'` installs it") from None
    return casadi


def condensed(transition: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Derivatives of the states after each step by the actions of all steps, shape (H, O, H, A).

    Args:
        transition: Derivatives of each next state by the state, shape (H, O, O).
        control: Derivatives of each next state by the action, shape (H, O, A).
    """
    horizon, size, actions = control.shape
    result = np.zeros((horizon, size, horizon, actions))
    result[0, :, 0] = control[0]
    for step in range(1, horizon):
        before = result[step - 1].reshape(size, -1)
        result[step] = (transition[step] @ before).reshape(size, horizon, actions)
        result[step, :, step] += control[step]
    return result


class LeastSquares:
    """Sum of terms weight |residual + jacobian x|² / 2 over n variables: `hessian`, shape (n, n), and `gradient`, shape (n,)."""

    def __init__(self, size: int) -> None:
        self.hessian, self.gradient = _RIDGE * np.eye(size), np.zeros(size)

    def add(self, residual: np.ndarray, jacobian: np.ndarray, weights: np.ndarray | float = 1.0) -> None:
        """Add a term with residuals (R,), their derivatives (R, n) and non-negative weights (R,)."""
        weighted = np.broadcast_to(weights, residual.shape)[:, None] * jacobian
        self.hessian += jacobian.T @ weighted
        self.gradient += residual @ weighted


class QuadraticSolver:
    """Minimises x'Hx/2 + g'x within bounds of x and of rows Ax.

    DAQP (Arnström, Bemporad and Axehill 2022, arXiv:2106.07751) is a dual active-set method: its solutions keep hard limits to
    rounding. Each solve starts anew, so that it depends on its arguments alone.

    Args:
        num_variables: n.
        num_rows: m.

    Raises:
        ConfigError: CasADi is not installed.
    """

    def __init__(self, num_variables: int, num_rows: int) -> None:
        casadi = casadi_module()
        sparsity = {'h': casadi.Sparsity.dense(num_variables, num_variables),
                    'a': casadi.Sparsity.dense(num_rows, num_variables)}
        function = casadi.conic('step', 'daqp', sparsity, _OPTIONS)
        self._buffer, self._run = function.buffer()
        self._inputs = {'h': np.zeros((num_variables, num_variables), order='F'), 'g': np.zeros(num_variables),
                        'a': np.zeros((num_rows, num_variables), order='F'), 'lba': np.zeros(num_rows),
                        'uba': np.zeros(num_rows), 'lbx': np.zeros(num_variables), 'ubx': np.zeros(num_variables)}
        self._solution = np.zeros(num_variables)
        for name, array in self._inputs.items():
            self._buffer.set_arg(function.index_in(name), memoryview(array.ravel(order='K')))
        self._buffer.set_res(function.index_out('x'), memoryview(self._solution))

    def solve(self, cost: LeastSquares, bounds: tuple[np.ndarray, np.ndarray], rows: np.ndarray,
              row_bounds: tuple[np.ndarray, np.ndarray]) -> np.ndarray | None:
        """Solution, shape (n,); None where there is none within the bounds.

        Args:
            cost: What is minimised.
            bounds: Lower and upper bounds of the variables, shape (n,) each.
            rows: A, shape (m, n).
            row_bounds: Lower and upper bounds of Ax, shape (m,) each.
        """
        values = (cost.hessian, cost.gradient, rows, *row_bounds, *bounds)
        for array, value in zip(self._inputs.values(), values):
            array[...] = value
        self._solution.fill(np.nan)
        self._run()
        found, reached = self._solution.copy(), rows @ self._solution
        outside = [np.maximum(low - value, value - high) for value, (low, high) in ((found, bounds), (reached, row_bounds))]
        return found if max(excess.max(initial=0.0) for excess in outside) <= _TOLERANCE else None
