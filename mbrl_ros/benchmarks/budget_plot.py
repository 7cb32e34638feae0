"""A picture of success over planning budget."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Colour, marker, and offset of the labels in points; lines whose points are close have labels on different sides.
_STYLES = {'population': ('tab:blue', 'o', (2, 7)), 'horizon': ('tab:orange', 's', (0, -13)),
           'particles': ('tab:green', '^', (0, -13)), 'iterations': ('tab:red', 'D', (9, -2)),
           'together': ('tab:purple', 'v', (-8, -24))}


def draw_budget(result: dict[str, Any], path: Path) -> None:
    """Draw success rate, steps and planning time over model evaluations from the figures of `measure_budget`; writes a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    rows, default = result['rows'], result['conclusion']['default']
    figure = Figure(figsize=(8.0, 9.0), layout='constrained')
    around = ', '.join(f'{quantity} {default[quantity]}' for quantity in _STYLES if quantity in default)
    figure.suptitle(f'reaching with {result["robot"]}: success against the budget of a plan\n'
                    f'around {around}, one varied at a time or all together; {default["episodes"]} episodes a point', fontsize=9)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 2))
    for quantity in _STYLES:
        points = sorted((row for row in rows if quantity in row['varied']), key=lambda row: row['model_evals'])
        if len(points) > 1:
            _draw_line(panels, points, quantity)
    top, middle, bottom = panels
    values = (100 * default['success_rate'], default['mean_steps'], default['plan_ms_median'])
    for axes, value in zip(panels, values):
        axes.plot(default['model_evals'], value, 'k*', markersize=15, label='default', zorder=4)
        axes.set_xscale('log')
        axes.grid(alpha=0.3)
    top.set(ylabel='episodes reached [%]\n(Wilson 95 % interval)', ylim=(100 * min(row['wilson_low'] for row in rows) - 5, 102))
    middle.set(ylabel='control steps\n(mean, failures in full)')
    middle.text(0.99, 0.97, 'numbers: the varied quantity;\ntogether: population·horizon·particles·iterations', fontsize=8,
                ha='right', va='top', transform=middle.transAxes)
    middle.margins(x=0.07, y=0.15)
    threads = result['machine']['threads']
    bottom.set(ylabel=f'planning time [ms]\n(median, {threads} thread{"s" if threads > 1 else ""})', yscale='log',
               xlabel='model evaluations a plan')
    bottom.legend(*top.get_legend_handles_labels(), loc='upper left', ncols=2, fontsize=8)
    for axis in (bottom.xaxis, bottom.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=15))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,g}'))
        axis.set_minor_locator(NullLocator())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_line(panels: Sequence[Any], points: Sequence[dict[str, Any]], line: str) -> None:
    """Draw one line in each panel; the middle one labels its points with the varied values."""
    top, middle, bottom = panels
    colour, marker, offset = _STYLES[line]
    style = {'color': colour, 'marker': marker, 'markersize': 5}
    budgets = [row['model_evals'] for row in points]
    bars = [[100 * (row['success_rate'] - row['wilson_low']) for row in points],
            [100 * (row['wilson_high'] - row['success_rate']) for row in points]]
    top.errorbar(budgets, [100 * row['success_rate'] for row in points], yerr=bars, capsize=3, elinewidth=1, label=line, **style)
    middle.plot(budgets, [row['mean_steps'] for row in points], **style)
    bottom.plot(budgets, [row['plan_ms_median'] for row in points], **style)
    for row in points:
        if not row['is_default']:
            text = str(row.get(line, '·'.join(str(row[quantity]) for quantity in _STYLES if quantity in row)))
            middle.annotate(text, (row['model_evals'], row['mean_steps']), color=colour, fontsize=7, ha='center',
                            textcoords='offset points', xytext=offset)
