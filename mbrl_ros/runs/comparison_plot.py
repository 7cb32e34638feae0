"""A comparison as a picture: success over real control steps, with a line and a band over seeds for each method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.runs.comparison import LEVELS, OURS, Curve, Run, curves_of

_COLOURS = ('tab:blue', 'tab:orange', 'tab:green', 'tab:red', 'tab:purple')


def draw_comparison(task: str, robot: str, runs: Sequence[Run], path: Path) -> None:
    """Draw the curves of at least one run and write a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    curves = [curve for run in runs for curve in curves_of(run)]
    methods = sorted({curve.method for curve in curves}, key=lambda method: (method != OURS, method))
    longest = max(run.scores[-1].total_steps for run in runs)
    figure = Figure(figsize=(8.0, 5.0), layout='constrained')
    axes = figure.subplots()
    for method, colour in zip(methods, _COLOURS):
        groups = [[curve for curve in curves if (curve.method, curve.measured) == (method, measured)]
                  for measured in dict.fromkeys(curve.measured for curve in curves if curve.method == method)]
        for group, style in zip(groups, ('-', '--')):
            _draw(axes, [curve for curve in group if len(curve.steps)], colour, style)
    for level in LEVELS:
        axes.axhline(100 * level, color='grey', linestyle=':', linewidth=0.8)
    axes.set(xscale='log', xlim=(_first(curves), 1.05 * longest), ylim=(-3, 103), xlabel='real control steps',
             ylabel='success [%]', title=f'{robot} learns to {task.replace("_", " ")}')
    # 500 and 20,000 read better than powers of ten.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.0f}'))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    figure.legend(loc='outside lower center', ncols=2, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw(axes: Any, curves: Sequence[Curve], colour: Any, style: str) -> None:
    """Draw the mean over seeds as a line, and lowest to highest as a band."""
    if not curves:
        return
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    rates = 100 * np.array([curve.at(steps) for curve in curves])
    seeds = 'seed' if len(curves) == 1 else 'seeds'
    axes.plot(steps, rates.mean(axis=0), color=colour, linestyle=style, drawstyle='steps-post',
              label=f'{curves[0].method}, {curves[0].measured}, {len(curves)} {seeds}')
    axes.plot(steps[-1], rates.mean(axis=0)[-1], color=colour, marker='.')
    if len(curves) > 1:
        axes.fill_between(steps, rates.min(axis=0), rates.max(axis=0), color=colour, alpha=0.15, step='post', linewidth=0)


def _first(curves: Sequence[Curve]) -> float:
    """Left end of the axis: a little before the first point of any curve."""
    return 0.8 * max(1, min((int(curve.steps[0]) for curve in curves if len(curve.steps)), default=1))
