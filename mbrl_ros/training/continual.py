"""Round after round: train on all experience, judge the candidate, keep the better model."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from mbrl_ros.agents.snapshot import ModelCard, ModelSnapshot
from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import ModelError
from mbrl_ros.models.ensemble.metrics import Validation, validate
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.ensemble.split import holdout_mask
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig, TrainingResult
from mbrl_ros.spaces.frame import Frame, framed_transitions, imagined_transitions
from mbrl_ros.training.acceptance import AcceptanceConfig, decide, describe_change
from mbrl_ros.training.drift import NEVER_NS, DriftConfig, DriftState, follow
from mbrl_ros.types import DynamicsModel, TrainingReport

_NO_FIGURE = float('nan')
_SEED_STRIDE = 1_000_003
#: Torch takes no larger seed.
_SEED_BOUND = 2 ** 63
#: Fewer new transitions say nothing about whether the arm has changed.
_FEWEST_NEW = 10


@dataclasses.dataclass(frozen=True)
class ContinualConfig(Config):
    """When a round is worth its time, how it is trained and how its model is judged."""

    min_transitions: int = setting(50, 'Fewest transitions to train on.', low=12)
    min_share: float = setting(0.5, 'Fewest transitions to train on, as a share of those that the model in use was made from; a '
                                    'model goes on from much, and not from little.', low=0.0, high=1.0)
    max_transitions: int = setting(20_000, 'Newest transitions that a round uses.', low=100)
    imagined_share: float = setting(0.0, 'Transitions imagined in each round, of parts of the scene that do not touch, as a '
                                         'share of the real ones; where a frame can tell.', low=0.0, high=10.0)
    drift: DriftConfig = section(DriftConfig, 'When the world counts as changed, and what then counts more.')
    trainer: TrainerConfig = section(TrainerConfig, 'One round.')
    acceptance: AcceptanceConfig = section(AcceptanceConfig, 'Which model is kept.')


class ContinualLearner:
    """Owns the model in use and replaces it by better ones.

    Args:
        config: Settings.
        seed: Decides all randomness of training.
        robot: Name of the robot profile.
        task: Name of the task.
        state_names: Entries of the state that make up an observation.
        action_names: Commanded joints.
        period_s: Control period.
        has_velocities: As for `ModelCard`.
        reward: As for `ModelCard`.
        frame: What the dynamics are learned in; None for as they are.

    Attributes:
        current: The model in use; None before the first.
        drift: What is known of changes of the world.
    """

    def __init__(self, config: ContinualConfig, *, seed: int, robot: str, task: str, state_names: tuple[str, ...],
                 action_names: tuple[str, ...], period_s: float, has_velocities: bool = True,
                 reward: str = '', frame: Frame | None = None) -> None:
        self.config = config
        self.current: ModelSnapshot | None = None
        self.drift = DriftState()
        self._layout = {'robot': robot, 'task': task, 'state_names': tuple(state_names),
                        'action_names': tuple(action_names), 'period_s': period_s, 'has_velocities': has_velocities,
                        'reward': reward}
        self._seed, self._frame = seed, frame
        self._trainer = EnsembleTrainer(config.trainer)
        # Which transitions the model in use was made from, and which have had their say on whether the world has changed.
        self._learned_stamps = self._judged_stamps = np.empty(0, dtype=np.int64)

    @property
    def learned_stamps(self) -> np.ndarray:
        """Which transitions the model in use was made from, int64."""
        return self._learned_stamps.copy()

    @property
    def judged_stamps(self) -> np.ndarray:
        """Which transitions have had their say on whether the world has changed, int64."""
        return self._judged_stamps.copy()

    def resume(self, snapshot: ModelSnapshot, learned_stamps: np.ndarray | None = None,
               judged_stamps: np.ndarray | None = None, drift: DriftState | None = None) -> None:
        """Go on from a model of an earlier run.

        Args:
            snapshot: The model.
            learned_stamps: Which transitions it was made from, where they will be trained on again.
            judged_stamps: Which have had their say on a change; those by default.
            drift: What was known of changes, likewise.

        Raises:
            ModelMismatchError: It is for another robot, task, layout, period or reward.
        """
        snapshot.check_fits(**self._layout)
        self.current = snapshot
        if learned_stamps is not None:
            self._learned_stamps = self._judged_stamps = np.array(learned_stamps, dtype=np.int64)
        if judged_stamps is not None:
            self._judged_stamps = np.array(judged_stamps, dtype=np.int64)
        self.drift = drift or DriftState()

    def round(self, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, stamps_ns: np.ndarray, *, episode: int,
              round_index: int, stamp_ns: int, real_steps: int | None = None,
              is_cancelled: Callable[[], bool] = bool) -> TrainingReport:
        """Train on all transitions; afterwards `current` is the candidate, if it was accepted.

        Args:
            obs: Shape (N, O), as observed, oldest first.
            action: Shape (N, A), likewise not in the frame.
            next_obs: Shape (N, O).
            stamps_ns: Identify the transitions over all rounds, shape (N,).
            episode: Newest episode that is wholly in the data; -1 when none is.
            round_index: Together with the seed decides the round's randomness.
            stamp_ns: Time of the round, for report and model.
            real_steps: Control steps that the arm has made, for the model; N where nothing was left out of the data.
            is_cancelled: Asked now and then.

        Returns:
            The report, with a duration of 0; whoever has a clock fills it in.

        Raises:
            TrainingCancelled: `is_cancelled` said so.
        """
        newest = slice(-self.config.max_transitions, None)
        rows, keys = [values[newest] for values in (obs, action, next_obs)], stamps_ns[newest]
        data = framed_transitions(self._frame, *rows)
        report = TrainingReport(stamp_ns=stamp_ns, trained_episode=episode, model_version=self._version, accepted=False,
                                reason='', num_transitions=len(keys), holdout_rmse=_NO_FIGURE, holdout_nll=_NO_FIGURE,
                                duration_s=0.0)
        if len(keys) < self._fewest:
            return dataclasses.replace(report, reason=f'no round: {len(keys)} transitions, training needs {self._fewest}')
        trainer, seed = self.config.trainer, (self._seed * _SEED_STRIDE + round_index) % _SEED_BOUND
        holdout = holdout_mask(keys, trainer.holdout_fraction, trainer.min_holdout)
        try:
            changed, drift = self._changed(data, keys, holdout)
            number = round(self.config.imagined_share * len(keys))
            extra = _joined(imagined_transitions(self._frame, *rows, number=number, seed=seed),
                            self._recent(data, keys, holdout, drift))
            result = self._trainer.fit(*data, seed=seed, keys=keys, initial=self.current.parameters if self.current else None,
                                       extra=extra, is_cancelled=is_cancelled)
        except ModelError as error:
            return dataclasses.replace(report, reason=f'no round: {error}')
        # Not before: what is new in a round that came to nothing is new in the next one too.
        self.drift = drift
        if (~np.isin(keys, self._judged_stamps)).sum() >= _FEWEST_NEW:  # Too few wait for more.
            self._judged_stamps = keys.copy()
        return self._judge(result, data, keys, changed, report, len(obs) if real_steps is None else real_steps)

    @property
    def _fewest(self) -> int:
        """Fewest transitions that a round is worth its time with."""
        config = self.config
        of_model = config.min_share * self.current.card.num_transitions if self.current else 0.0
        return max(config.min_transitions, min(round(of_model), config.max_transitions))

    @property
    def _version(self) -> int:
        return self.current.version if self.current else 0

    def _judge(self, result: TrainingResult, data: Sequence[np.ndarray], keys: np.ndarray, changed: str,
               report: TrainingReport, real_steps: int) -> TrainingReport:
        candidate = Predictor(result.parameters)
        scale, rows = result.parameters.outputs.std.numpy(), result.holdout
        since = rows & ~np.isin(keys, self._learned_stamps)
        if changed and since.any():
            rows = since  # Of a changed arm, only what it has done since says how good a model is.
        ours = _validate(candidate, data, rows, scale)
        theirs = _validate(self.current, data, rows, scale) if self.current else None
        decision = decide(ours, theirs, self.config.acceptance, changed=changed)
        if decision.accepted:
            card = ModelCard(**self._layout, version=self._version + 1, num_transitions=report.num_transitions,
                             trained_episode=report.trained_episode, holdout_rmse=ours.rmse, holdout_nll=ours.nll,
                             created_ns=report.stamp_ns, real_steps=real_steps)
            self.current = ModelSnapshot(card, result.parameters)
            self._learned_stamps = keys.copy()
        in_use = ours if decision.accepted or theirs is None else theirs
        return dataclasses.replace(report, model_version=self._version, accepted=decision.accepted, reason=decision.reason,
                                   holdout_rmse=in_use.rmse, holdout_nll=in_use.nll, changed=bool(changed))

    def _changed(self, data: Sequence[np.ndarray], keys: np.ndarray, holdout: np.ndarray) -> tuple[str, DriftState]:
        """What has changed since the model in use was made, if anything has, and what is known of changes with that."""
        new, own = ~np.isin(keys, self._judged_stamps), holdout & np.isin(keys, self._learned_stamps)
        if self.current is None or new.sum() < _FEWEST_NEW or not own.any():
            return '', self.drift
        scale, since_ns = self.current.parameters.outputs.std.numpy(), int(keys[new].min())
        recent, before = (_validate(self.current, data, rows, scale) for rows in (new, own))
        if self.current.card.num_transitions < self.config.drift.min_transitions:
            return describe_change(recent, before, self.config.acceptance), self.drift
        drift, has_drifted = follow(self.drift, self.config.drift, recent=recent.surprise, before=before.surprise,
                                     stamp_ns=since_ns)
        said = (f'the world has drifted: the model in use has been more surprised by what is new than by what was before, '
                f'lately by {recent.surprise:.2f} against {before.surprise:.2f}')
        return said if has_drifted else '', drift

    def _recent(self, data: Sequence[np.ndarray], keys: np.ndarray, holdout: np.ndarray,
                drift: DriftState) -> list[np.ndarray] | None:
        """Repetitions of what came since the last change, so many that it has its share in a round; None where it has."""
        share, since = self.config.drift.recent_share, (keys >= drift.changed_ns) & ~holdout
        if drift.changed_ns == NEVER_NS or not since.any():
            return None
        wanted = share / (1.0 - share) * (~since & ~holdout).sum()
        repeats = round(wanted / since.sum()) - 1
        return [np.tile(values[since], (repeats, 1)) for values in data] if repeats > 0 else None


def _validate(model: DynamicsModel, data: Sequence[np.ndarray], rows: np.ndarray, scale: np.ndarray) -> Validation:
    return validate(model, *(values[rows] for values in data), scale)


def _joined(*parts: Sequence[np.ndarray] | None) -> list[np.ndarray] | None:
    """Transitions of several origins as one; None where there are none."""
    some = [part for part in parts if part is not None]
    return [np.concatenate(columns) for columns in zip(*some)] if some else None
