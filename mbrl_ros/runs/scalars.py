"""Figures of a run as TensorBoard shows them: success, returns and errors against real control steps, while it learns."""

from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from mbrl_ros.runs.scores import WINDOW, EpisodeScore, success_curve
from mbrl_ros.types import Phase, TrainingReport


class ScalarLog:
    """Writes event files; `tensorboard --logdir` on a folder above compares runs.

    Args:
        folder: Where the event files go; those of an earlier part of the run stay.
        scores: Of that part; what an interrupted run wrote after them is left out of the curves.
    """

    def __init__(self, folder: Path, scores: Sequence[EpisodeScore] = ()) -> None:
        # What was written from that step on is hidden; the point of the last score stays.
        self._writer = SummaryWriter(str(folder), purge_step=scores[-1].total_steps + 1 if scores else None)
        self._scores = list(scores)

    def add(self, score: EpisodeScore, training: TrainingReport | None) -> None:
        """Note an episode, and the round of training after it if there was one; it can be seen at once.

        Args:
            score: Of the episode.
            training: The round.
        """
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
            if value == value:  # What there was nothing to measure for is NaN, and left out.
                self._writer.add_scalar(name, value, score.total_steps)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
