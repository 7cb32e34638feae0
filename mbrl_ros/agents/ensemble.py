"""The ensemble of dynamics models that several agents learn: how it is fitted, judged and kept in a bundle.

Probabilistic ensembles as in PETS (Chua et al. 2018, arXiv:1805.12114): each network has its own bootstrap and predicts a normal
distribution of the next observation. Here it has a linear part beside the networks, and learns in the frame of the space.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch

from mbrl_ros.agents.agent import LearningReport, Lesson, Surprise
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.config import section, setting
from mbrl_ros.errors import BundleError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.ensemble.acceptance import AcceptanceConfig, decide
from mbrl_ros.models.ensemble.metrics import Validation, constant_error, validate
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.ensemble.split import episode_holdout_mask, holdout_mask
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig, typical_change
from mbrl_ros.models.extrapolation import never_back
from mbrl_ros.models.origin import Origin, from_origin, lost_in_float32, origin_of
from mbrl_ros.spaces.frame import framed_transitions, imagined_transitions
from mbrl_ros.spaces.space import Space
from mbrl_ros.training.rounds import RoundsConfig

#: Groups of a bundle: the ensemble's tensors, and by the names of bounded entries of an observation, if there are any, their
#: largest experienced values.
ENSEMBLE, LARGEST = 'model', 'largest'


@dataclasses.dataclass(frozen=True)
class EnsembleLearnerConfig(RoundsConfig):
    """How the ensemble is trained and accepted."""

    imagined_share: float = setting(0.0, 'Transitions imagined in each round, of parts of the scene that do not touch, as a '
                                         'share of the real ones; where a frame can tell.', low=0.0, high=10.0)
    trainer: TrainerConfig = section(TrainerConfig, 'One round.')
    acceptance: AcceptanceConfig = section(AcceptanceConfig, 'Which model is kept.')


class EnsembleLearner:
    """Fits the ensemble in the frame of the space; implements `Learner`.

    Args:
        contract: What the agent is for.
        space: The agent's observations and actions.
        config: Settings.
    """

    def __init__(self, contract: Contract, space: Space, config: EnsembleLearnerConfig) -> None:
        self._frame, self._config = space.frame, config
        self._period_ns = round(1e9 * contract.period_s)
        self._trainer = EnsembleTrainer(config.trainer)
        self._may_have_origin = space.frame is None or space.frame.is_shiftable
        self._entries = contract.obs_names
        self._bounded = getattr(space, 'bounded_names', ())
        self._parameters: DynamicsParameters | None = None
        self._origin: Origin = ()

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        self._parameters, self._origin = ensemble_of(bundle), bundle.card.origin

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`."""
        trainer, stamps_ns = self._config.trainer, transitions.stamp_ns
        shares = trainer.holdout_fraction, trainer.min_holdout
        if trainer.holdout_by == 'transition':
            return holdout_mask(stamps_ns, *shares)
        return episode_holdout_mask(stamps_ns, transitions.episode, self._period_ns, *shares)

    def surprise(self, transitions: Transitions) -> Surprise | None:
        """See `Learner.surprise`."""
        if self._parameters is None:
            return None
        seen = framed_transitions(self._frame, *_dynamics(transitions, self._origin))
        found = validate(Predictor(self._parameters), *seen, self._parameters.outputs.std.numpy())
        return Surprise(found.surprise, found.typical_error, found.num_transitions)

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        # Models that are compared have one origin, so that of the first one stays.
        is_first = self._parameters is None and self._may_have_origin
        origin = origin_of(lesson.transitions.obs) if is_first else self._origin
        rows = _dynamics(lesson.transitions, origin)
        data = framed_transitions(self._frame, *rows)
        number = round(self._config.imagined_share * len(data[0]))
        imagined = imagined_transitions(self._frame, *rows, number=number, seed=lesson.seed)
        extras = [imagined] if imagined else []
        seen, _, reached = (np.concatenate(columns) for columns in zip(data, *extras))
        if lesson.repeats:
            extras.append([np.tile(values[lesson.recent], (lesson.repeats, 1)) for values in data])
        extra = [np.concatenate(columns) for columns in zip(*extras)] or None
        result = self._trainer.fit(*data, seed=lesson.seed, keys=lesson.transitions.stamp_ns, holdout=lesson.held_out,
                                   initial=self._parameters, extra=extra, is_cancelled=is_cancelled)
        # Held-out and imagined transitions count too, so that an entry that moved in those alone is not measured in units of its
        # standing.
        judged, scale = [values[lesson.judged_on] for values in data], typical_change(seen, reached)
        candidate = validate(Predictor(result.parameters), *judged, scale)
        in_use = validate(Predictor(self._parameters), *judged, scale) if self._parameters else None
        constant = constant_error(judged[0], judged[2], result.parameters.outputs.mean.numpy(), scale)
        is_better, reason = decide(candidate, in_use, constant, self._config.acceptance)
        warnings = never_back(lesson.transitions.obs, lesson.transitions.episode, self._entries)
        if self._may_have_origin:
            warnings += lost_in_float32(rows[0], rows[2], origin, self._entries)
        groups = {ENSEMBLE: result.parameters.tensors()}
        if self._bounded:
            # No frame changes these entries.
            groups[LARGEST] = {name: torch.tensor([reached[:, self._entries.index(name)].max()]) for name in self._bounded}
        return LearningReport(groups, is_better, reason, _figures(candidate), _figures(in_use) if in_use else {}, origin,
                              warnings)


def _dynamics(transitions: Transitions, origin: Origin) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    obs, action, next_obs = transitions.dynamics
    return from_origin(obs, origin), action, from_origin(next_obs, origin)


def ensemble_of(bundle: AgentBundle) -> DynamicsParameters:
    """The ensemble in a bundle.

    Raises:
        BundleError: The tensors are no ensemble, or its sizes or the card's origin contradict the card.
    """
    parameters, contract = DynamicsParameters.from_tensors(bundle.group(ENSEMBLE)), bundle.card.contract
    _, obs_size, action_size = parameters.sizes
    # A frame may make more features of an action than the action has entries; only the frame could check them.
    if contract.obs_size != obs_size or contract.action_size > action_size:
        raise BundleError(f'model names {len(contract.state_names)} states and {contract.action_size} actions, '
                          f'but its tensors are for {obs_size} observations and {action_size} actions')
    origin = bundle.card.origin
    if len(origin) not in (0, obs_size) or not np.isfinite(origin).all():
        raise BundleError(f'model needs an origin of {obs_size} finite numbers, or none, got {origin}')
    return parameters


def largest_of(groups: Mapping[str, Mapping[str, torch.Tensor]], names: tuple[str, ...]) -> tuple[float, ...]:
    """Largest value of each entry of an observation that a plan may count on; empty if none is bounded.

    Args:
        groups: Groups of a bundle.
        names: Names of the entries.

    Raises:
        BundleError: The bundle bounds an entry that there is not, or by something else than a number.
    """
    bounds = groups.get(LARGEST, {})
    for name, bound in bounds.items():
        if name not in names or bound.shape != (1,) or bound.isnan():
            raise BundleError(f'model bounds {name!r} by {bound.tolist()}, where an entry of the observation and one number fit')
    return tuple(float(bounds[name]) if name in bounds else float('inf') for name in names) if bounds else ()


def _figures(validation: Validation) -> dict[str, float]:
    return {'holdout_rmse': validation.rmse, 'holdout_nll': validation.nll}
