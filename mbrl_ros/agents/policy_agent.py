"""Acting with a learned policy: the common part of the agents that learn one."""

import copy
import dataclasses
import time

import numpy as np
import torch

from mbrl_ros.agents.agent import Decision
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.ensemble import ENSEMBLE, ensemble_of
from mbrl_ros.agents.kind import ActingConfig
from mbrl_ros.config import setting
from mbrl_ros.errors import PlanningError
from mbrl_ros.models.actor_critic.imagination import disagreement
from mbrl_ros.models.actor_critic.learning import LearnedPolicy, LearnedValue
from mbrl_ros.models.actor_critic.soft_actor_critic import CRITICS
from mbrl_ros.models.delay import predict_effect_state
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.framed import out_of_frame
from mbrl_ros.planning.planner import Objective
from mbrl_ros.spaces.space import Space
from mbrl_ros.spaces.view import view_of
from mbrl_ros.types import GOAL_SIZE, DynamicsModel


@dataclasses.dataclass(frozen=True)
class PolicyActingConfig(ActingConfig):
    """How a policy acts."""

    exploration: float = setting(0.1, 'Standard deviation of normal noise on actions; evaluations add none.', low=0.0, high=2.0)

    def evaluated(self) -> 'PolicyActingConfig':
        """The same settings without exploration."""
        return dataclasses.replace(self, exploration=0.0)


class PolicyAgent:
    """Acts with the mean action of a policy; implements `Agent`. Arguments are those of `AgentMaker`.

    It does not limit how fast its action changes; the command guard does. With critics in its bundle it says what return they
    expect, and is uncertain where they disagree. With a model it predicts the state in which its action takes effect, and is
    uncertain where its members disagree about the next step. The larger of the two counts.
    """

    def __init__(self, contract: Contract, space: Space, config: PolicyActingConfig, *,
                 max_action_change: np.ndarray | None = None, is_repeatable: bool = True) -> None:
        self.version, self.is_ready = 0, False
        self._contract, self._space, self._view = contract, space, view_of(space, contract.obs_size)
        self._exploration = config.exploration
        self._policy: LearnedPolicy | None = None
        self._critics: LearnedValue | None = None
        self._model: DynamicsModel | None = None

    def with_bundle(self, bundle: AgentBundle) -> 'PolicyAgent':
        """See `Agent.with_bundle`."""
        bundle.card.check_fits(self._contract)
        bundle.card.check_view(self._view)
        agent, sizes = copy.copy(self), (self._view.num_features, self._contract.action_size)
        agent.version, agent.is_ready = bundle.version, True
        agent._policy = LearnedPolicy.from_groups(bundle.groups, *sizes)
        agent._critics = LearnedValue.from_groups(bundle.groups, *sizes) if CRITICS in bundle.groups else None
        agent._model = None
        if ENSEMBLE in bundle.groups:
            agent._model = out_of_frame(self._space.frame, Predictor(ensemble_of(bundle)), self._contract.action_size)
        return agent

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        stand_in, sizes = copy.copy(self), (self._view.num_features, self._contract.action_size)
        stand_in._policy, stand_in._critics = LearnedPolicy.stand_in(*sizes), LearnedValue.stand_in(*sizes)
        stand_in.act(obs, np.zeros(GOAL_SIZE), stand_in.reset(0), objective=objective,
                     previous_action=np.zeros(self._contract.action_size))
        return 'acting with a policy'

    def reset(self, seed: int) -> np.random.Generator:
        """See `Agent.reset`; the memory is the source of exploration."""
        return np.random.default_rng(seed)

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> np.ndarray | None:
        """See `Agent.predict`."""
        if self._model is None:
            return None
        return predict_effect_state(self._model, obs, previous_action, latency_s, self._contract.period_s)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, goal: np.ndarray | None, memory: np.random.Generator, *, objective: Objective,
            previous_action: np.ndarray, deadline_s: float | None = None) -> Decision:
        """See `Agent.act`; a policy follows the goal, and not the objective's weights."""
        begin_s = time.perf_counter()
        seen = torch.as_tensor(obs, dtype=torch.float32)[None]
        features = self._view.features(seen, goal_tensor(goal))
        inner = explored(self._policy(features), self._exploration, memory)
        action = self._view.action(seen, inner)
        value, doubts = None, []
        if self._critics is not None:
            values = self._critics(features, inner.clamp(-1.0, 1.0))
            value = float(values.amin())
            doubts.append(float(self._critics.doubt(values)))
        if self._model is not None:
            doubts.append(float(disagreement(self._model, seen, action)))
        own = action[0].numpy().astype(np.float64)
        if not np.isfinite(own).all():
            raise PlanningError(f'the policy has no finite action at {np.array2string(obs, precision=3)}')
        return Decision(own, time.perf_counter() - begin_s, value, max(doubts, default=None))


def goal_tensor(goal: np.ndarray | None) -> torch.Tensor:
    """A goal as views take it, shape (1, 3); NaN without one."""
    return torch.full((1, GOAL_SIZE), float('nan')) if goal is None else torch.as_tensor(goal, dtype=torch.float32)[None]


def explored(action: torch.Tensor, std: float, rng: np.random.Generator) -> torch.Tensor:
    """An action, shape (1, A), with normal noise; unchanged, and nothing drawn, without a deviation."""
    return action + std * torch.as_tensor(rng.standard_normal(action.shape), dtype=torch.float32) if std else action
