"""SAC: soft actor-critic from real transitions alone (Haarnoja et al. 2018, arXiv:1812.05905).

Each round makes many updates from all transitions so far, demonstrations included (Ball et al. 2023, arXiv:2302.02948), some of
them on the way to goals that were achieved later (Andrychowicz et al. 2017, arXiv:1707.01495). Demonstrations are imitated before
the first update.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from mbrl_ros.agents.agent import Follows, LearningReport, Lesson
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.kind import AgentKind
from mbrl_ros.agents.policy_agent import PolicyActingConfig, PolicyAgent
from mbrl_ros.config import section
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.actor_critic.experience import Recorded
from mbrl_ros.models.actor_critic.learning import PolicyLearning, PolicyLearningConfig
from mbrl_ros.spaces.space import Space
from mbrl_ros.spaces.view import label, view_of
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.training.rounds import RoundsConfig


@dataclasses.dataclass(frozen=True)
class SacLearnerConfig(RoundsConfig):
    """How the policy is trained."""

    policy: PolicyLearningConfig = section(PolicyLearningConfig, 'The policy.')

    @property
    def rounds_to_follow(self) -> int:
        """See `RoundsConfig.rounds_to_follow`."""
        return self.policy.rounds_to_follow


class SacLearner:
    """Trains actor and critics; implements `Learner`. Arguments are those of `AgentKind.make_learner`.

    Every round's policy is taken: without a model nothing but acting shows whether it is better.
    """

    def __init__(self, contract: Contract, space: Space, config: SacLearnerConfig, wanted: GoalReward) -> None:
        self._view = view_of(space, contract.obs_size)
        self._policy = PolicyLearning(self._view, wanted, contract.action_size, config.policy)

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        bundle.card.check_view(self._view)
        self._policy.resume(bundle.groups)

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`; none."""
        return np.zeros(len(transitions), dtype=bool)

    def surprise(self, transitions: Transitions) -> None:
        """See `Learner.surprise`; it predicts nothing."""

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        generator = torch.Generator().manual_seed(lesson.seed)
        recorded = Recorded.of(lesson.transitions, lesson.recent, lesson.repeats)
        self._policy.train(recorded, lambda _: None, generator, is_cancelled)
        return LearningReport(self._policy.groups(), True, 'the policy learned on', {}, {}, view=label(self._view))


KIND = AgentKind('policy and critics, learned from real steps', PolicyActingConfig, SacLearnerConfig, PolicyAgent, SacLearner,
                 follows=Follows.RETRAINED)
