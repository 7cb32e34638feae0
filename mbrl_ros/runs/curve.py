"""Pictures of learning curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.runs.scores import RECENT, EpisodeScore, success_curve
from mbrl_ros.types import Phase

#: Shorter distances are drawn at this one, because the axis is logarithmic.
_SHORTEST_CM = 0.1
#: Room above the largest error, as a share of that error.
_ROOM = 0.15


def save_learning_curve(scores: Sequence[EpisodeScore], path: Path, *, tolerance_m: float, title: str) -> None:
    """Draw final distance, success rate (`success_curve`) and model error of at least one episode over control steps, as a PNG.

    Distances up to `tolerance_m` count as reached; it is drawn as a line.
    """
    figure, (top, middle, bottom) = _panels(3, title)
    steps = _steps(scores)
    _draw_distance(top, steps, scores, 100 * tolerance_m)
    _draw_success(middle, scores)
    noticed = [step for step, score in zip(steps, scores) if score.changed]
    for step in noticed:
        middle.axvline(step, color='tab:orange', linestyle='--', linewidth=1)
    if noticed:
        middle.get_lines()[-1].set_label('change of the world noticed')
        _add_legend(middle)
    _draw_error(bottom, steps, scores)
    _save(figure, path)


def save_return_curve(scores: Sequence[EpisodeScore], path: Path, *, title: str) -> None:
    """Draw return and model error of at least one episode over control steps, for runs without a goal, as a PNG.

    If episodes tell their success, the success rate (`success_curve`) is drawn between the two.
    """
    is_told = any(score.success is not None for score in scores)
    figure, (top, *middle, bottom) = _panels(2 + is_told, title)
    steps, shown, exploring = _steps(scores), _is_of(Phase.DEMONSTRATED, scores), _is_of(Phase.EXPLORING, scores)
    returns = np.array([score.episode_return for score in scores])
    for chosen, colour, marker, label in ((shown, 'tab:blue', '^', 'demonstrated'), (exploring, 'grey', 'x', 'random actions'),
                                          (~(shown | exploring), 'tab:blue', 'o', 'planned')):
        if chosen.any():
            top.scatter(steps[chosen], returns[chosen], c=colour, marker=marker, label=label, s=28, zorder=3)
    mean = [returns[max(0, end - RECENT):end].mean() for end in range(1, len(scores) + 1)]
    top.plot(steps, mean, color='tab:blue', alpha=0.5, label=f'mean of the last {RECENT}')
    top.set(ylabel='return of an episode')
    _add_legend(top)
    for axes in middle:
        _draw_success(axes, scores)
    _draw_error(bottom, steps, scores)
    _save(figure, path)


def _panels(count: int, title: str) -> tuple[Any, np.ndarray]:
    """A figure with panels below each other, and the panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 1.0 + 2.0 * count), layout='constrained')
    figure.suptitle(title)
    return figure, figure.subplots(count, 1, sharex=True)


def _add_legend(axes: Any) -> None:
    """Put the legend above the panel, where it covers nothing."""
    axes.legend(loc='lower right', bbox_to_anchor=(1.0, 1.0), ncols=5, columnspacing=1.2, frameon=False, borderaxespad=0.0)


def _steps(scores: Sequence[EpisodeScore]) -> np.ndarray:
    return np.array([score.total_steps for score in scores])


def _is_of(phase: Phase, scores: Sequence[EpisodeScore]) -> np.ndarray:
    return np.array([score.phase == phase.value for score in scores])


def _draw_success(axes: Any, scores: Sequence[EpisodeScore]) -> None:
    steps, rate = success_curve(scores, RECENT)
    axes.plot(steps, 100 * rate, color='tab:blue', marker='.')
    axes.set(ylabel=f'successes [%]\n(last {RECENT} planned)', ylim=(-5, 105))


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
