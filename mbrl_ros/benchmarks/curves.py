"""How the cost of a plan grows with its population, particles, horizon and iterations."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from mbrl_ros.benchmarks.setups import MeasuredPlanner, PlannerSetup
from mbrl_ros.benchmarks.work import time_interleaved

#: Each quantity is measured at these multiples of its value in the setting.
_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0)
_QUANTITIES = ('population', 'particles', 'horizon', 'iterations')


@dataclasses.dataclass(frozen=True)
class LinearFit:
    """Least-squares line through points; `r_squared` is the share of variance it explains, 1 if the points do not vary."""

    slope: float
    intercept: float
    r_squared: float

    @classmethod
    def of(cls, x: Sequence[float], y: Sequence[float]) -> 'LinearFit':
        """Fit y over x; both of the same length, with at least two different x."""
        slope, intercept = np.polyfit(x, y, 1)
        errors = np.asarray(y) - (slope * np.asarray(x) + intercept)
        variance = np.square(np.asarray(y) - np.mean(y)).sum()
        return cls(float(slope), float(intercept), float(1.0 - np.square(errors).sum() / variance) if variance > 0.0 else 1.0)


def measure_curves(base: PlannerSetup, *, calls: int) -> dict[str, Any]:
    """Median planning time while one quantity after the other is varied around a setting; all points are timed in turns.

    Returns:
        The setting, its precision, and for each quantity values, medians in milliseconds and the numbers of the fit.

    Raises:
        ConfigError: A plan would need more memory than its settings allow.
    """
    points = {quantity: _values(getattr(base, quantity), base.network.ensemble_size if quantity == 'particles' else 1)
              for quantity in _QUANTITIES}
    planners = {(quantity, value): MeasuredPlanner(dataclasses.replace(base, **{quantity: value}))
                for quantity, values in points.items() for value in values}
    times = time_interleaved(planners, calls=calls, warmup=1)
    curves = {}
    for quantity, values in points.items():
        medians = [statistics.median(times[quantity, value]) for value in values]
        curves[quantity] = {'values': values, 'median_ms': medians, **dataclasses.asdict(LinearFit.of(values, medians))}
    precision = next(iter(planners.values())).precision
    return {'setting': dataclasses.asdict(base), 'precision': precision, 'quantities': curves}


def curve_table(curves: dict[str, Any]) -> Table:
    """The curves as a table."""
    setting = curves['setting']
    around = ', '.join(f'{quantity} {setting[quantity]}' for quantity in _QUANTITIES)
    table = Table(title=f'cost around {around} ({curves["precision"]})', box=box.SIMPLE)
    for column in ('quantity', 'values', 'median, ms', 'ms a unit', 'ms at zero', 'R²'):
        table.add_column(column, justify='left' if column == 'quantity' else 'right')
    for quantity, curve in curves['quantities'].items():
        table.add_row(quantity, ' '.join(map(str, curve['values'])), ' '.join(f'{ms:.0f}' for ms in curve['median_ms']),
                      f'{curve["slope"]:.3g}', f'{curve["intercept"]:.1f}', f'{curve["r_squared"]:.4f}')
    return table


def draw_curves(curves: dict[str, Any], path: Path) -> None:
    """Draw the curves of `measure_curves` and write a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 6.0), layout='constrained')
    setting = curves['setting']
    figure.suptitle(f'planning time, {curves["precision"]}; where not varied: population {setting["population"]}, '
                    f'{setting["particles"]} particles, horizon {setting["horizon"]}, {setting["iterations"]} iterations',
                    fontsize=10)
    panels = figure.subplots(2, 2, sharey=True)
    for axes, (quantity, curve) in zip(panels.flat, curves['quantities'].items()):
        ends = np.array([0.0, 1.05 * max(curve['values'])])
        axes.plot(ends, curve['slope'] * ends + curve['intercept'], color='grey', linewidth=1,
                  label=f'line, R² = {curve["r_squared"]:.4f}')
        axes.scatter(curve['values'], curve['median_ms'], color='tab:blue', s=24, zorder=3, label='median of a point')
        axes.set(xlabel=quantity, xlim=ends, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(loc='upper left', fontsize=8)
    for axes in panels[:, 0]:
        axes.set_ylabel('ms a plan')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _values(base: int, unit: int) -> list[int]:
    """The shares of a number as multiples of a unit, without repetitions."""
    return sorted({unit * max(1, round(base * share / unit)) for share in _SHARES})
