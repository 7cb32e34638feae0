"""Round after round: have the learner learn from all experience, and take its candidate only when it is shown to be better."""

import dataclasses
from collections.abc import Callable

import numpy as np

from mbrl_ros.agents.agent import Learner, LearningReport, Lesson
from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import ModelError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.training.drift import NEVER_NS, DriftConfig, DriftState, detect
from mbrl_ros.types import TrainingReport

_NO_FIGURE = float('nan')
_SEED_STRIDE = 1_000_003
#: Torch takes no larger seed.
_SEED_BOUND = 2 ** 63
#: Fewer new transitions say nothing about whether the arm has changed.
_FEWEST_NEW = 10


@dataclasses.dataclass(frozen=True)
class RoundsConfig(Config):
    """When a round is worth its time and what it is given; a learner's own settings extend it."""

    min_transitions: int = setting(50, 'Fewest transitions to train on.', low=12)
    min_share: float = setting(0.5, 'Train only when the buffer holds at least this share of the transitions that the bundle in '
                                    'use was trained on.', low=0.0, high=1.0)
    max_transitions: int = setting(20_000, 'Newest transitions that a round uses.', low=100)
    drift: DriftConfig = section(DriftConfig, 'When the world counts as changed, and what then counts more.')


class Rounds:
    """Owns the bundle in use and replaces it by better ones.

    Args:
        learner: Learns; used by this object only.
        contract: What the bundles are for.
        config: Settings.
        seed: Decides all randomness of learning.

    Attributes:
        current: The bundle in use; None before the first.
        drift: What is known of changes of the world.
    """

    def __init__(self, learner: Learner, contract: Contract, config: RoundsConfig, *, seed: int) -> None:
        self.config = config
        self.current: AgentBundle | None = None
        self.drift = DriftState()
        self._learner, self._contract, self._seed = learner, contract, seed
        # Which transitions the bundle in use was made from, and which have had their say on whether the world has changed.
        self._learned_stamps = self._judged_stamps = np.empty(0, dtype=np.int64)

    @property
    def learned_stamps(self) -> np.ndarray:
        """Which transitions the bundle in use was made from, int64."""
        return self._learned_stamps.copy()

    @property
    def judged_stamps(self) -> np.ndarray:
        """Which transitions have had their say on whether the world has changed, int64."""
        return self._judged_stamps.copy()

    @property
    def version(self) -> int:
        """Version of the bundle in use; 0 before the first."""
        return self.current.version if self.current else 0

    def resume(self, bundle: AgentBundle, learned_stamps: np.ndarray | None = None, judged_stamps: np.ndarray | None = None,
               drift: DriftState | None = None) -> None:
        """Go on from a bundle of an earlier run.

        Args:
            bundle: The bundle.
            learned_stamps: Which transitions it was made from, where they will be trained on again.
            judged_stamps: Which have had their say on a change; those by default.
            drift: What was known of changes, likewise.

        Raises:
            ModelMismatchError: It is for another contract.
            BundleError: Its tensors are not the learner's.
        """
        bundle.card.check_fits(self._contract)
        self._learner.resume(bundle)
        self.current = bundle
        if learned_stamps is not None:
            self._learned_stamps = self._judged_stamps = np.array(learned_stamps, dtype=np.int64)
        if judged_stamps is not None:
            self._judged_stamps = np.array(judged_stamps, dtype=np.int64)
        self.drift = drift or DriftState()

    def round(self, transitions: Transitions, *, episode: int, round_index: int, stamp_ns: int,
              real_steps: int | None = None, is_cancelled: Callable[[], bool] = bool) -> TrainingReport:
        """Learn from all transitions; afterwards `current` is the candidate, if it was accepted.

        Args:
            transitions: N transitions, oldest first; their stamps identify them over all rounds.
            episode: Newest episode that is wholly in the data; -1 when none is.
            round_index: Together with the seed decides the round's randomness.
            stamp_ns: Time of the round, for report and card.
            real_steps: Control steps that the arm has made, for the card; N where nothing was left out of the data.
            is_cancelled: Asked now and then.

        Returns:
            The report, with a duration of 0; whoever has a clock fills it in.

        Raises:
            TrainingCancelled: `is_cancelled` said so.
        """
        rows = transitions.take(slice(-self.config.max_transitions, None))
        keys = rows.stamp_ns
        report = TrainingReport(stamp_ns=stamp_ns, trained_episode=episode, model_version=self.version, accepted=False,
                                reason='', num_transitions=len(keys), holdout_rmse=_NO_FIGURE, holdout_nll=_NO_FIGURE,
                                duration_s=0.0)
        if len(keys) < self._fewest:
            return dataclasses.replace(report, reason=f'no round: {len(keys)} transitions, training needs {self._fewest}')
        held_out = self._learner.held_out(keys)
        try:
            changed, drift = self._changed(rows, held_out)
            lesson = self._lesson(rows, held_out, drift, bool(changed), round_index)
            learned = self._learner.update(lesson, is_cancelled)
        except ModelError as error:
            return dataclasses.replace(report, reason=f'no round: {error}')
        # Not before: what is new in a round that came to nothing is new in the next one too.
        self.drift = drift
        if (~np.isin(keys, self._judged_stamps)).sum() >= _FEWEST_NEW:  # Too few wait for more.
            self._judged_stamps = keys.copy()
        if learned.is_better:
            self._take(learned, keys, report, len(transitions) if real_steps is None else real_steps)
        figures = learned.figures if learned.is_better or not learned.figures_in_use else learned.figures_in_use
        return dataclasses.replace(
            report, model_version=self.version, accepted=learned.is_better,
            reason=f'{changed}; {learned.reason}' if changed else learned.reason,
            holdout_rmse=figures.get('holdout_rmse', _NO_FIGURE), holdout_nll=figures.get('holdout_nll', _NO_FIGURE),
            changed=bool(changed))

    @property
    def _fewest(self) -> int:
        """Fewest transitions that a round is worth its time with."""
        config = self.config
        of_bundle = config.min_share * self.current.card.num_transitions if self.current else 0.0
        return max(config.min_transitions, min(round(of_bundle), config.max_transitions))

    def _take(self, learned: LearningReport, keys: np.ndarray, report: TrainingReport, real_steps: int) -> None:
        """Make the candidate the bundle in use."""
        card = Card(version=self.version + 1, contract=self._contract, num_transitions=len(keys),
                    trained_episode=report.trained_episode, figures=learned.figures, created_ns=report.stamp_ns,
                    real_steps=real_steps)
        self.current = AgentBundle(card, learned.groups)
        self._learner.resume(self.current)
        self._learned_stamps = keys.copy()

    def _changed(self, rows: Transitions, held_out: np.ndarray) -> tuple[str, DriftState]:
        """What has changed since the bundle in use was made, if anything has, and what is known of changes with that."""
        keys = rows.stamp_ns
        new, own = ~np.isin(keys, self._judged_stamps), held_out & np.isin(keys, self._learned_stamps)
        if self.current is None or new.sum() < _FEWEST_NEW or not own.any():
            return '', self.drift
        recent, before = (self._learner.surprise(rows.take(mask)) for mask in (new, own))
        if recent is None or before is None:
            return '', self.drift
        drift, changed = detect(self.drift, self.config.drift, recent=recent, before=before, since_ns=int(keys[new].min()),
                                num_transitions=self.current.card.num_transitions)
        return changed, drift

    def _lesson(self, rows: Transitions, held_out: np.ndarray, drift: DriftState, has_changed: bool,
                round_index: int) -> Lesson:
        """What the learner is given: what came since the last change is repeated, so that it has its share."""
        keys = rows.stamp_ns
        since = held_out & ~np.isin(keys, self._learned_stamps)
        # Of a changed arm, only what it has done since says how good a candidate is.
        judged_on = since if has_changed and since.any() else held_out
        recent, repeats = (keys >= drift.changed_ns) & ~held_out, 0
        if drift.changed_ns != NEVER_NS and recent.any():
            share = self.config.drift.recent_share
            wanted = share / (1.0 - share) * (~recent & ~held_out).sum()
            repeats = max(round(wanted / recent.sum()) - 1, 0)
        seed = (self._seed * _SEED_STRIDE + round_index) % _SEED_BOUND
        return Lesson(rows, held_out, judged_on, recent, repeats, seed)
