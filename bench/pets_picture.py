"""Returns over steps as a picture: one panel a problem, a thin line a run, a thick one the mean over seeds."""

from pathlib import Path
from typing import Any

import numpy as np

_COLOURS = {'mbrl_ros': 'tab:blue', 'mbrl-lib PETS': 'tab:orange'}


def draw_returns(result: dict[str, Any], path: Path) -> None:
    """Draw the runs and write a PNG.

    Args:
        result: As `pets.json` holds it.
        path: File to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(run['problem'] for run in result['runs']))
    figure = Figure(figsize=(1.0 + 4.0 * len(problems), 3.8), layout='constrained')
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(problems), squeeze=False)[0], problems):
        for contender, colour in _COLOURS.items():
            runs = [run for run in result['runs'] if (run['problem'], run['contender']) == (name, contender)]
            for run in runs:
                axes.plot(run['steps'], run['returns'], color=colour, alpha=0.35, linewidth=0.8)
            if runs:
                axes.plot(np.mean([run['steps'] for run in runs], axis=0), np.mean([run['returns'] for run in runs], axis=0),
                          color=colour, linewidth=2.0, label=f'{contender}, mean of {len(runs)}')
        axes.set(title=name, xlabel='real control steps', ylabel='return of an episode')
        axes.grid(alpha=0.3)
        axes.legend(loc='lower right', fontsize=8)
    figure.savefig(path, dpi=120)
