"""PETS: probabilistic ensembles with trajectory sampling (Chua et al. 2018, arXiv:1805.12114).

The learner fits an ensemble of networks, each with its own bootstrap, which predict a normal distribution of the next
observation. The agent replans every control step: an optimiser proposes action sequences, particles propagate them through
members of the ensemble, and the agent takes the first action of the best sequence.

Note:
    The default optimiser is iCEM (Pinneri et al. 2020) instead of CEM, the ensemble has a linear part beside the networks, and
    the dynamics are learned in the frame of the space, if it has one. Where demonstrations are imitated, the agent takes the best
    of the imitating policy's rollouts instead of searching; see `planning.policy_rollouts`.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.agent import ActingConfig, AgentConfig, AgentKind, Decision, Follows, LearningReport, Lesson, Surprise
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import BundleError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.delay import predict_effect_state
from mbrl_ros.models.ensemble.acceptance import AcceptanceConfig, decide
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.metrics import Validation, constant_error, validate
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.precision import PrecisionChooser, stand_in
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.ensemble.split import episode_holdout_mask, holdout_mask
from mbrl_ros.models.ensemble.trainer import EnsembleTrainer, TrainerConfig, typical_change
from mbrl_ros.models.extrapolation import never_back
from mbrl_ros.models.framed import out_of_frame
from mbrl_ros.models.imitation import ImitationConfig, Policy, imitate
from mbrl_ros.models.origin import Origin, from_origin, lost_in_float32, origin_of, to_absolute
from mbrl_ros.planning.objectives import AbsoluteObjective, BoundedObjective
from mbrl_ros.planning.planner import Objective, Planner, PlannerConfig
from mbrl_ros.planning.policy_rollouts import PolicyRollouts, PolicyRolloutsConfig
from mbrl_ros.planning.sampling import make_planner
from mbrl_ros.spaces.frame import framed_transitions, imagined_transitions, inner_sizes
from mbrl_ros.spaces.space import Space
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.training.rounds import RoundsConfig
from mbrl_ros.types import DynamicsModel, Tag

#: Groups of a bundle: the ensemble's tensors, those of the policy if demonstrations are imitated, and by the names of bounded
#: entries of an observation, if there are any, their largest experienced values.
ENSEMBLE, _POLICY, _LARGEST = 'model', 'policy', 'largest'


@dataclasses.dataclass(frozen=True)
class PetsLearnerConfig(RoundsConfig):
    """How the ensemble is trained and accepted."""

    imagined_share: float = setting(0.0, 'Transitions imagined in each round, of parts of the scene that do not touch, as a '
                                         'share of the real ones; where a frame can tell.', low=0.0, high=10.0)
    trainer: TrainerConfig = section(TrainerConfig, 'One round.')
    acceptance: AcceptanceConfig = section(AcceptanceConfig, 'Which model is kept.')
    imitation: ImitationConfig = section(ImitationConfig, 'The policy that imitates demonstrations.')


@dataclasses.dataclass(frozen=True)
class PetsActingConfig(ActingConfig):
    """How PETS acts."""

    planner: PlannerConfig = section(PlannerConfig, 'The planner.')
    policy_rollouts: PolicyRolloutsConfig = section(PolicyRolloutsConfig, 'Plans where demonstrations are imitated.')
    network: EnsembleConfig = section(EnsembleConfig, 'Sizes of the networks to get ready for, before the first of them comes.')

    @classmethod
    def on_device(cls, device: str) -> dict[str, Any]:
        """See `ActingConfig.on_device`."""
        return {} if device == 'auto' else {'planner': {'device': device}}


@dataclasses.dataclass(frozen=True)
class PetsLearningConfig(Config):
    """How PETS learns."""

    learner: PetsLearnerConfig = section(PetsLearnerConfig, 'How to train and which model to keep.')


@dataclasses.dataclass(frozen=True)
class PetsConfig(AgentConfig, PetsLearningConfig):
    """How PETS acts and learns."""

    planner: PlannerConfig = section(PlannerConfig, 'The planner.')
    policy_rollouts: PolicyRolloutsConfig = section(PolicyRolloutsConfig, 'Plans where demonstrations are imitated.')

    def acting(self) -> PetsActingConfig:
        """How to plan, and the networks that the learner trains."""
        return PetsActingConfig(planner=self.planner, policy_rollouts=self.policy_rollouts, network=self.learner.trainer.ensemble)

    def evaluated(self) -> 'PetsConfig':
        """The same settings without the bonus for disagreement."""
        return dataclasses.replace(self, planner=self.planner.without_exploring())


@dataclasses.dataclass(frozen=True)
class _Memory:
    """What changes while an agent acts: the planner, with its warm start and generator, and the generator of rollouts."""

    planner: Planner
    rollouts: PolicyRollouts


class PetsAgent:
    """Plans every control step; implements `Agent`.

    Arguments are those of `AgentMaker`. If the agent has to be repeatable, the precision `auto` means float32; otherwise it means
    the fastest one measured, which may differ between runs.

    Raises:
        ConfigError: This machine lacks the device or the precision.

    Attributes:
        device: Where the agent plans.
        precision: Precision of the model's predictions.
    """

    def __init__(self, contract: Contract, space: Space, config: PetsActingConfig, *,
                 max_action_change: np.ndarray | None = None, is_repeatable: bool = True) -> None:
        self.version, self.is_ready, self.precision = 0, False, ''
        self._contract, self._space, self._network = contract, space, config.network
        self._planner = make_planner(config.planner, contract.action_size, max_action_change, space.is_directed)
        precision = 'float32' if is_repeatable and config.planner.precision == 'auto' else config.planner.precision
        rows = config.planner.population_size * config.planner.num_particles
        self._precision = PrecisionChooser(precision, self._planner.device, rows, config.planner.horizon, space.frame)
        self.device = self._planner.device
        self._rollouts = PolicyRollouts(config.policy_rollouts, self.device, max_action_change)
        self._model: DynamicsModel | None = None
        self._policy: Policy | None = None
        self._origin: Origin = ()
        self._largest: tuple[float, ...] = ()

    def with_bundle(self, bundle: AgentBundle) -> 'PetsAgent':
        """See `Agent.with_bundle`."""
        bundle.card.check_fits(self._contract)
        agent = self.with_parameters(ensemble_of(bundle), bundle.version, bundle.card.origin)
        agent._policy, agent._largest = _policy(bundle, self.device), _largest(bundle)
        return agent

    def with_parameters(self, parameters: DynamicsParameters, version: int = 0, origin: Origin = ()) -> 'PetsAgent':
        """Copy of the agent with an ensemble of observations seen from an origin; raises ConfigError like `with_bundle`."""
        self._check_memory(parameters.shape)
        agent = copy.copy(self)
        agent.version, agent.is_ready, agent.precision = version, True, self._precision.choose(parameters).precision
        agent._origin, agent._policy, agent._largest = origin, None, ()
        agent._model = out_of_frame(self._space.frame, Predictor(parameters, self.device, agent.precision),
                                    self._contract.action_size)
        return agent

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        self._check_memory(self._network)
        sizes = inner_sizes(self._space.frame, self._contract.obs_size, self._contract.action_size)
        parameters = stand_in(*sizes, self._network)
        choice = self._precision.choose(parameters)
        self._planner.prepare(self.with_parameters(parameters)._model, obs, objective)
        return f'planning on {self.device} in {choice}'

    def reset(self, seed: int) -> _Memory:
        """See `Agent.reset`."""
        self._planner.reset(seed)
        self._rollouts.reset(seed)
        return _Memory(self._planner, self._rollouts)

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> np.ndarray:
        """See `Agent.predict`."""
        effect = predict_effect_state(self._model, from_origin(obs, self._origin), previous_action, latency_s,
                                      self._contract.period_s)
        return to_absolute(effect, self._origin)

    def act(self, obs: np.ndarray, goal: np.ndarray | None, memory: _Memory, *, objective: Objective,
            previous_action: np.ndarray, deadline_s: float | None = None) -> Decision:
        """See `Agent.act`."""
        if self._origin:
            objective = AbsoluteObjective(objective, self._origin, self.device)
        if self._largest:
            objective = BoundedObjective(objective, self._largest, self.device)
        seen = from_origin(obs, self._origin)
        if self._policy is not None:
            plan = memory.rollouts.plan(self._model, self._policy, seen, objective, previous_action, deadline_s)
        else:
            plan = memory.planner.plan(self._model, seen, objective, previous_action=previous_action,
                                       directions=self._space.directions(obs), deadline_s=deadline_s)
        plan = dataclasses.replace(plan, mean_obs=to_absolute(plan.mean_obs, self._origin))
        return Decision(np.asarray(plan.actions[0], dtype=np.float64), plan.elapsed_s, plan.value, plan.disagreement, plan)

    def _check_memory(self, network: EnsembleConfig) -> None:
        self._planner.check_memory(self._contract.obs_size, network.ensemble_size, network.hidden_units)


class PetsLearner:
    """Fits the ensemble in the frame of the space; implements `Learner`. Arguments are those of `AgentKind.make_learner`."""

    def __init__(self, contract: Contract, space: Space, config: PetsLearnerConfig, wanted: GoalReward | None = None) -> None:
        self._frame, self._config = space.frame, config
        self._period_ns = round(1e9 * contract.period_s)
        self._trainer = EnsembleTrainer(config.trainer)
        self._may_have_origin = space.frame is None or space.frame.is_shiftable
        self._entries, self._relations = contract.obs_names, getattr(space, 'relations', None)
        self._bounded = getattr(space, 'bounded_names', ())
        self._parameters: DynamicsParameters | None = None
        self._policy: Policy | None = None
        self._origin: Origin = ()

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        self._parameters, self._policy, self._origin = ensemble_of(bundle), _policy(bundle), bundle.card.origin

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
        if policy := self._imitated(lesson, origin, is_cancelled):
            groups[_POLICY] = policy.tensors()
        if self._bounded:
            # No frame changes these entries.
            groups[_LARGEST] = {name: torch.tensor([reached[:, self._entries.index(name)].max()]) for name in self._bounded}
        return LearningReport(groups, is_better, reason, _figures(candidate), _figures(in_use) if in_use else {}, origin,
                              warnings)

    def _imitated(self, lesson: Lesson, origin: Origin, is_cancelled: Callable[[], bool]) -> Policy | None:
        """Policy that imitates demonstrated steps: a new one where there are more of them than the one in use knows.

        It goes with its candidate, and a rejected one takes it along. The next round then imitates again: a policy that only the
        learner kept would be missing in a resumed run.
        """
        config = self._config.imitation
        if not config.max_steps:
            return None
        shown = lesson.transitions.take(lesson.transitions.tags & (Tag.DEMONSTRATED | Tag.HELD) == Tag.DEMONSTRATED)
        if len(shown) <= (self._policy.num_steps if self._policy else 0):
            return self._policy
        return imitate(from_origin(shown.obs, origin), shown.action, config, relations=self._relations, origin=origin,
                       seed=lesson.seed, is_cancelled=is_cancelled)


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


def _policy(bundle: AgentBundle, device: torch.device | str = 'cpu') -> Policy | None:
    """The policy in a bundle, None without one; raises BundleError if its tensors are none."""
    if _POLICY not in bundle.groups:
        return None
    contract = bundle.card.contract
    return Policy.from_tensors(bundle.group(_POLICY), contract.obs_size, contract.action_size, device)


def _largest(bundle: AgentBundle) -> tuple[float, ...]:
    """Largest value of each entry of an observation that a plan may count on; empty if none is bounded.

    Raises:
        BundleError: The bundle bounds an entry that there is not, or by something else than a number.
    """
    if _LARGEST not in bundle.groups:
        return ()
    names, bounds = bundle.card.contract.obs_names, bundle.group(_LARGEST)
    for name, bound in bounds.items():
        if name not in names or bound.shape != (1,) or bound.isnan():
            raise BundleError(f'model bounds {name!r} by {bound.tolist()}, where an entry of the observation and one number fit')
    return tuple(float(bounds[name]) if name in bounds else float('inf') for name in names)


def _figures(validation: Validation) -> dict[str, float]:
    return {'holdout_rmse': validation.rmse, 'holdout_nll': validation.nll}


KIND = AgentKind('probabilistic ensemble, planned with by trajectory sampling', PetsActingConfig, PetsLearningConfig,
                 PetsConfig, PetsAgent, PetsLearner, follows=Follows.AT_ONCE)
