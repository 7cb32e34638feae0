"""A comparison as a picture: success over real control steps, a panel for each task, a colour for each method.

Lines are interquartile means over seeds, bands their 95 % intervals, and diamonds the policies at the end.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.runs.comparison import ALL_TASKS, LEVELS

_WIDTH, _HEIGHT, _COLUMNS = 5.6, 4.0, 3
#: Steps are drawn on a logarithmic axis where one run is so many times as long as another.
_LOGARITHMIC_FROM = 5.0
#: Room for the diamonds, as a share of the axis.
_ROOM, _APART = 0.06, 0.035


def draw_comparison(result: Mapping[str, Any], path: Path) -> None:
    """Draw the figures of `comparison.figures` and write a PNG."""
    from matplotlib.figure import Figure

    tasks, methods = (list(dict.fromkeys(row[key] for row in result['rows'])) for key in ('task', 'method'))
    colours = {method: f'C{index}' for index, method in enumerate(methods)}
    columns = min(len(tasks), _COLUMNS)
    rows = math.ceil(len(tasks) / columns)
    figure = Figure(figsize=(1.0 + _WIDTH * columns, 0.9 + _HEIGHT * rows), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, task in zip(panels, tasks):
        _draw_task(axes, result, task, colours)
    for axes in panels[len(tasks):]:
        axes.remove()
    for axes in panels[:len(tasks):columns]:
        axes.set_ylabel('success [%]')
    handles = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc='outside lower center', ncols=min(len(handles), 6), frameon=False,
                  title='interquartile mean over seeds and its 95 % interval; ◆ policy at the end', title_fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_task(axes: Any, result: Mapping[str, Any], task: str, colours: Mapping[str, str]) -> None:
    """Draw the curves of a task and the success at the end of each."""
    curves = [curve for curve in result['estimates'] if curve['task'] == task]
    finals = {row['method']: row['final'] for row in result['rows'] if row['task'] == task}
    ends = [curve['steps'][-1] for curve in curves]
    is_log = max(ends) > _LOGARITHMIC_FROM * min(ends)
    begin = 0.8 * min(_first_success(curve) for curve in curves) if is_log else 0.0
    for level in LEVELS:
        axes.axhline(100 * level, color='grey', linestyle=':', linewidth=0.8)
    for index, curve in enumerate(curves):
        method = curve['method']
        _draw_curve(axes, curve, colours[method])
        _draw_final(axes, finals[method], 1.0 + _ROOM / 2 + _APART * index, colours[method])
    what = f'{result["robot"]}: {task.replace("_", " ")}'
    axes.set(xscale='log' if is_log else 'linear', xlim=(begin, max(ends)), ylim=(-3, 103), xlabel='real control steps',
             title='all tasks together' if task == ALL_TASKS else what)
    _set_ticks(axes, is_log=is_log)
    axes.grid(alpha=0.25)


def _draw_curve(axes: Any, curve: Mapping[str, Any], colour: str) -> None:
    mean, low, high = (100 * np.array(curve[name]) for name in ('mean', 'low', 'high'))
    axes.plot(curve['steps'], mean, color=colour, drawstyle='steps-post', linewidth=2.0, label=curve['method'])
    if np.isfinite(low).all():
        axes.fill_between(curve['steps'], low, high, color=colour, alpha=0.18, step='post', linewidth=0)


def _draw_final(axes: Any, final: Mapping[str, float], place: float, colour: str) -> None:
    """Draw the success at the end as a diamond with its interval, right of the panel; `place` is a share of its width."""
    mean, low, high = (100 * final[name] for name in ('mean', 'low', 'high'))
    reach = [[mean - low], [high - mean]] if np.isfinite(low) else None
    axes.errorbar(place, mean, yerr=reach, color=colour, marker='D', markersize=6, capsize=3, clip_on=False,
                  transform=axes.get_yaxis_transform(), zorder=5)


def _first_success(curve: Mapping[str, Any]) -> float:
    """Steps at which a curve leaves zero; its end if it never does."""
    above = np.flatnonzero(curve['mean'])
    return curve['steps'][above[0] if len(above) else -1]


def _set_ticks(axes: Any, *, is_log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if is_log:  # 500 and 20,000 read better than powers of ten.
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.0f}'))
