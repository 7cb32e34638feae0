"""Figures of a run for TensorBoard: success, returns and errors over real control steps, written while it learns."""

from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from mbrl_ros.runs.scores import WINDOW, EpisodeScore, success_curve
from mbrl_ros.types import Phase, TrainingReport


class ScalarLog:
    """Writes event files; `tensorboard --logdir` on a parent folder compares runs.

    Args:
        folder: Folder for event files; those of an earlier part of the run stay.
        scores: Scores of the earlier part; points that an interrupted run wrote after them are hidden.
    """

    def __init__(self, folder: Path, scores: Sequence[EpisodeScore] = ()) -> None:
        # TensorBoard hides points from this step on; the point of the last score stays.
        self._writer = SummaryWriter(str(folder), purge_step=scores[-1].total_steps + 1 if scores else None)
        self._scores = list(scores)

    def add(self, score: EpisodeScore, training: TrainingReport | None) -> None:
        """Write an episode's score, and the round of training after it if there was one; TensorBoard shows them at once."""
        self._scores.append(score)
        figures = {
            'episode/return': score.episode_return, 'episode/distance_m': score.distance_m, 'time/plan_ms_p50': score.plan_ms_p50,
            'time/plan_ms_p99': score.plan_ms_p99, 'time/episode_s': score.wall_s,
        }
        if score.phase == Phase.RUNNING.value:
            figures[f'episode/success_of_last_{WINDOW}'] = success_curve(self._scores)[1][-1]
        if training is not None:
            figures |= {'model/holdout_rmse': training.holdout_rmse, 'model/holdout_nll': training.holdout_nll,
                        'model/version': training.model_version}
        for name, value in figures.items():
            if value == value:  # NaN is left out: nothing was measured.
                self._writer.add_scalar(name, value, score.total_steps)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
