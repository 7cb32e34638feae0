"""Rounds of learning: the learner makes a candidate from the experience so far; a better one replaces the bundle in use."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from mbrl_ros.agents.agent import Follows, Learner, LearningReport, Lesson
from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import ModelError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.training.drift import NEVER_NS, DriftConfig, DriftState, detect
from mbrl_ros.training.following import Following
from mbrl_ros.types import TrainingReport

_NO_FIGURE = float('nan')
_NO_WEIGHTS: Mapping[str, float] = {}
_SEED_STRIDE = 1_000_003
#: Torch takes no larger seed.
_SEED_BOUND = 2 ** 63
#: Fewest new transitions that are tested for a change of the dynamics.
_FEWEST_NEW = 10


@dataclasses.dataclass(frozen=True)
class RoundsConfig(Config):
    """Size of a round's data, and when a round is worth its time; the settings of a learner extend it."""

    min_transitions: int = setting(50, 'Fewest transitions to train on.', low=12)
    min_share: float = setting(0.5, 'Train only when the buffer holds at least this share of the transitions that the bundle in '
                                    'use was trained on.', low=0.0, high=1.0)
    max_transitions: int = setting(20_000, 'Newest transitions that a round uses.', low=100)
    drift: DriftConfig = section(DriftConfig, 'When the dynamics count as changed, and the weight of transitions since then.')

    @property
    def rounds_to_follow(self) -> int:
        """Rounds with new weights of the reward after which what is learned follows them."""
        return 1


class Rounds:
    """Owns the bundle in use and replaces it by better ones.

    Args:
        learner: Makes candidates; no other object may use it.
        contract: Contract of the bundles.
        config: Settings.
        seed: Seed of all randomness of learning.
        follows: When the agent follows new weights of the reward.

    Attributes:
        current: The bundle in use; None before the first.
        drift: State of the drift detector.
        follows: As given.
        following: The reward that the bundle in use follows, of an agent that is retrained for another one.
        learned_stamps: Stamps of the transitions that the bundle in use was trained on, int64; never modified in place.
        judged_stamps: Stamps of the transitions that were tested for a change of the dynamics, likewise.
    """

    def __init__(self, learner: Learner, contract: Contract, config: RoundsConfig, *, seed: int,
                 follows: Follows = Follows.RETRAINED) -> None:
        self.config = config
        self.current: AgentBundle | None = None
        self.drift, self.following = DriftState(), Following.of({})
        self.follows = follows
        self.learned_stamps = self.judged_stamps = np.empty(0, dtype=np.int64)
        self._learner, self._contract, self._seed = learner, contract, seed

    @property
    def version(self) -> int:
        """Version of the bundle in use; 0 before the first."""
        return self.current.version if self.current else 0

    def is_behind(self, weights: Mapping[str, float]) -> bool:
        """Whether the bundle in use has yet to catch up with these weights of the reward."""
        return self.follows is Follows.RETRAINED and self.following.is_behind(weights)

    def resume(self, bundle: AgentBundle, learned_stamps: np.ndarray | None = None, judged_stamps: np.ndarray | None = None,
               drift: DriftState | None = None) -> None:
        """Continue from a bundle of an earlier run.

        Args:
            bundle: The bundle.
            learned_stamps: The attribute of the earlier run; needed if its transitions will be trained on again.
            judged_stamps: The attribute of the earlier run; `learned_stamps` by default.
            drift: The attribute of the earlier run; no signs of a change by default.

        Raises:
            ModelMismatchError: The bundle is for another contract.
            BundleError: Its tensors do not fit the learner.
        """
        bundle.card.check_fits(self._contract)
        self._learner.resume(bundle)
        self.current = bundle
        self.following = Following.of(bundle.card.weights)
        if learned_stamps is not None:
            self.learned_stamps = self.judged_stamps = np.array(learned_stamps, dtype=np.int64)
        if judged_stamps is not None:
            self.judged_stamps = np.array(judged_stamps, dtype=np.int64)
        self.drift = drift or DriftState()

    def round(self, transitions: Transitions, *, episode: int, round_index: int, stamp_ns: int,
              real_steps: int | None = None, weights: Mapping[str, float] = _NO_WEIGHTS,
              is_cancelled: Callable[[], bool] = bool) -> TrainingReport:
        """Learn from all transitions; an accepted candidate becomes `current`.

        Args:
            transitions: N transitions, oldest first; their stamps identify them over all rounds.
            episode: Newest episode whose transitions are all in the data; -1 for none.
            round_index: Decides the round's randomness together with the seed.
            stamp_ns: Time of the round, for report and card.
            real_steps: All control steps of the arm so far, for the card; N by default.
            weights: Weights by term of the reward that the learner uses now; empty for one without.
            is_cancelled: Asked now and then.

        Returns:
            The report, with a duration of 0 for the caller to fill in.

        Raises:
            TrainingCancelled: `is_cancelled` returned true.
        """
        rows = transitions.take(slice(-self.config.max_transitions, None))
        keys = rows.stamp_ns
        report = TrainingReport(stamp_ns=stamp_ns, trained_episode=episode, model_version=self.version, accepted=False,
                                reason='', num_transitions=len(keys), holdout_rmse=_NO_FIGURE, holdout_nll=_NO_FIGURE,
                                duration_s=0.0)
        of_bundle = self.config.min_share * self.current.card.num_transitions if self.current else 0.0
        fewest = max(self.config.min_transitions, min(round(of_bundle), self.config.max_transitions))
        if len(keys) < fewest:
            return dataclasses.replace(report, reason=f'no round: {len(keys)} transitions, training needs {fewest}')
        held_out = self._learner.held_out(rows)
        try:
            changed, drift = self._changed(rows, held_out)
            lesson = self._lesson(rows, held_out, drift, bool(changed), round_index)
            learned = self._learner.update(lesson, is_cancelled)
        except ModelError as error:
            return dataclasses.replace(report, reason=f'no round: {error}')
        # Only now, so that a round without a candidate leaves its new transitions to the next one.
        self.drift = drift
        if (~_among(keys, self.judged_stamps)).sum() >= _FEWEST_NEW:
            self.judged_stamps = keys.copy()
        if learned.is_better:
            self._take(learned, keys, report, len(transitions) if real_steps is None else real_steps, weights)
        figures = learned.figures if learned.is_better or not learned.figures_in_use else learned.figures_in_use
        return dataclasses.replace(
            report, model_version=self.version, accepted=learned.is_better,
            reason=f'{changed}; {learned.reason}' if changed else learned.reason,
            holdout_rmse=figures.get('holdout_rmse', _NO_FIGURE), holdout_nll=figures.get('holdout_nll', _NO_FIGURE),
            changed=bool(changed), warnings=learned.warnings)

    def _take(self, learned: LearningReport, keys: np.ndarray, report: TrainingReport, real_steps: int,
              weights: Mapping[str, float]) -> None:
        """Make the candidate the bundle in use."""
        if self.follows is Follows.RETRAINED:
            self.following = self.following.after_round(weights, self.config.rounds_to_follow)
        card = Card(version=self.version + 1, contract=self._contract, num_transitions=len(keys),
                    trained_episode=report.trained_episode, figures=learned.figures, created_ns=report.stamp_ns,
                    real_steps=real_steps, origin=learned.origin, weights=self.following.weights, view=learned.view)
        self.current = AgentBundle(card, learned.groups)
        self._learner.resume(self.current)
        self.learned_stamps = keys.copy()

    def _changed(self, rows: Transitions, held_out: np.ndarray) -> tuple[str, DriftState]:
        """Description of a change since the bundle in use was trained, empty for none, and the new state of the detector."""
        keys = rows.stamp_ns
        new = ~_among(keys, self.judged_stamps)
        if self.current is None or new.sum() < _FEWEST_NEW:
            return '', self.drift
        own = _among(keys, self.learned_stamps)
        if held_out.any():
            own &= held_out  # A learner that holds nothing out knows how surprising transitions were before it learned from them.
        if not own.any():
            return '', self.drift
        recent, before = (self._learner.surprise(rows.take(mask)) for mask in (new, own))
        if recent is None or before is None:
            return '', self.drift
        drift, changed = detect(self.drift, self.config.drift, recent=recent, before=before, since_ns=int(keys[new].min()),
                                num_transitions=self.current.card.num_transitions)
        return changed, drift

    def _lesson(self, rows: Transitions, held_out: np.ndarray, drift: DriftState, has_changed: bool, round_index: int) -> Lesson:
        """The learner's lesson; transitions since the last change are repeated to make up `recent_share`."""
        keys = rows.stamp_ns
        judged_on = held_out
        if has_changed and (since := held_out & ~_among(keys, self.learned_stamps)).any():
            judged_on = since  # After a change only the transitions since then show how good a candidate is.
        recent, repeats = (keys >= drift.changed_ns) & ~held_out, 0
        if drift.changed_ns != NEVER_NS and recent.any():
            share = self.config.drift.recent_share
            wanted = share / (1.0 - share) * (~recent & ~held_out).sum()
            repeats = max(round(wanted / recent.sum()) - 1, 0)
        seed = (self._seed * _SEED_STRIDE + round_index) % _SEED_BOUND
        return Lesson(rows, held_out, judged_on, recent, repeats, seed)


def _among(keys: np.ndarray, stamps: np.ndarray) -> np.ndarray:
    """Which keys, shape (N,), are among stamps, bool; both identify, which makes this ten times faster."""
    return np.isin(keys, stamps, assume_unique=True)
