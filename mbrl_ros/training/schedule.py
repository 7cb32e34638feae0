"""Schedule of rounds: after an episode if the episode manager waits for a round, else whenever enough transitions are new."""

import dataclasses

from mbrl_ros.config import Config, setting
from mbrl_ros.types import EpisodeReport, Phase


@dataclasses.dataclass(frozen=True)
class ScheduleConfig(Config):
    """When to train."""

    min_transitions: int = setting(50, 'Transitions before the first round in the background.', low=12)
    min_new_transitions: int = setting(25, 'New transitions before another round in the background.', low=1)
    patience_s: float = setting(10.0, 'Longest wait for the last transitions of an episode that is to be trained on.',
                                unit='s', low=0.0, high=60.0)


@dataclasses.dataclass(frozen=True)
class DueRound:
    """A round to train now.

    Attributes:
        episode: Newest episode whose transitions are all there; -1 when none is complete.
        index: Decides the round's randomness: the episode if a report waits for the round, otherwise a running number.
        stamp_ns: Stamp of the report that waits for the round; None in the background.
    """

    episode: int
    index: int
    stamp_ns: int | None = None


class RoundSchedule:
    """Decides from episode reports and counts of transitions; knows neither clock nor data.

    Args:
        config: Settings.
        background: Whether rounds also run during episodes; not in lockstep, where they would depend on the wall clock.

    Attributes:
        hurries: Whether a round in the background is due without new transitions too, as after a change of the reward.
    """

    def __init__(self, config: ScheduleConfig, *, background: bool) -> None:
        self._config = config
        self._background, self.hurries = background, False
        self._report: EpisodeReport | None = None
        self._waited_since_s: float | None = None
        self._ended_ns: int | None = None
        self._num_lost = 0
        self._is_set_back = False
        self._trained_episode = -1
        self._trained_on = 0
        self._rounds = 0

    def on_report(self, report: EpisodeReport, now_s: float) -> None:
        """Take the newest report, heard at `now_s`."""
        before = self._report
        if before and (report.episode, report.all_steps) < (before.episode, before.all_steps):
            self._trained_episode, self._num_lost, self._is_set_back = -1, 0, False  # The manager has begun anew.
        elif before and report.stamp_ns < before.stamp_ns:
            self._is_set_back = True
        if report.phase.is_episode or self._is_set_back:
            self._ended_ns = None
        elif before and before.phase.is_episode:
            self._ended_ns = report.start_ns
        self._report = report
        if not self._is_waited_for():
            self._waited_since_s = None
        elif self._waited_since_s is None:
            self._waited_since_s = now_s

    def due(self, now_s: float, num_transitions: int, num_of_run: int, decided_ns: int = -1) -> DueRound | None:
        """The round to start now, if any; to be called again once that round has ended.

        Args:
            now_s: Steady time.
            num_transitions: Number of all transitions so far, evicted ones included.
            num_of_run: Number of transitions since the episode manager began to count, those of a held arm included.
            decided_ns: As of the `TransitionAssembler`. Once it is past the end of the episode, nothing is missing: what is not
                there, as while the command guard held the arm, never comes.
        """
        report = self._report
        if self._is_set_back:
            # The clock was set back, e.g. by a restarted simulator, so missing transitions will never arrive.
            self._num_lost, self._is_set_back = max(report.all_steps - num_of_run, 0), False
        if self._is_waited_for():
            missing = report.all_steps - num_of_run
            is_decided = self._ended_ns is not None and decided_ns >= self._ended_ns
            if missing > self._num_lost and not is_decided and now_s - self._waited_since_s < self._config.patience_s:
                return None
            # Transitions still missing after `patience_s`, as after a crash, never arrive; later episodes do not wait for them.
            self._num_lost = max(missing, 0)
            return self._start(DueRound(report.episode, report.episode, report.stamp_ns), num_transitions)
        wanted = self._trained_on if self.hurries else self._trained_on + self._config.min_new_transitions
        enough = num_transitions >= max(self._config.min_transitions, wanted)
        if not self._background or not enough:
            return None
        return self._start(DueRound(report.episode - 1 if report else -1, self._rounds), num_transitions)

    def _start(self, due: DueRound, num_transitions: int) -> DueRound:
        self._trained_episode = max(self._trained_episode, due.episode)
        self._trained_on = num_transitions
        self._rounds += 1
        self._waited_since_s = None
        return due

    def _is_waited_for(self) -> bool:
        report = self._report
        return report is not None and report.phase is Phase.TRAINING and report.episode > self._trained_episode
