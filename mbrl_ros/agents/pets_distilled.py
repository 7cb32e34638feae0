"""PETS distilled: a policy that imitates the planner and acts in its place (DAgger; Ross et al. 2011, arXiv:1011.0686).

Each round fits the ensemble of PETS and imagines episodes in it. The planner labels each imagined state with the first action of
its plan. Two episodes begin at each start: one follows the planner, the other the policy so far, which thereby learns what to do
where it errs. The policy regresses on the labels of all rounds. Pan et al. 2018 (arXiv:1709.07174) imitate model-predictive
control; Wang and Ba 2020 (POPLIN, arXiv:1906.08649) distil planning in a learned model.

Note:
    DAgger labels real states; here states are imagined, and no real step is spent. The agent plans like PETS until the policy
    earns as much as the planner in imagined episodes that it has not learned from.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.agent import Agent, AgentConfig, AgentKind, Decision, LearningReport, Lesson, Surprise
from mbrl_ros.agents.bundle import AgentBundle, Card, Contract
from mbrl_ros.agents.pets import PetsActingConfig, PetsAgent, PetsLearner, PetsLearnerConfig
from mbrl_ros.agents.policy_agent import PolicyActingConfig, PolicyAgent
from mbrl_ros.config import Config, part, section, setting
from mbrl_ros.errors import BundleError, ModelError, TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.actor_critic.learning import LearnedPolicy, normalised
from mbrl_ros.models.actor_critic.networks import Networks, mean_action
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.planning.planner import Objective, PlannerConfig
from mbrl_ros.planning.policy_rollouts import PolicyRolloutsConfig
from mbrl_ros.spaces.space import Space
from mbrl_ros.spaces.view import View, view_of
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.types import GOAL_SIZE

#: Groups of a bundle besides those of PETS and of the policy: the labels, and whether the policy acts.
_LABELS, _TRUST = 'labels', 'trust'


@dataclasses.dataclass(frozen=True)
class DistillationConfig(Config):
    """What is labelled in a round, and how the policy learns it."""

    starts: int = setting(8, 'Imagined starts of a round, for one episode of the planner and one of the policy each.', low=2,
                          high=10_000)
    steps: int = setting(25, 'Control steps of an imagined episode.', low=1, high=1000)
    max_labels: int = setting(20_000, 'Newest labels that are kept.', low=100, high=1_000_000)
    updates: int = setting(300, 'Gradient steps of a round.', low=1, high=100_000)
    batch_size: int = setting(256, 'Labels of a gradient step.', low=1, high=100_000)
    hidden_size: int = setting(128, 'Units of each of two hidden layers.', low=1, high=2048)
    learning_rate: float = setting(1e-3, 'First step size of AdamW in a round; it falls along a half cosine.', low=1e-6, high=0.1)
    tolerance: float = setting(0.1, 'The policy acts while its mean imagined return is at most this many standard deviations of '
                                    'the planner\'s returns below theirs.', low=0.0, high=1e3)


@dataclasses.dataclass(frozen=True)
class PetsDistilledLearnerConfig(PetsLearnerConfig):
    """How ensemble and policy are trained."""

    teacher: PlannerConfig = section(PlannerConfig, 'The planner that labels.')
    distillation: DistillationConfig = section(DistillationConfig, 'The policy.')


@dataclasses.dataclass(frozen=True)
class PetsDistilledActingConfig(PolicyActingConfig, PetsActingConfig):
    """How policy and planner act."""


@dataclasses.dataclass(frozen=True)
class PetsDistilledLearningConfig(Config):
    """How ensemble and policy are learned."""

    learner: PetsDistilledLearnerConfig = section(PetsDistilledLearnerConfig, 'How to train.')


@dataclasses.dataclass(frozen=True)
class PetsDistilledConfig(PolicyActingConfig, AgentConfig, PetsDistilledLearningConfig):
    """How the agent acts and learns."""

    planner: PlannerConfig = section(PlannerConfig, 'The planner that acts until the policy does.')
    policy_rollouts: PolicyRolloutsConfig = section(PolicyRolloutsConfig, 'Plans where demonstrations are imitated.')

    def acting(self) -> PetsDistilledActingConfig:
        """See `AgentConfig.acting`."""
        return PetsDistilledActingConfig(exploration=self.exploration, planner=self.planner, policy_rollouts=self.policy_rollouts,
                                         network=self.learner.trainer.ensemble)

    def evaluated(self) -> 'PetsDistilledConfig':
        """The same settings without exploration."""
        return dataclasses.replace(self, exploration=0.0, planner=self.planner.without_exploring())


class PetsDistilledAgent:
    """Asks the policy if it is trusted, and plans otherwise; implements `Agent`. Arguments are those of `AgentMaker`."""

    def __init__(self, contract: Contract, space: Space, config: PetsDistilledActingConfig, *,
                 max_action_change: np.ndarray | None = None, is_repeatable: bool = True) -> None:
        options = {'max_action_change': max_action_change, 'is_repeatable': is_repeatable}
        self._agents: dict[bool, Agent] = {False: PetsAgent(contract, space, part(config, PetsActingConfig), **options),
                                           True: PolicyAgent(contract, space, part(config, PolicyActingConfig), **options)}
        self._is_trusted = False

    version = property(lambda self: self._agents[self._is_trusted].version)
    is_ready = property(lambda self: self._agents[self._is_trusted].is_ready)

    def with_bundle(self, bundle: AgentBundle) -> 'PetsDistilledAgent':
        """See `Agent.with_bundle`."""
        agent = copy.copy(self)
        agent._agents = {key: one.with_bundle(bundle) for key, one in self._agents.items()}
        agent._is_trusted = _is_trusted(bundle)
        return agent

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        return '; '.join(one.prepare(obs, objective) for one in self._agents.values())

    def reset(self, seed: int) -> dict[bool, Any]:
        """See `Agent.reset`; the memories of planner and policy."""
        return {key: one.reset(seed) for key, one in self._agents.items()}

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> np.ndarray:
        """See `Agent.predict`."""
        return self._agents[self._is_trusted].predict(obs, previous_action, latency_s)

    def act(self, obs: np.ndarray, goal: np.ndarray | None, memory: dict[bool, Any], *, objective: Objective,
            previous_action: np.ndarray, deadline_s: float | None = None) -> Decision:
        """See `Agent.act`."""
        return self._agents[self._is_trusted].act(obs, goal, memory[self._is_trusted], objective=objective,
                                                  previous_action=previous_action, deadline_s=deadline_s)


@dataclasses.dataclass(frozen=True)
class Labels:
    """What the planner would do: N labels, float32.

    Attributes:
        obs: Shape (N, O).
        goal: Shape (N, 3); NaN without goals.
        action: First action of the plan, shape (N, A).
    """

    obs: torch.Tensor
    goal: torch.Tensor
    action: torch.Tensor

    @classmethod
    def of(cls, rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> 'Labels':
        """Labels from one (obs, goal, action) each."""
        return cls(*(torch.from_numpy(np.array(column, dtype=np.float32)) for column in zip(*rows)))

    @classmethod
    def from_bundle(cls, bundle: AgentBundle) -> 'Labels':
        """The labels in a bundle; raises BundleError if they do not fit its contract."""
        found, contract = bundle.group(_LABELS), bundle.card.contract
        sizes = {'obs': contract.obs_size, 'goal': GOAL_SIZE, 'action': contract.action_size}
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        count = shapes.get('obs', (0,))[0]
        if shapes != {name: (count, size) for name, size in sizes.items()}:
            raise BundleError(f'the labels of a policy need one row each of sizes {sizes}, got the shapes {shapes}')
        return cls(**found)

    def with_newer(self, newer: 'Labels', max_labels: int) -> 'Labels':
        """Both, without the oldest beyond a number."""
        return Labels(*(torch.cat(both)[-max_labels:] for both in zip(self.columns().values(), newer.columns().values())))

    def columns(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        return dict(vars(self))


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
    """Real states with the action before, and goals whose coordinates are each those of some real goal."""
    rows = rng.integers(len(transitions.obs), size=count)
    is_first = np.append(True, np.diff(transitions.episode) != 0)
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
        """A label, as for `Labels.of`, and a reward for each step of an episode that follows a policy, or else the planner."""
        goal = torch.as_tensor(start.goal, dtype=torch.float32)
        memory, obs, previous = self._planner.reset(seed), start.obs, start.previous_action
        for _ in range(steps):
            label = self._planner.act(obs, start.goal, memory, previous_action=previous,
                                      objective=lambda obs, action: self._wanted.reward(obs, action, goal)).action
            chosen = label if policy is None else policy(obs, start.goal)
            previous = np.clip(chosen, previous - self._max_change, previous + self._max_change)
            after = self._planner.predict(obs, previous, self._period_s)
            reward = self._wanted.reward(*(torch.as_tensor(row, dtype=torch.float32) for row in (after, previous)), goal)
            yield (obs, start.goal, label), float(reward)
            obs = after


class PetsDistilledLearner:
    """Fits an ensemble and distils its planner; implements `Learner`. Arguments are those of `AgentKind.make_learner`.

    An ensemble is accepted as in PETS; every round's policy is.
    """

    def __init__(self, contract: Contract, space: Space, config: PetsDistilledLearnerConfig, wanted: GoalReward) -> None:
        self._contract, self._space, self._config, self._wanted = contract, space, config, wanted
        self._view = view_of(space, contract.obs_size)
        self._ensemble = PetsLearner(contract, space, config)
        self._groups: Mapping[str, Mapping[str, torch.Tensor]] = {}
        self._policy: LearnedPolicy | None = None
        self._labels: Labels | None = None

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        self._ensemble.resume(bundle)
        self._policy = LearnedPolicy.from_groups(bundle.groups, self._view.num_features, self._contract.action_size)
        self._labels, self._groups = Labels.from_bundle(bundle), bundle.groups

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
        planned, followed = returns.mean(axis=0)
        trust = followed >= planned - self._config.distillation.tolerance * returns[:, 0].std()
        figures = fitted.figures if fitted.is_better else fitted.figures_in_use
        model |= {**policy.groups(), _LABELS: labels.columns(), _TRUST: {'policy': torch.tensor([float(trust)])}}
        reason = (f'{"the policy acts" if trust else "the planner acts"}: in imagined episodes the policy earned {followed:.2f}, '
                  f'the planner {planned:.2f}; the model: {fitted.reason}')
        return dataclasses.replace(fitted, groups=model, is_better=True, reason=reason, figures=dict(figures))

    def _imagined(self, model: Mapping[str, Mapping[str, torch.Tensor]], lesson: Lesson,
                  is_cancelled: Callable[[], bool]) -> tuple[Labels, np.ndarray]:
        """Labels of a round, and returns of its episodes, shape (starts, 2): those of the planner, then of the policy."""
        config, rng = self._config.distillation, np.random.default_rng(lesson.seed)
        teacher = Teacher(self._planner(model, largest_change(lesson.transitions)), self._wanted,
                          largest_change(lesson.transitions), self._contract.period_s)
        rows, returns = [], np.zeros((config.starts, 2))
        for index, start in enumerate(drawn_starts(lesson.transitions, config.starts, rng)):
            for actor, policy in enumerate((None, self._act)):
                for label, reward in teacher.episode(start, config.steps, policy, seed=int(rng.integers(2**31))):
                    if is_cancelled():
                        raise TrainingCancelled
                    rows.append(label)
                    returns[index, actor] += reward
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


def regressed(policy: LearnedPolicy | None, view: View, labels: Labels, config: DistillationConfig, *, seed: int,
              is_cancelled: Callable[[], bool]) -> LearnedPolicy:
    """Policy after gradient steps on the squared distance from labels; a new one if there is none so far."""
    generator = torch.Generator().manual_seed(seed)
    features, target = view.features(labels.obs, labels.goal), view.seen(labels.obs, labels.action)
    inputs = policy.inputs if policy else Normalizer.fit(features, constant_scale=1.0)
    actor = Networks(1, view.num_features, 2 * target.shape[1], config.hidden_size, generator=generator)
    if policy:
        actor.load_state_dict(policy.actor.state_dict())
    features = normalised(inputs, features)
    optimiser = torch.optim.AdamW(actor.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.updates)
    for _ in range(config.updates):
        if is_cancelled():
            raise TrainingCancelled
        rows = torch.randint(len(features), (config.batch_size,), generator=generator)
        loss = (mean_action(actor, features[rows]) - target[rows]).square().sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return LearnedPolicy(inputs, actor)


def _is_trusted(bundle: AgentBundle) -> bool:
    """Whether the policy in a bundle acts; raises BundleError if the bundle does not say."""
    return bool(bundle.group(_TRUST)['policy'].any())


KIND = AgentKind('policy that imitates the planner in imagined episodes', PetsDistilledActingConfig, PetsDistilledLearningConfig,
                 PetsDistilledConfig, PetsDistilledAgent, PetsDistilledLearner)
