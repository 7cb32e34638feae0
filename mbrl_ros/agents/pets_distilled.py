"""PETS distilled: a policy that imitates the planner and acts in its place (DAgger; Ross et al. 2011, arXiv:1011.0686).

Each round fits the ensemble of PETS and imagines episodes in it. The planner labels each imagined state with the first action of
its plan. Two episodes begin at each start: one follows the planner, the other the policy so far, which thereby learns what to do
where it errs. The policy regresses on the labels of all rounds. Pan et al. 2018 (arXiv:1709.07174) imitate model-predictive
control; Wang and Ba 2020 (POPLIN, arXiv:1906.08649) distil planning in a learned model.

Note:
    DAgger labels real states; here states are imagined, and no real step is spent. The agent plans like PETS until the policy
    earns as much as the planner in imagined episodes that it has not learned from; `actor` chooses otherwise.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.agent import Agent, Decision, Follows, LearningReport, Lesson, Surprise
from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.agents.ensemble import EnsembleLearner, EnsembleLearnerConfig
from mbrl_ros.agents.kind import AgentKind, of_learner
from mbrl_ros.agents.pets import PetsActingConfig, PetsAgent
from mbrl_ros.agents.policy_agent import PolicyActingConfig, PolicyAgent
from mbrl_ros.config import part, section, setting
from mbrl_ros.errors import BundleError, ModelError, PlanningError, TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.actor_critic.distillation import DistillationConfig, Labels, regressed
from mbrl_ros.models.actor_critic.learning import LearnedPolicy
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.planning.planner import Objective, PlannerConfig
from mbrl_ros.spaces.space import Space
from mbrl_ros.spaces.view import label, view_of
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.types import GOAL_SIZE

#: Groups of a bundle besides those of PETS and of the policy: the labels, and whether the policy acts.
_LABELS, _TRUST = 'labels', 'trust'


@dataclasses.dataclass(frozen=True)
class PetsDistilledLearnerConfig(EnsembleLearnerConfig):
    """How ensemble and policy are trained."""

    teacher: PlannerConfig = section(PlannerConfig, 'The planner that labels.')
    distillation: DistillationConfig = section(DistillationConfig, 'The policy.')

    @property
    def rounds_to_follow(self) -> int:
        """See `RoundsConfig.rounds_to_follow`; the rounds after which no label of before is left."""
        return self.distillation.rounds_of_labels


@dataclasses.dataclass(frozen=True)
class PetsDistilledActingConfig(PolicyActingConfig):
    """How policy and planner act."""

    actor: str = setting('trusted', 'Who acts: the policy while it is trusted and the planner otherwise (trusted), or always '
                                    'one of them.', choices=('trusted', 'policy', 'planner'))
    planner: PlannerConfig = section(PlannerConfig, 'The planner that acts until the policy does.')
    network: EnsembleConfig = of_learner(EnsembleConfig, 'trainer.ensemble',
                                         'Sizes of the networks to get ready for, before the first of them comes.')

    def evaluated(self) -> 'PetsDistilledActingConfig':
        """The same settings without exploration."""
        return dataclasses.replace(super().evaluated(), planner=self.planner.without_exploring())


class PetsDistilledAgent:
    """Asks the policy or plans; implements `Agent`. Arguments are those of `AgentMaker`."""

    def __init__(self, contract: Contract, space: Space, config: PetsDistilledActingConfig, *,
                 max_action_change: np.ndarray | None = None, is_repeatable: bool = True) -> None:
        options = {'max_action_change': max_action_change, 'is_repeatable': is_repeatable}
        self._agents: dict[str, Agent] = {
            'planner': PetsAgent(contract, space, PetsActingConfig(planner=config.planner, network=config.network), **options),
            'policy': PolicyAgent(contract, space, part(config, PolicyActingConfig), **options)}
        self._config, self._actor = config, 'planner'

    version = property(lambda self: self._agents[self._actor].version)
    is_ready = property(lambda self: self._agents[self._actor].is_ready)

    def with_bundle(self, bundle: AgentBundle) -> 'PetsDistilledAgent':
        """See `Agent.with_bundle`."""
        agent = copy.copy(self)
        agent._agents = {name: one.with_bundle(bundle) for name, one in self._agents.items()}
        trusted = 'policy' if _is_trusted(bundle) else 'planner'
        agent._actor = trusted if self._config.actor == 'trusted' else self._config.actor
        return agent

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        return '; '.join(one.prepare(obs, objective) for one in self._agents.values())

    def reset(self, seed: int) -> dict[str, Any]:
        """See `Agent.reset`; the memories of planner and policy."""
        return {name: one.reset(seed) for name, one in self._agents.items()}

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> np.ndarray:
        """See `Agent.predict`."""
        return self._agents[self._actor].predict(obs, previous_action, latency_s)

    def act(self, obs: np.ndarray, goal: np.ndarray | None, memory: dict[str, Any], *, objective: Objective,
            previous_action: np.ndarray, deadline_s: float | None = None) -> Decision:
        """See `Agent.act`."""
        return self._agents[self._actor].act(obs, goal, memory[self._actor], objective=objective,
                                             previous_action=previous_action, deadline_s=deadline_s)


@dataclasses.dataclass(frozen=True)
class Start:
    """Where an imagined episode starts and what is wanted in it.

    Attributes:
        obs: Shape (O,).
        previous_action: Shape (A,).
        goal: Shape (3,); NaN without goals.
    """

    obs: np.ndarray
    previous_action: np.ndarray
    goal: np.ndarray


def drawn_starts(transitions: Transitions, count: int, rng: np.random.Generator) -> list[Start]:
    """Real states, every other one the first of an episode, and goals whose coordinates are each those of some real goal."""
    is_first = np.append(True, np.diff(transitions.episode) != 0)
    rows = rng.integers(len(transitions.obs), size=count)
    rows[::2] = rng.choice(np.flatnonzero(is_first), size=len(rows[::2]))
    previous = np.where(is_first[:, None], 0.0, np.roll(transitions.action, 1, axis=0))[rows]
    known = transitions.goal[~np.isnan(transitions.goal).any(axis=1)]
    goals = np.full((count, GOAL_SIZE), np.nan)
    if len(known):
        goals = np.stack([rng.choice(coordinate, size=count) for coordinate in known.T], axis=1)
    return [Start(*start) for start in zip(transitions.obs[rows], previous, goals)]


def largest_change(transitions: Transitions) -> np.ndarray:
    """Largest change of an action within one step that was ever made, shape (A,)."""
    changes = np.abs(np.diff(transitions.action, axis=0))[np.diff(transitions.episode) == 0]
    return changes.max(axis=0, initial=0.0)


class Teacher:
    """Imagines episodes and labels their states; nothing real changes.

    Args:
        planner: Agent with the model to plan and imagine with.
        wanted: Reward of steps.
        max_change: Largest change of an action within one step, shape (A,), as the arm's guard limits it.
        period_s: Control period.
    """

    def __init__(self, planner: PetsAgent, wanted: GoalReward, max_change: np.ndarray, period_s: float) -> None:
        self._planner, self._wanted, self._max_change, self._period_s = planner, wanted, max_change, period_s

    def episode(self, start: Start, steps: int, policy: Callable[[np.ndarray, np.ndarray], np.ndarray] | None, *,
                seed: int) -> Iterator[tuple[tuple[np.ndarray, np.ndarray, np.ndarray], float]]:
        """A label, as for `Labels.of`, and a reward for each step of an episode that follows a policy, or else the planner.

        The episode is shorter where the model diverges, or predicts its end.
        """
        goal = torch.as_tensor(start.goal, dtype=torch.float32)
        memory, obs, previous = self._planner.reset(seed), start.obs, start.previous_action
        for _ in range(steps):
            try:
                label = self._planner.act(obs, start.goal, memory, previous_action=previous,
                                          objective=lambda obs, action: self._wanted.reward(obs, action, goal)).action
                chosen = label if policy is None else policy(obs, start.goal)
                previous = np.clip(chosen, previous - self._max_change, previous + self._max_change)
                after = self._planner.predict(obs, previous, self._period_s)
            except PlanningError:
                return
            reached, made = (torch.as_tensor(row, dtype=torch.float32) for row in (after, previous))
            yield (obs, start.goal, label), float(self._wanted.reward(reached, made, goal))
            if self._wanted.is_over(reached):
                return
            obs = after


class PetsDistilledLearner:
    """Fits an ensemble and distils its planner; implements `Learner`. Arguments are those of `AgentKind.make_learner`.

    An ensemble is accepted as in PETS; every round's policy is.
    """

    def __init__(self, contract: Contract, space: Space, config: PetsDistilledLearnerConfig, wanted: GoalReward) -> None:
        self._contract, self._space, self._config, self._wanted = contract, space, config, wanted
        self._view = view_of(space, contract.obs_size)
        self._ensemble = EnsembleLearner(contract, space, config)
        self._groups: Mapping[str, Mapping[str, torch.Tensor]] = {}
        self._policy: LearnedPolicy | None = None
        self._labels: Labels | None = None
        self._is_trusted = False

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        bundle.card.check_view(self._view)
        self._ensemble.resume(bundle)
        self._policy = LearnedPolicy.from_groups(bundle.groups, self._view.num_features, self._contract.action_size)
        self._labels = Labels.from_tensors(bundle.group(_LABELS), self._contract.obs_size, self._contract.action_size)
        self._groups = bundle.groups
        self._is_trusted = _is_trusted(bundle)

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`."""
        return self._ensemble.held_out(transitions)

    def surprise(self, transitions: Transitions) -> Surprise | None:
        """See `Learner.surprise`; that of the ensemble."""
        return self._ensemble.surprise(transitions)

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        fitted = self._ensemble.update(lesson, is_cancelled)
        if fitted.origin:
            raise ModelError('observations lie so far from zero that float32 cannot resolve them, which a policy needs')
        if not fitted.is_better and self._labels is None:
            return fitted
        model = dict(fitted.groups if fitted.is_better else self._groups)
        labels, returns = self._imagined(model, lesson, is_cancelled)
        if self._labels is not None:
            labels = self._labels.with_newer(labels, self._config.distillation.max_labels)
        policy = regressed(self._policy, self._view, labels, self._config.distillation, seed=lesson.seed,
                           is_cancelled=is_cancelled)
        trust, why = self._judged(*returns.T)
        figures = fitted.figures if fitted.is_better else fitted.figures_in_use
        model |= {**policy.groups(), _LABELS: labels.columns(), _TRUST: {'policy': torch.tensor([float(trust)])}}
        return dataclasses.replace(fitted, groups=model, is_better=True, reason=f'{why}; the model: {fitted.reason}',
                                   figures=figures, view=label(self._view))

    def _judged(self, planned: np.ndarray, followed: np.ndarray) -> tuple[bool, str]:
        """Whether the policy is to act, and why; returns of the planner's imagined episodes and of the policy's, shape (starts,).

        The policy has not learned from these episodes yet, and only gets better by them.
        """
        gap, limit = planned.mean() - followed.mean(), self._config.distillation.tolerance * planned.std()
        trust = bool(gap <= (2.0 if self._is_trusted else 1.0) * limit)
        return trust, (f'the {"policy" if trust else "planner"} acts, because in imagined episodes the policy earned '
                       f'{followed.mean():.2f}, the planner {planned.mean():.2f} ± {planned.std():.2f}')

    def _imagined(self, model: Mapping[str, Mapping[str, torch.Tensor]], lesson: Lesson,
                  is_cancelled: Callable[[], bool]) -> tuple[Labels, np.ndarray]:
        """Labels of a round, and returns of its episodes, shape (starts, 2): those of the planner, then of the policy."""
        config, rng = self._config.distillation, np.random.default_rng(lesson.seed)
        change = largest_change(lesson.transitions)
        teacher = Teacher(self._planner(model, change), self._wanted, change, self._contract.period_s)
        rows, returns = [], np.zeros((config.starts, 2))
        for index, start in enumerate(drawn_starts(lesson.transitions, config.starts, rng)):
            for actor, policy in enumerate((None, self._act)):
                for row, reward in teacher.episode(start, config.steps, policy, seed=int(rng.integers(2**31))):
                    if is_cancelled():
                        raise TrainingCancelled
                    rows.append(row)
                    returns[index, actor] += reward
        if not rows:
            raise ModelError('the planner found no plan in any imagined episode')
        return Labels.of(rows), returns

    def _planner(self, model: Mapping[str, Mapping[str, torch.Tensor]], max_change: np.ndarray) -> PetsAgent:
        config = PetsActingConfig(planner=self._config.teacher, network=self._config.trainer.ensemble)
        card = Card(version=0, contract=self._contract, num_transitions=0, trained_episode=-1, figures={}, created_ns=0,
                    real_steps=0)
        agent = PetsAgent(self._contract, self._space, config, max_action_change=max_change)
        return agent.with_bundle(AgentBundle(card, model))

    @torch.inference_mode()
    def _act(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The policy's action so far, shape (A,); rest before the first round."""
        if self._policy is None:
            return np.zeros(self._contract.action_size)
        seen, towards = (torch.as_tensor(row, dtype=torch.float32)[None] for row in (obs, goal))
        return self._view.action(seen, self._policy(self._view.features(seen, towards)))[0].double().numpy()


def _is_trusted(bundle: AgentBundle) -> bool:
    """Whether the policy in a bundle acts; raises BundleError if the bundle does not say."""
    trust = bundle.group(_TRUST).get('policy', torch.empty(0))
    if trust.shape != (1,):
        raise BundleError(f'the bundle needs to say with one number whether its policy acts, got shape {tuple(trust.shape)}')
    return bool(trust)


KIND = AgentKind('policy that imitates the planner in imagined episodes', PetsDistilledActingConfig, PetsDistilledLearnerConfig,
                 PetsDistilledAgent, PetsDistilledLearner, follows=Follows.RETRAINED)
