"""The comparison as a picture: one bar a planner, one panel a horizon, the floors as lines."""

from pathlib import Path
from typing import Any

_OURS = 'mbrl_ros'


def draw_comparison(result: dict[str, Any], path: Path) -> None:
    """Draw planning times and write a PNG.

    Args:
        result: As `planner.json` holds it.
        path: File to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    horizons = sorted({row['horizon'] for row in result['rows']})
    names = list(dict.fromkeys(row['planner'] for row in result['rows']))
    figure = Figure(figsize=(5.0 + 4.0 * len(horizons), 1.6 + 0.36 * len(names)), layout='constrained')
    FigureCanvasAgg(figure)
    setting, machine = result['setting'], result['machine']
    figure.suptitle(f'planning time at population {setting["population"]}, {setting["particles"]} particles, '
                    f'{setting["iterations"]} iterations\n{machine["description"]}, threads: {machine["threads"]}', fontsize=10)
    panels = figure.subplots(1, len(horizons), sharey=True, squeeze=False)[0]
    for axes, horizon in zip(panels, horizons):
        rows = {row['planner']: row for row in result['rows'] if row['horizon'] == horizon}
        floors = [floor for floor in result['floors'] if floor['horizon'] == horizon]
        times = [rows[name]['median_ms'] if name in rows else float('nan') for name in names]
        colours = ['tab:blue' if name.startswith(_OURS) else 'silver' for name in names]
        axes.barh(names, times, color=colours, height=0.7, zorder=2)
        longest = max(row['median_ms'] for row in rows.values())
        for index, name in enumerate(names):
            if name in rows:
                axes.annotate(f'{rows[name]["median_ms"]:.0f} ms', (rows[name]['median_ms'], index), xytext=(4, 0),
                              textcoords='offset points', va='center', fontsize=8, zorder=4,
                              bbox={'boxstyle': 'square,pad=0.1', 'facecolor': 'white', 'edgecolor': 'none', 'alpha': 0.8})
            else:
                axes.annotate('not run', (0.03, index), xycoords=('axes fraction', 'data'), va='center', fontsize=8)
        for floor, style in zip(floors, ('--', ':')):
            axes.axvline(floor['median_ms'], color='tab:red', linestyle=style, linewidth=1.2, zorder=3,
                         label=f'matrix products alone, {floor["precision"]}: {floor["median_ms"]:.0f} ms')
        axes.set(xlim=(0, 1.15 * longest), xlabel=f'median of a plan at horizon {horizon}, ms')
        axes.grid(axis='x', alpha=0.3, zorder=0)
        axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.12), fontsize=8, frameon=False)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=120)
