"""TD-MPC: planning in the latent of a model that knows returns alone (Hansen et al. 2022, arXiv:2203.04955; 2024, 2310.16828).

The learner fits an encoder, and in its latent the dynamics, rewards, critics and a policy; nothing predicts observations. The
agent replans every control step: a search by sampling looks a few steps ahead, from noise and from what the policy proposes, and
the critics tell what comes after.

Note:
    The papers search by MPPI, which here is a setting of the common planner and keeps its deviation; iCEM (Pinneri et al. 2020)
    narrows it, and keeps the best candidate, so that a plan is never worth less than the policy's. Demonstrations are imitated,
    first and in each update, and goals are replaced in hindsight, as for `mbpo`. Where there are demonstrations, plans are
    anchored to the policy: critics overrate actions that nothing has shown (Lin et al. 2025, arXiv:2502.03550).
"""

import copy
import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

from mbrl_ros.agents.agent import Decision, Follows, LearningReport, Lesson, Surprise
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.kind import AgentKind
from mbrl_ros.agents.policy_agent import PolicyActingConfig
from mbrl_ros.config import section, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.actor_critic.experience import Hindsight, Steps, last_of_episode, with_goals, with_successes
from mbrl_ros.models.actor_critic.learning import normalised, polled
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.split import episode_holdout_mask
from mbrl_ros.models.latent.learning import LatentLearning, LatentLearningConfig, Unrolled
from mbrl_ros.models.latent.sequences import Sequences
from mbrl_ros.models.latent.world import Discounted, LatentModel, LatentWorld, Units
from mbrl_ros.planning.optimisers.base import limit_changes
from mbrl_ros.planning.planner import Objective, Planner, PlannerConfig
from mbrl_ros.planning.sampling import make_planner
from mbrl_ros.spaces.space import Space
from mbrl_ros.spaces.view import label, view_of
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.training.rounds import RoundsConfig
from mbrl_ros.types import GOAL_SIZE

_WARM_UPS, _FEWEST_HELD_OUT = 5, 10
#: Share of the real steps about which the critics disagree less than the unit of disagreement.
_KNOWN_SHARE = 0.95
#: Bounds of a transition's surprise, so that one collision is no drift, and one step at rest no sign against it.
_LEAST_SURPRISING, _MOST_SURPRISING = -2.0, 1.0


@dataclasses.dataclass(frozen=True)
class TdmpcLearnerConfig(RoundsConfig):
    """How model, critics and policy are trained."""

    updates: int = setting(200, 'Updates of everything in a round.', low=0, high=100_000)
    first_updates: int = setting(1500, 'Updates, instead, in a first round that imitates demonstrations; the policy only '
                                       'imitates in these.', low=0, high=100_000)
    batch_size: int = setting(64, 'Sequences of an update.', low=1, high=100_000)
    horizon: int = setting(3, 'Steps of a sequence.', low=1, high=50)
    hindsight_share: float = setting(0.5, 'Share of the sequences whose goal is replaced by what was achieved later.',
                                     low=0.0, high=1.0)
    holdout_fraction: float = setting(0.1, 'Share of the transitions that are never trained on, so that a change of the world '
                                           'can be told.', low=0.01, high=0.5)
    latent: LatentLearningConfig = section(LatentLearningConfig, 'Model, critics and policy.')

    @property
    def rounds_to_follow(self) -> int:
        """See `RoundsConfig.rounds_to_follow`."""
        return self.latent.actor_critic.rounds_to_follow(self.updates)


@dataclasses.dataclass(frozen=True)
class TdmpcActingConfig(PolicyActingConfig):
    """How TD-MPC acts."""

    planner: PlannerConfig = section(PlannerConfig, 'The planner.')
    num_proposals: int = setting(24, 'Candidates of the policy in each plan.', low=1, high=10_000)
    anchor: float = setting(0.0, 'Value taken off a plan, in the scale of rewards, for the squared distance of each action '
                                 'from the policy\'s.', low=0.0, high=1e6)

    def check(self) -> None:
        """Raise ConfigError when there are as many proposals as candidates."""
        if self.num_proposals >= self.planner.population_size:
            raise ConfigError(f'num_proposals needs fewer than planner.population_size {self.planner.population_size}, '
                              f'got {self.num_proposals}')


@dataclasses.dataclass(frozen=True)
class _Memory:
    """What changes while an agent acts: the planner, with its warm start, and the generator of proposals and exploration."""

    planner: Planner
    generator: torch.Generator


class TdmpcAgent:
    """Plans in the latent every control step; implements `Agent`. Arguments are those of `AgentMaker`."""

    def __init__(self, contract: Contract, space: Space, config: TdmpcActingConfig, *,
                 max_action_change: np.ndarray | None = None, is_repeatable: bool = True) -> None:
        self.version, self.is_ready = 0, False
        self._contract, self._view, self._config = contract, view_of(space, contract.obs_size), config
        on_cpu = dataclasses.replace(config.planner, device='cpu')
        self._planner = make_planner(on_cpu, contract.action_size, max_action_change)
        self._max_change = None if max_action_change is None else torch.as_tensor(max_action_change, dtype=torch.float32)
        self._model: LatentModel | None = None

    def with_bundle(self, bundle: AgentBundle) -> 'TdmpcAgent':
        """See `Agent.with_bundle`."""
        bundle.card.check_fits(self._contract)
        bundle.card.check_view(self._view)
        agent = copy.copy(self)
        agent.version, agent.is_ready = bundle.version, True
        agent._model = LatentModel.from_groups(bundle.groups, self._view.num_features, self._contract.action_size)
        return agent

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        stand_in, action = copy.copy(self), np.zeros(self._contract.action_size)
        inputs = Normalizer.identity(self._view.num_features)
        stand_in._model = LatentLearning(inputs, len(action), LatentLearningConfig(), torch.Generator()).model(Units(1.0, 1.0))
        for _ in range(_WARM_UPS):
            stand_in.act(obs, np.zeros(GOAL_SIZE), stand_in.reset(0), objective=objective, previous_action=action)
        return 'planning in a latent'

    def reset(self, seed: int) -> _Memory:
        """See `Agent.reset`."""
        self._planner.reset(seed)
        return _Memory(self._planner, torch.Generator().manual_seed(seed))

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> None:
        """See `Agent.predict`; the model predicts no observation."""

    @torch.inference_mode()
    def act(self, obs: np.ndarray, goal: np.ndarray | None, memory: _Memory, *, objective: Objective,
            previous_action: np.ndarray, deadline_s: float | None = None) -> Decision:
        """See `Agent.act`; the plan follows the goal, and not the objective's weights."""
        begin_s = time.perf_counter()
        towards = np.full(GOAL_SIZE, np.nan) if goal is None else goal
        seen, towards, before = (torch.as_tensor(values, dtype=torch.float32) for values in (obs, towards, previous_action))
        config, start = self._config, (self._model, self._view, towards, self._contract.obs_size)
        world = LatentWorld(*start, config.anchor)
        proposals = world.proposals(seen, config.num_proposals, config.planner.horizon, memory.generator)
        left_s = None if deadline_s is None else deadline_s - (time.perf_counter() - begin_s)
        plan = memory.planner.plan(world, obs, Discounted(self._model.units.discount), proposals=proposals.numpy(),
                                   previous_action=self._view.seen(seen, before).numpy(), deadline_s=left_s)
        states, actions = (torch.as_tensor(values, dtype=torch.float32) for values in (plan.mean_obs, plan.actions))
        own = actions[:1]
        if config.exploration:
            own = own + config.exploration * torch.randn(own.shape, generator=memory.generator)
        action = limit_changes(self._view.action(seen, own[0])[None], before.clamp(-1.0, 1.0), self._max_change)[0]
        return Decision(action.numpy().astype(np.float64), time.perf_counter() - begin_s,
                        LatentWorld(*start).worth(states, actions), world.doubt(states[:-1], actions))


class TdmpcLearner:
    """Trains model, critics and policy; implements `Learner`. Arguments are those of `AgentKind.make_learner`.

    Every round's bundle is taken: how a whole episode will go, neither model nor critics tell.
    """

    def __init__(self, contract: Contract, space: Space, config: TdmpcLearnerConfig, wanted: GoalReward) -> None:
        self._contract, self._config, self._wanted = contract, config, wanted
        self._view = view_of(space, contract.obs_size)
        self._bundle: AgentBundle | None = None
        self._model: LatentModel | None = None

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        bundle.card.check_view(self._view)
        self._model = LatentModel.from_groups(bundle.groups, self._view.num_features, self._contract.action_size)
        self._learning(self._model.inputs, torch.Generator()).resume(bundle.groups)  # Raises if it cannot go on from there.
        self._bundle = bundle

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`."""
        return episode_holdout_mask(transitions.stamp_ns, transitions.episode, round(1e9 * self._contract.period_s),
                                    self._config.holdout_fraction, _FEWEST_HELD_OUT)

    def surprise(self, transitions: Transitions) -> Surprise | None:
        """See `Learner.surprise`; that of a transition is the logarithm of its error, in units of what was usual when learned."""
        if self._model is None:
            return None
        error = self._error(self._model, self._steps(transitions))
        level = torch.log(error / self._model.units.error).clamp(_LEAST_SURPRISING, _MOST_SURPRISING).mean()
        return Surprise(float(level), float(error.median() / self._model.units.change), len(transitions))

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        generator, steps = torch.Generator().manual_seed(lesson.seed), self._steps(lesson.transitions)
        is_first = self._model is None
        features = self._view.features(steps.obs, steps.goal)
        inputs = Normalizer.fit(features, constant_scale=1.0) if is_first else self._model.inputs
        learning = self._learning(inputs, generator)
        if not is_first:
            learning.resume(self._bundle.groups)
        imitates = is_first and bool(steps.is_shown.any())
        sequences = self._sequences(lesson, steps, generator)
        for _ in polled(self._config.first_updates if imitates else self._config.updates, is_cancelled):
            batch = self._unrolled(inputs, *sequences.draw(self._config.batch_size))
            learning.update(batch, generator, learns_policy=not imitates)
        model = self._measured(learning, steps, torch.from_numpy(lesson.judged_on))
        figures = {'holdout_rmse': model.units.error / model.units.change}
        return LearningReport({**learning.groups(), **model.groups()}, True, 'model and policy learned on', figures, {},
                              view=label(self._view))

    def _learning(self, inputs: Normalizer, generator: torch.Generator) -> LatentLearning:
        return LatentLearning(inputs, self._contract.action_size, self._config.latent, generator)

    def _steps(self, transitions: Transitions) -> Steps:
        """Transitions with goals; steps of successful episodes are to be imitated too."""
        steps, last = Steps.of(transitions), last_of_episode(torch.from_numpy(transitions.episode.copy()))
        return with_goals(with_successes(steps, last, self._wanted), last, self._wanted)

    def _sequences(self, lesson: Lesson, steps: Steps, generator: torch.Generator) -> Sequences:
        """Sequences of transitions that are not held out; those since a change begin more of them."""
        rows, config = lesson.transitions, self._config
        episode, is_trained = torch.from_numpy(rows.episode.copy()), torch.from_numpy(~lesson.held_out)
        achieved = self._wanted.achieved if self._wanted.has_goal else None
        replay = Hindsight(steps, last_of_episode(episode), achieved, config.hindsight_share, generator)
        late = np.diff(rows.stamp_ns, prepend=0) > 1.5e9 * self._contract.period_s
        breaks = torch.from_numpy(late | (np.diff(rows.episode, prepend=-1) != 0) | (np.diff(lesson.held_out, prepend=False)))
        recent = torch.from_numpy(lesson.recent & ~lesson.held_out).nonzero().flatten()
        starts = torch.cat([is_trained.nonzero().flatten(), recent.repeat(lesson.repeats)])
        return Sequences(replay, breaks, starts, config.horizon, generator)

    def _unrolled(self, inputs: Normalizer, steps: Steps, is_inside: torch.Tensor) -> Unrolled:
        flat = [part.flatten(0, 1) for part in (steps.next_obs, steps.action, steps.goal)]
        return Unrolled(
            normalised(inputs, self._view.features(steps.obs[0], steps.goal[0])),
            normalised(inputs, self._view.features(steps.next_obs, steps.goal)), self._view.seen(steps.obs, steps.action),
            self._wanted.reward(*flat).view(is_inside.shape), steps.goes_on, is_inside, steps.is_shown[0])

    @torch.no_grad()
    def _measured(self, learning: LatentLearning, steps: Steps, judged_on: torch.Tensor) -> LatentModel:
        """What was learned, with the units of its numbers from real steps, those of errors from held-out ones."""
        policy = self._config.latent.actor_critic
        model = learning.model(Units(policy.discount, policy.reward_scale))
        latent, reached = (model.encode(self._view.features(obs, steps.goal)) for obs in (steps.obs, steps.next_obs))
        disagreement = model.disagreement(latent, self._view.seen(steps.obs, steps.action)).quantile(_KNOWN_SHARE)
        tiny = torch.finfo(torch.float32).tiny
        numbers = disagreement, self._error(model, steps.take(judged_on)).median(), (reached - latent).square().mean().sqrt()
        units = Units(policy.discount, policy.reward_scale, *(float(number.clamp(min=tiny)) for number in numbers))
        return dataclasses.replace(model, units=units)

    @torch.no_grad()
    def _error(self, model: LatentModel, steps: Steps) -> torch.Tensor:
        """Root mean squared error of predicted latents, shape (N,)."""
        latent, reached = (model.encode(self._view.features(obs, steps.goal)) for obs in (steps.obs, steps.next_obs))
        predicted = model.networks.next(latent, self._view.seen(steps.obs, steps.action))
        return (predicted - reached).square().mean(dim=1).sqrt()


KIND = AgentKind('a latent model of returns, planned in by sampling', TdmpcActingConfig, TdmpcLearnerConfig, TdmpcAgent,
                 TdmpcLearner, follows=Follows.RETRAINED)
