"""Learning curves as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.runs.scores import EpisodeScore, success_curve
from mbrl_ros.types import Phase

#: Episodes that a rate or a mean is over: so few that a fall is seen soon.
_WINDOW = 10
#: Distances below that are drawn there; a logarithm has no place for 0.
_SHORTEST_CM = 0.1
#: Share of room above the largest error.
_ROOM = 0.15


def save_learning_curve(scores: Sequence[EpisodeScore], path: Path, *, tolerance_m: float, title: str) -> None:
    """Draw final distance, success rate (`success_curve`) and model error over real control steps, and write a PNG.

    Args:
        scores: Finished episodes in order; at least one.
        path: File to write.
        tolerance_m: Distance that counts as reached, drawn as a line.
        title: Title of the figure.
    """
    figure, (top, middle, bottom) = _panels(3, title)
    steps = _steps(scores)
    _draw_distance(top, steps, scores, 100 * tolerance_m)
    played_steps, rate = success_curve(scores, _WINDOW)
    middle.plot(played_steps, 100 * rate, color='tab:blue', marker='.')
    noticed = [step for step, score in zip(steps, scores) if score.changed]
    for step in noticed:
        middle.axvline(step, color='tab:orange', linestyle='--', linewidth=1)
    if noticed:
        middle.get_lines()[-1].set_label('change of the world noticed')
        _add_legend(middle)
    middle.set(ylabel=f'successes [%]\n(last {_WINDOW} planned)', ylim=(-5, 105))
    _draw_error(bottom, steps, scores)
    _save(figure, path)


def save_return_curve(scores: Sequence[EpisodeScore], path: Path, *, title: str) -> None:
    """Draw return and model error over control steps, for what has no goal, and write a PNG.

    Args:
        scores: Finished episodes in order; at least one.
        path: File to write.
        title: Title of the figure.
    """
    figure, (top, bottom) = _panels(2, title)
    steps, exploring = _steps(scores), _is_of(Phase.EXPLORING, scores)
    returns = np.array([score.episode_return for score in scores])
    for chosen, colour, marker, label in ((exploring, 'grey', 'x', 'random actions'), (~exploring, 'tab:blue', 'o', 'planned')):
        if chosen.any():
            top.scatter(steps[chosen], returns[chosen], c=colour, marker=marker, label=label, s=28, zorder=3)
    mean = [returns[max(0, end - _WINDOW):end].mean() for end in range(1, len(scores) + 1)]
    top.plot(steps, mean, color='tab:blue', alpha=0.5, label=f'mean of the last {_WINDOW}')
    top.set(ylabel='return of an episode')
    _add_legend(top)
    _draw_error(bottom, steps, scores)
    _save(figure, path)


def _panels(count: int, title: str) -> tuple[Any, np.ndarray]:
    """A figure with panels below each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 1.0 + 2.0 * count), layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure, figure.subplots(count, 1, sharex=True)


def _add_legend(axes: Any) -> None:
    """Name what is drawn, above the panel, where it covers nothing."""
    axes.legend(loc='lower right', bbox_to_anchor=(1.0, 1.0), ncols=5, columnspacing=1.2, frameon=False, borderaxespad=0.0)


def _steps(scores: Sequence[EpisodeScore]) -> np.ndarray:
    return np.array([score.total_steps for score in scores])


def _is_of(phase: Phase, scores: Sequence[EpisodeScore]) -> np.ndarray:
    return np.array([score.phase == phase.value for score in scores])


def _draw_error(axes: Any, steps: np.ndarray, scores: Sequence[EpisodeScore]) -> None:
    errors = 100 * np.array([score.model_error for score in scores])
    axes.plot(steps, errors, color='tab:purple', marker='.')
    top = (1.0 + _ROOM) * errors[np.isfinite(errors)].max(initial=0.0)
    axes.set(ylabel='model error [%]\n(held out, one step)', xlabel='real control steps', xlim=(0, None), ylim=(0, top or None))


def _save(figure: Any, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_distance(axes: Any, steps: np.ndarray, scores: Sequence[EpisodeScore], tolerance_cm: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    distance_cm = 100 * np.array([score.distance_m for score in scores])
    success, played = np.array([score.success for score in scores], dtype=bool), _is_of(Phase.RUNNING, scores)
    for chosen, colour, marker, label in ((_is_of(Phase.DEMONSTRATED, scores), 'tab:blue', '^', 'demonstrated'),
                                          (_is_of(Phase.EXPLORING, scores), 'grey', 'x', 'random motion'),
                                          (played & ~success, 'tab:red', 'o', 'missed'),
                                          (played & success, 'tab:green', 'o', 'reached')):
        if chosen.any():
            axes.scatter(steps[chosen], distance_cm[chosen].clip(min=_SHORTEST_CM), c=colour, marker=marker, label=label, s=28,
                         zorder=3)
    axes.axhline(tolerance_cm, color='grey', linestyle='--', linewidth=1, label=f'tolerance, {tolerance_cm:g} cm')
    axes.set(ylabel='final distance [cm]', yscale='log')
    # 0.2 and 50 read better than powers of ten.
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_minor_locator(NullLocator())
    _add_legend(axes)
