"""A planner of a few steps, with the value of learned critics at their end and a learned policy to improve on.

POLO (Lowrey et al. 2019, arXiv:1811.01848) gives short plans a learned terminal value, and LOOP (Sikchi et al. 2021,
arXiv:2008.10066) starts them from a learned policy. The learner is that of MBPO. Where the critics do not know what comes after
the plan, the agent plans as PETS does, further ahead and without a value.
"""

import copy
import dataclasses
import time
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.agent import Decision, Follows
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.ensemble import ensemble_of
from mbrl_ros.agents.kind import AgentKind, of_learner
from mbrl_ros.agents.mbpo import MbpoLearner, MbpoLearnerConfig
from mbrl_ros.agents.pets import PetsActingConfig, PetsAgent
from mbrl_ros.agents.policy_agent import PolicyActingConfig, explored, goal_tensor
from mbrl_ros.config import section, setting
from mbrl_ros.models.actor_critic.learning import LearnedPolicy, LearnedValue
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.framed import out_of_frame
from mbrl_ros.planning.planner import Objective, PlannerConfig
from mbrl_ros.planning.value_expansion import ExpansionConfig, ValueExpansion
from mbrl_ros.spaces.frame import inner_sizes
from mbrl_ros.spaces.space import Space
from mbrl_ros.spaces.view import View, view_of
from mbrl_ros.types import GOAL_SIZE, DynamicsModel

_WARM_UPS = 3


@dataclasses.dataclass(frozen=True)
class PetsValueActingConfig(PolicyActingConfig):
    """How the agent acts."""

    expansion: ExpansionConfig = section(ExpansionConfig, 'Plans with the value of the critics.')
    most_doubt: float = setting(4.0, 'Disagreement of the critics after a plan, in units of that about nearly all real steps, '
                                     'from which the value counts as unknown.', low=0.0, high=1e6)
    planner: PlannerConfig = section(PlannerConfig, 'Plans where the value is unknown.')
    network: EnsembleConfig = of_learner(EnsembleConfig, 'trainer.ensemble',
                                         'Sizes of the networks to get ready for, before the first of them comes.')

    def evaluated(self) -> 'PetsValueActingConfig':
        """The same settings without exploration."""
        return dataclasses.replace(super().evaluated(), planner=self.planner.without_exploring())


@dataclasses.dataclass(frozen=True)
class PetsValueLearnerConfig(MbpoLearnerConfig):
    """How ensemble, policy and critics are trained."""


@dataclasses.dataclass(frozen=True)
class _Guide:
    """Policy and critics for one goal, shape (1, 3); implements `planning.value_expansion.Guide`."""

    view: View
    policy: LearnedPolicy
    critics: LearnedValue
    goal: torch.Tensor

    @property
    def discount(self) -> float:
        """See `Guide.discount`."""
        return self.critics.discount

    def action(self, obs: torch.Tensor) -> torch.Tensor:
        """See `Guide.action`."""
        return self.view.action(obs, self.policy(self._features(obs)))

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """See `Guide.value`."""
        features = self._features(obs)
        return self.critics(features, self.policy(features))

    def _features(self, obs: torch.Tensor) -> torch.Tensor:
        return self.view.features(obs, self.goal.expand(len(obs), -1))


@dataclasses.dataclass(frozen=True)
class _Memory:
    """What changes while the agent acts: both planners, and the source of exploration."""

    expansion: ValueExpansion
    planning: Any
    exploring: np.random.Generator


class PetsValueAgent:
    """Improves on a policy by planning a few steps; implements `Agent`. Arguments are those of `AgentMaker`.

    Its uncertainty is that of the plan, as for PETS.
    """

    def __init__(self, contract: Contract, space: Space, config: PetsValueActingConfig, *,
                 max_action_change: np.ndarray | None = None, is_repeatable: bool = True) -> None:
        self._contract, self._space, self._config = contract, space, config
        self._view = view_of(space, contract.obs_size)
        self._planning = PetsAgent(contract, space, PetsActingConfig(planner=config.planner, network=config.network),
                                   max_action_change=max_action_change, is_repeatable=is_repeatable)
        self._expansion = ValueExpansion(config.expansion, max_action_change)
        self._model: DynamicsModel | None = None
        self._policy: LearnedPolicy | None = None
        self._critics: LearnedValue | None = None

    @property
    def version(self) -> int:
        """See `Agent.version`."""
        return self._planning.version

    @property
    def is_ready(self) -> bool:
        """See `Agent.is_ready`."""
        return self._planning.is_ready

    def with_bundle(self, bundle: AgentBundle) -> 'PetsValueAgent':
        """See `Agent.with_bundle`."""
        bundle.card.check_view(self._view)
        agent, sizes = copy.copy(self), (self._view.num_features, self._contract.action_size)
        agent._planning = self._planning.with_bundle(bundle)
        agent._policy = LearnedPolicy.from_groups(bundle.groups, *sizes)
        agent._critics = LearnedValue.from_groups(bundle.groups, *sizes)
        agent._use(ensemble_of(bundle))
        return agent

    def _use(self, ensemble: DynamicsParameters) -> None:
        self._model = out_of_frame(self._space.frame, Predictor(ensemble), self._contract.action_size)

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        line = self._planning.prepare(obs, objective)
        agent, sizes = copy.copy(self), (self._view.num_features, self._contract.action_size)
        agent._policy, agent._critics = LearnedPolicy.stand_in(*sizes), LearnedValue.stand_in(*sizes)
        inner = inner_sizes(self._space.frame, self._contract.obs_size, self._contract.action_size)
        agent._use(stand_in(*inner, self._config.network))
        guide = _Guide(agent._view, agent._policy, agent._critics, goal_tensor(np.zeros(GOAL_SIZE)))
        for _ in range(_WARM_UPS):
            agent._expansion.plan(agent._model, guide, obs, objective, np.zeros(self._contract.action_size))
        return f'{line}, and a few steps from a policy on the CPU'

    def reset(self, seed: int) -> _Memory:
        """See `Agent.reset`."""
        self._expansion.reset(seed)
        return _Memory(self._expansion, self._planning.reset(seed), np.random.default_rng(seed))

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> np.ndarray:
        """See `Agent.predict`."""
        return self._planning.predict(obs, previous_action, latency_s)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, goal: np.ndarray | None, memory: _Memory, *, objective: Objective,
            previous_action: np.ndarray, deadline_s: float | None = None) -> Decision:
        """See `Agent.act`; the rewards on the way follow new weights at once, the value after them does not."""
        begin_s = time.perf_counter()
        guide = _Guide(self._view, self._policy, self._critics, goal_tensor(goal))
        plan = memory.expansion.plan(self._model, guide, obs, objective, previous_action, deadline_s)
        after = torch.as_tensor(plan.mean_obs[-1:], dtype=torch.float32)
        if float(self._critics.doubt(guide.value(after))) > self._config.most_doubt:
            left_s = None if deadline_s is None else deadline_s - (time.perf_counter() - begin_s)
            found = self._planning.act(obs, goal, memory.planning, objective=objective, previous_action=previous_action,
                                       deadline_s=left_s)
            return dataclasses.replace(found, elapsed_s=time.perf_counter() - begin_s,
                                       note='the critics do not know what comes after a plan; planned further ahead without')
        seen = torch.as_tensor(obs, dtype=torch.float32)[None]
        inner = self._view.seen(seen, torch.as_tensor(plan.actions[:1], dtype=torch.float32))
        action = self._view.action(seen, explored(inner, self._config.exploration, memory.exploring))
        return Decision(action[0].double().numpy(), time.perf_counter() - begin_s, plan.value, plan.disagreement, plan)


KIND = AgentKind('plans of a few steps from a learned policy, with the value of its critics', PetsValueActingConfig,
                 PetsValueLearnerConfig, PetsValueAgent, MbpoLearner, follows=Follows.RETRAINED)
