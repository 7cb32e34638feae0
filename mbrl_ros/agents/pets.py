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

from mbrl_ros.agents.agent import Decision, Follows, LearningReport, Lesson, Surprise
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.ensemble import EnsembleLearner, EnsembleLearnerConfig, ensemble_of, largest_of
from mbrl_ros.agents.kind import ActingConfig, AgentKind, of_learner
from mbrl_ros.config import section
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.delay import predict_effect_state
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.precision import PrecisionChooser, stand_in
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.framed import out_of_frame
from mbrl_ros.models.imitation import ImitationConfig, Policy, imitate
from mbrl_ros.models.origin import Origin, from_origin, to_absolute
from mbrl_ros.planning.objectives import AbsoluteObjective, BoundedObjective
from mbrl_ros.planning.planner import Objective, Planner, PlannerConfig
from mbrl_ros.planning.policy_rollouts import PolicyRollouts, PolicyRolloutsConfig
from mbrl_ros.planning.sampling import make_planner
from mbrl_ros.spaces.frame import inner_sizes
from mbrl_ros.spaces.space import Space
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.types import DynamicsModel, Tag

#: Group of a bundle with the policy, if demonstrations are imitated.
_POLICY = 'policy'


@dataclasses.dataclass(frozen=True)
class PetsLearnerConfig(EnsembleLearnerConfig):
    """How the ensemble is trained and accepted, and how demonstrations are imitated."""

    imitation: ImitationConfig = section(ImitationConfig, 'The policy that imitates demonstrations.')


@dataclasses.dataclass(frozen=True)
class PetsActingConfig(ActingConfig):
    """How PETS acts."""

    planner: PlannerConfig = section(PlannerConfig, 'The planner.')
    policy_rollouts: PolicyRolloutsConfig = section(PolicyRolloutsConfig, 'Plans where demonstrations are imitated.')
    network: EnsembleConfig = of_learner(EnsembleConfig, 'trainer.ensemble',
                                         'Sizes of the networks to get ready for, before the first of them comes.')

    def evaluated(self) -> 'PetsActingConfig':
        """The same settings without the bonus for disagreement."""
        return dataclasses.replace(self, planner=self.planner.without_exploring())

    @classmethod
    def on_device(cls, device: str) -> dict[str, Any]:
        """See `ActingConfig.on_device`."""
        return {} if device == 'auto' else {'planner': {'device': device}}


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
        agent._policy, agent._largest = _policy(bundle, self.device), largest_of(bundle.groups, self._contract.obs_names)
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
    """Fits the ensemble, and imitates demonstrations where that is wanted; implements `Learner`.

    Arguments are those of `AgentKind.make_learner`.
    """

    def __init__(self, contract: Contract, space: Space, config: PetsLearnerConfig, wanted: GoalReward | None = None) -> None:
        self._config, self._relations = config.imitation, getattr(space, 'relations', None)
        self._ensemble = EnsembleLearner(contract, space, config)
        self._policy: Policy | None = None

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        self._ensemble.resume(bundle)
        self._policy = _policy(bundle)

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`."""
        return self._ensemble.held_out(transitions)

    def surprise(self, transitions: Transitions) -> Surprise | None:
        """See `Learner.surprise`."""
        return self._ensemble.surprise(transitions)

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        report = self._ensemble.update(lesson, is_cancelled)
        policy = self._imitated(lesson, report.origin, is_cancelled)
        return report if policy is None else dataclasses.replace(report, groups={**report.groups, _POLICY: policy.tensors()})

    def _imitated(self, lesson: Lesson, origin: Origin, is_cancelled: Callable[[], bool]) -> Policy | None:
        """Policy that imitates demonstrated steps: a new one where there are more of them than the one in use knows.

        It goes with its candidate, and a rejected one takes it along. The next round then imitates again: a policy that only the
        learner kept would be missing in a resumed run.
        """
        if not self._config.max_steps:
            return None
        shown = lesson.transitions.take(lesson.transitions.tags & (Tag.DEMONSTRATED | Tag.HELD) == Tag.DEMONSTRATED)
        if len(shown) <= (self._policy.num_steps if self._policy else 0):
            return self._policy
        return imitate(from_origin(shown.obs, origin), shown.action, self._config, relations=self._relations, origin=origin,
                       seed=lesson.seed, is_cancelled=is_cancelled)


def _policy(bundle: AgentBundle, device: torch.device | str = 'cpu') -> Policy | None:
    """The policy in a bundle, None without one; raises BundleError if its tensors are none."""
    if _POLICY not in bundle.groups:
        return None
    contract = bundle.card.contract
    return Policy.from_tensors(bundle.group(_POLICY), contract.obs_size, contract.action_size, device)


KIND = AgentKind('probabilistic ensemble, planned with by trajectory sampling', PetsActingConfig, PetsLearnerConfig, PetsAgent,
                 PetsLearner, follows=Follows.AT_ONCE)
