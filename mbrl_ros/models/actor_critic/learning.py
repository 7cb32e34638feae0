"""A policy learned from real transitions and, where there is a model, from imagined ones: the common part of SAC and MBPO."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import torch

from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import BundleError, TrainingCancelled
from mbrl_ros.models.actor_critic.experience import Hindsight, Recorded, Steps, last_of_episode, with_goals, with_successes
from mbrl_ros.models.actor_critic.networks import Networks, mean_action, sampled_action, values_of
from mbrl_ros.models.actor_critic.soft_actor_critic import CRITICS, ActorCriticConfig, Batch, SoftActorCritic, Tensors
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.spaces.view import View
from mbrl_ros.tasks.reward import GoalReward

#: Largest normalised feature in either direction.
_BOUND = 10.0
_STEPS_PER_POLL = 50
_ACTING, INPUTS, _VALUE = 'acting', 'inputs', 'value'
#: Share of the real steps about whose value the critics disagree less than the unit of doubt.
_KNOWN_SHARE = 0.95


@dataclasses.dataclass(frozen=True)
class PolicyLearningConfig(Config):
    """How much a policy is trained, and on what."""

    updates: int = setting(300, 'Updates of actor and critics in a round.', low=0, high=100_000)
    first_updates: int = setting(1500, 'Updates of the critics alone, instead, in a first round that imitates demonstrations.',
                                 low=0, high=100_000)
    imitation_steps: int = setting(2000, 'Gradient steps in which the first round imitates demonstrations, if there are any.',
                                   low=0, high=100_000)
    batch_size: int = setting(128, 'Real transitions of an update, and likewise imagined ones.', low=1, high=100_000)
    hindsight_share: float = setting(0.5, 'Share of the real transitions whose goal is replaced by what was achieved later.',
                                     low=0.0, high=1.0)
    actor_critic: ActorCriticConfig = section(ActorCriticConfig, 'Actor and critics.')

    @property
    def rounds_to_follow(self) -> int:
        """Rounds after which a tenth of a former reward is left in the values."""
        return self.actor_critic.rounds_to_follow(self.updates)


@dataclasses.dataclass(frozen=True)
class LearnedPolicy:
    """A policy as it acts and travels; immutable.

    Attributes:
        inputs: Normaliser of the features, (F,).
        actor: As for `mean_action`.
    """

    inputs: Normalizer
    actor: Networks

    @torch.no_grad()
    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Action in the axes of the view, shape (B, A), for features of a view, shape (B, F)."""
        return mean_action(self.actor, normalised(self.inputs, features))

    @torch.no_grad()
    def sample(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """As a call, but an action as it is explored with while learning."""
        noise = torch.randn((len(features), self.actor.sizes[2] // 2), generator=generator)
        return sampled_action(self.actor, normalised(self.inputs, features), noise)[0]

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """All tensors by name, for each group's name."""
        return {_ACTING: {key: value.clone() for key, value in self.actor.state_dict().items()},
                INPUTS: {'mean': self.inputs.mean, 'std': self.inputs.std}}

    @classmethod
    def stand_in(cls, num_features: int, action_size: int) -> 'LearnedPolicy':
        """A policy of chance for F features and A entries of an action, to warm up with."""
        return cls(Normalizer.identity(num_features), Networks(1, num_features, 2 * action_size, generator=torch.Generator()))

    @classmethod
    def from_groups(cls, groups: Mapping[str, Tensors], num_features: int, action_size: int) -> 'LearnedPolicy':
        """Inverse of `groups`.

        Raises:
            BundleError: The tensors are no policy for F features and A entries of an action.
        """
        actor = Networks.from_tensors(groups.get(_ACTING, {}))
        if actor.sizes != (1, num_features, 2 * action_size):
            raise BundleError(f'the policy has sizes {actor.sizes}, here they are {(1, num_features, 2 * action_size)}')
        return cls(inputs_of(groups, num_features), actor)


@dataclasses.dataclass(frozen=True)
class LearnedValue:
    """The critics of a policy as they travel; immutable.

    Attributes:
        inputs: Normaliser of the features, (F,).
        critics: E critics of features and action, (B, F + A).
        reward_scale: Factor on rewards in their values.
        discount: Factor by which a reward shrinks with each step.
        unit: What the critics disagree by about the value of nearly all real steps, at most.
    """

    inputs: Normalizer
    critics: Networks
    reward_scale: float
    discount: float
    unit: float

    @torch.no_grad()
    def __call__(self, features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Expected discounted return by each critic, shape (E, B), for features (B, F) and actions in the view's axes (B, A)."""
        return values_of(self.critics, normalised(self.inputs, features), action) / self.reward_scale

    def doubt(self, values: torch.Tensor) -> torch.Tensor:
        """Disagreement of the critics, shape (B,), in units of `unit`, for the values of a call, shape (E, B)."""
        return values.std(dim=0, correction=0) / self.unit

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """Tensors that the policy's do not have, by name, for each group's name; the critics' are among those learned on."""
        return {_VALUE: {name: torch.tensor([getattr(self, name)]) for name in ('reward_scale', 'discount', 'unit')}}

    @classmethod
    def stand_in(cls, num_features: int, action_size: int) -> 'LearnedValue':
        """Critics of chance for F features and A entries of an action, to warm up with."""
        return cls(Normalizer.identity(num_features), Networks(2, num_features + action_size, 1, generator=torch.Generator()),
                   reward_scale=1.0, discount=1.0, unit=1.0)

    @classmethod
    def from_groups(cls, groups: Mapping[str, Tensors], num_features: int, action_size: int) -> 'LearnedValue':
        """Critics among the tensors that a policy is learned on from, for F features and A entries of an action.

        Raises:
            BundleError: The tensors are no such critics.
        """
        critics, numbers = Networks.from_tensors(groups.get(CRITICS, {})), groups.get(_VALUE, {})
        if critics.sizes[1:] != (num_features + action_size, 1):
            raise BundleError(f'the critics have the sizes {critics.sizes}, here they have {num_features + action_size} inputs')
        scale, discount, unit = (numbers.get(name, torch.empty(0)) for name in ('reward_scale', 'discount', 'unit'))
        if any(part.shape != (1,) or not 0.0 < float(part) < float('inf') for part in (scale, unit)) or discount.shape != (1,):
            raise BundleError('the critics need a positive scale of rewards, a discount and a positive unit of doubt')
        return cls(inputs_of(groups, num_features), critics, float(scale), float(discount), float(unit))


def inputs_of(groups: Mapping[str, Tensors], num_features: int) -> Normalizer:
    """Normaliser of F features in the tensors of a bundle; raises BundleError if there is none."""
    mean, std = (groups.get(INPUTS, {}).get(name, torch.empty(0)) for name in ('mean', 'std'))
    if any(part.shape != (num_features,) or not torch.isfinite(part).all() for part in (mean, std)) or (std <= 0.0).any():
        raise BundleError(f'the policy needs finite means and positive deviations of {num_features} features')
    return Normalizer(mean, std)


def normalised(inputs: Normalizer, features: torch.Tensor) -> torch.Tensor:
    """Features as the networks get them, shape (B, F)."""
    return inputs.normalize(features).clamp(-_BOUND, _BOUND)


class PolicyLearning:
    """Actor and critics with what they see.

    Args:
        view: What the policy sees, and how it acts.
        wanted: Reward of transitions.
        action_size: A.
        config: Settings.
    """

    def __init__(self, view: View, wanted: GoalReward, action_size: int, config: PolicyLearningConfig) -> None:
        self._view, self._wanted, self._action_size, self._config = view, wanted, action_size, config
        self._inputs: Normalizer | None = None
        self._learning: SoftActorCritic | None = None
        self._unit = 1.0

    def resume(self, groups: Mapping[str, Tensors]) -> None:
        """Continue with the tensors of `groups()`; raises BundleError if they are of other sizes."""
        acting = LearnedPolicy.from_groups(groups, self._view.num_features, self._action_size)
        self._begin(acting.inputs, torch.Generator())
        self._learning.resume(groups)

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """All tensors by name, for each group's name, those of the policy that acts included."""
        return {**self._learning.groups(), **self.policy.groups(), **self.value.groups()}

    @property
    def has_begun(self) -> bool:
        """Whether there is a policy yet."""
        return self._learning is not None

    @property
    def policy(self) -> LearnedPolicy:
        """The policy so far, averaged over updates."""
        return LearnedPolicy(self._inputs, self._learning.average)

    @property
    def explorer(self) -> LearnedPolicy:
        """The policy so far, to be sampled from."""
        return LearnedPolicy(self._inputs, self._learning.actor)

    @property
    def value(self) -> LearnedValue:
        """The critics so far."""
        config = self._config.actor_critic
        return LearnedValue(self._inputs, self._learning.critics, config.reward_scale, config.discount, self._unit)

    def train(self, recorded: Recorded, imagined: Callable[[Hindsight], Steps | None], generator: torch.Generator,
              is_cancelled: Callable[[], bool]) -> None:
        """Make the updates of a round; the first one begins with networks of chance, and imitates demonstrations.

        Args:
            recorded: Real transitions.
            imagined: Makes imagined transitions of the policy so far, which are half of each batch; gets a source of real ones
                to start from. None for none.
            generator: Source of all draws.
            is_cancelled: Polled; true ends the round.

        Raises:
            TrainingCancelled: `is_cancelled` returned true.
        """
        achieved = self._wanted.achieved if self._wanted.has_goal else None
        last = last_of_episode(recorded.episode)
        real = with_goals(with_successes(recorded.steps, last, self._wanted), last, self._wanted)
        replay = Hindsight(real, last, achieved, self._config.hindsight_share, generator, recorded.rows)
        is_first = self._learning is None
        if is_first:
            self._begin(Normalizer.fit(self._view.features(real.obs, real.goal), constant_scale=1.0), generator)
            self._imitate(real.take(real.is_shown), generator, is_cancelled)
        self._learning.generator = generator
        also = imagined(replay)
        # Critics of chance would lead astray an actor that imitates.
        critics_only = is_first and bool(real.is_shown.any())
        number = self._config.first_updates if critics_only else self._config.updates
        for _ in polled(number, is_cancelled):
            parts = [replay.draw(self._config.batch_size)]
            if also is not None and len(also):
                parts.append(also.take(torch.randint(len(also), (self._config.batch_size,), generator=generator)))
            self._learning.update(self._batch(Steps.joined(parts)), learns_actor=not critics_only)
        values = self.value(self._view.features(real.obs, real.goal), self._view.seen(real.obs, real.action))
        self._unit = max(float(values.std(dim=0, correction=0).quantile(_KNOWN_SHARE)), torch.finfo(torch.float32).tiny)

    def _imitate(self, shown: Steps, generator: torch.Generator, is_cancelled: Callable[[], bool]) -> None:
        if not len(shown):
            return
        features, action = self._features(shown.obs, shown.goal), self._view.seen(shown.obs, shown.action)
        for _ in polled(self._config.imitation_steps, is_cancelled):
            rows = torch.randint(len(shown), (2 * self._config.batch_size,), generator=generator)
            self._learning.imitate(features[rows], action[rows])

    def _batch(self, steps: Steps) -> Batch:
        return Batch(self._features(steps.obs, steps.goal), self._view.seen(steps.obs, steps.action),
                     self._wanted.reward(steps.next_obs, steps.action, steps.goal) - steps.doubt,
                     self._features(steps.next_obs, steps.goal), steps.goes_on, steps.is_shown)

    def _features(self, obs: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        return normalised(self._inputs, self._view.features(obs, goal))

    def _begin(self, inputs: Normalizer, generator: torch.Generator) -> None:
        self._inputs = inputs
        self._learning = SoftActorCritic(self._view.num_features, self._action_size, self._config.actor_critic, generator)


def polled(number: int, is_cancelled: Callable[[], bool]) -> Iterator[int]:
    """Count to a number; raises TrainingCancelled soon after `is_cancelled` returned true."""
    for index in range(number):
        if index % _STEPS_PER_POLL == 0 and is_cancelled():
            raise TrainingCancelled
        yield index
