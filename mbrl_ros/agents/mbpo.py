"""MBPO: Dyna with a learned policy (Sutton 1990; Janner et al. 2019, arXiv:1906.08253).

Each round fits the ensemble of PETS to the real steps, imagines short paths of the policy from them, and trains actor and critics
on both in equal parts.

Note:
    Imagined rewards are lower where the ensemble disagrees (Yu et al. 2020, arXiv:2005.13239), demonstrations are imitated before
    the first update and in each (Nair et al. 2018, arXiv:1709.10089), and goals are replaced in hindsight.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from mbrl_ros.agents.agent import Follows, LearningReport, Lesson, Surprise
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.ensemble import ENSEMBLE, EnsembleLearner, EnsembleLearnerConfig, largest_of
from mbrl_ros.agents.kind import AgentKind
from mbrl_ros.agents.policy_agent import PolicyActingConfig, PolicyAgent
from mbrl_ros.config import section
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.actor_critic.experience import Hindsight, Recorded, Steps
from mbrl_ros.models.actor_critic.imagination import ImaginationConfig, imagine
from mbrl_ros.models.actor_critic.learning import PolicyLearning, PolicyLearningConfig
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.models.framed import out_of_frame
from mbrl_ros.spaces.space import Space
from mbrl_ros.spaces.view import label, view_of
from mbrl_ros.tasks.reward import GoalReward


@dataclasses.dataclass(frozen=True)
class MbpoLearnerConfig(EnsembleLearnerConfig):
    """How ensemble and policy are trained."""

    imagination: ImaginationConfig = section(ImaginationConfig, 'What is imagined in a round.')
    policy: PolicyLearningConfig = section(PolicyLearningConfig, 'The policy.')

    @property
    def rounds_to_follow(self) -> int:
        """See `RoundsConfig.rounds_to_follow`."""
        return self.policy.rounds_to_follow


class MbpoLearner:
    """Fits an ensemble and trains a policy in it; implements `Learner`. Arguments are those of `AgentKind.make_learner`.

    An ensemble is accepted as in PETS, and every round's policy is: a model that is good for a few steps does not tell how a
    whole episode will go.
    """

    def __init__(self, contract: Contract, space: Space, config: MbpoLearnerConfig, wanted: GoalReward) -> None:
        self._contract, self._frame, self._config, self._wanted = contract, space.frame, config, wanted
        self._view = view_of(space, contract.obs_size)
        self._ensemble = EnsembleLearner(contract, space, config)
        self._policy = PolicyLearning(self._view, wanted, contract.action_size, config.policy)
        self._model: dict[str, torch.Tensor] = {}

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        bundle.card.check_view(self._view)
        self._ensemble.resume(bundle)
        self._policy.resume(bundle.groups)
        self._model = bundle.group(ENSEMBLE)

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`."""
        return self._ensemble.held_out(transitions)

    def surprise(self, transitions: Transitions) -> Surprise | None:
        """See `Learner.surprise`; that of the ensemble."""
        return self._ensemble.surprise(transitions)

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        fitted = self._ensemble.update(lesson, is_cancelled)
        model = fitted.groups[ENSEMBLE] if fitted.is_better else self._model
        if not model:
            return fitted
        largest, generator = largest_of(fitted.groups, self._contract.obs_names), torch.Generator().manual_seed(lesson.seed)
        recorded = Recorded.of(lesson.transitions, lesson.recent, lesson.repeats)
        self._policy.train(recorded, lambda replay: self._imagined(model, largest, replay, generator), generator, is_cancelled)
        return dataclasses.replace(fitted, groups={**fitted.groups, ENSEMBLE: model, **self._policy.groups()}, is_better=True,
                                   reason=f'the policy learned on; the model: {fitted.reason}', view=label(self._view),
                                   figures=fitted.figures if fitted.is_better else fitted.figures_in_use)

    def _imagined(self, tensors: dict[str, torch.Tensor], largest: tuple[float, ...], replay: Hindsight,
                  generator: torch.Generator) -> Steps | None:
        config = self._config.imagination
        if not config.paths:
            return None
        predictor = Predictor(DynamicsParameters.from_tensors(tensors))
        model = out_of_frame(self._frame, predictor, self._contract.action_size)
        starts = replay.draw(-(-config.paths // model.ensemble_size) * model.ensemble_size)
        return imagine(model, self._view, lambda features: self._policy.explorer.sample(features, generator), replay.steps,
                       self._wanted.is_over, config, starts=starts, largest=largest, generator=generator)


KIND = AgentKind('policy and critics, learned from real and imagined steps', PolicyActingConfig, MbpoLearnerConfig, PolicyAgent,
                 MbpoLearner, follows=Follows.RETRAINED)
