"""Tabular Dyna-Q and Dyna-Q+ (Sutton 1990, 1991; Sutton and Barto 2018, sections 8.2 and 8.3).

The learner remembers the last outcome of each action in each state. From each real step it makes one update of Q-learning, and
then `planning_steps` more from remembered steps. Dyna-Q+ adds a bonus to remembered rewards, which grows with the time since the
action was last tried, so that plans lead to where the world may have changed. The agent takes an action of largest value.

Note:
    With `steps_per_round: 1` this is the algorithm of the book. With fewer rounds the agent acts with older values meanwhile. The
    model is that of a deterministic world: where chance decides, planning takes the last outcome for certain, so that values
    favour recent outcomes.
"""

import copy
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from mbrl_ros.agents.agent import Decision, Follows, LearningReport, Lesson, Surprise
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.kind import ActingConfig, AgentKind
from mbrl_ros.config import setting
from mbrl_ros.errors import ConfigError, ModelError, TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.tabular import TabularModel, table_of
from mbrl_ros.planning.planner import Objective
from mbrl_ros.spaces.numbering import Numbering
from mbrl_ros.spaces.space import Space
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.training.rounds import RoundsConfig

#: Groups of a bundle: the values and what was learned from, and the model.
_VALUES, _MODEL = 'values', 'model'
#: Most entries of a table: 10 MB for each of its numbers.
_LARGEST_TABLE = 10_000_000
#: The reward of environments that is none but what their steps earn.
_OF_STEPS = 'learned'


@dataclasses.dataclass(frozen=True)
class DynaQLearnerConfig(RoundsConfig):
    """How Dyna-Q learns."""

    kappa: ClassVar[float] = 0.0
    min_transitions: int = setting(1, 'Fewest transitions to train on.', low=1)
    planning_steps: int = setting(50, 'Planning updates for each real step; 0 is Q-learning.', low=0)
    learning_rate: float = setting(0.1, 'Share of the error that an update takes back.', low=1e-6, high=1.0)
    discount: float = setting(0.95, 'Discount of rewards for each step.', low=0.0, high=1.0)
    initial_value: float = setting(0.0, 'Value of an action before it was tried. The higher it is, the more the agent tries '
                                        'before it keeps to what it knows.')


@dataclasses.dataclass(frozen=True)
class DynaQPlusLearnerConfig(DynaQLearnerConfig):
    """How Dyna-Q+ learns."""

    kappa: float = setting(1e-3, 'Bonus of an action in planning, for the square root of the steps since it was last tried.',
                           low=1e-9)


@dataclasses.dataclass(frozen=True)
class DynaQActingConfig(ActingConfig):
    """How both act."""

    epsilon: float = setting(0.1, 'Probability of a random action while learning; evaluations make none.', low=0.0, high=1.0)

    def evaluated(self) -> 'DynaQActingConfig':
        """The same settings without random actions."""
        return dataclasses.replace(self, epsilon=0.0)


@dataclasses.dataclass(frozen=True)
class _Tables:
    """What a bundle holds for S states and C actions.

    Attributes:
        values: Value of each action in each state, shape (S, C).
        model: The model.
        seen_ns: Stamp of the newest transition that was learned from, shape (1,), int64.
        surprised_ns: Stamps of transitions that the model foresaw otherwise before it learned from them, int64, ascending.
    """

    values: np.ndarray
    model: TabularModel
    seen_ns: np.ndarray
    surprised_ns: np.ndarray

    @classmethod
    def blank(cls, numbering: Numbering, value: float) -> '_Tables':
        """Tables before the first step, with a value of each action."""
        shape = numbering.num_states, numbering.num_actions
        return cls(np.full(shape, value), TabularModel.untried(*shape), np.full(1, -1, dtype=np.int64),
                   np.empty(0, dtype=np.int64))

    @classmethod
    def of_bundle(cls, bundle: AgentBundle, numbering: Numbering) -> '_Tables':
        """Inverse of `groups`; raises BundleError if a bundle has no tables of these sizes."""
        shape, group = (numbering.num_states, numbering.num_actions), bundle.group(_VALUES)
        surprised = group.get('surprised_ns', torch.empty(0))
        return cls(table_of(group, 'values', shape, np.float64), TabularModel.from_tensors(bundle.group(_MODEL), *shape),
                   table_of(group, 'seen_ns', (1,), np.int64), table_of(group, 'surprised_ns', (surprised.numel(),), np.int64))

    def groups(self) -> dict[str, Mapping[str, torch.Tensor]]:
        """Tensors of a bundle, which share the tables' memory."""
        return {_VALUES: {name: torch.from_numpy(getattr(self, name)) for name in ('values', 'seen_ns', 'surprised_ns')},
                _MODEL: self.model.tensors()}


class DynaQAgent:
    """Takes an action of largest value, or with probability `epsilon` any; implements `Agent`.

    Its memory is a generator, which breaks ties. Arguments are those of `AgentMaker`.

    Raises:
        ConfigError: States or actions are not finitely many, or too many for a table, or their reward is not that of steps.
    """

    def __init__(self, contract: Contract, space: Space, config: DynaQActingConfig, **_unused: Any) -> None:
        self.version, self.is_ready = 0, False
        self._contract, self._epsilon = contract, config.epsilon
        self._numbering = _numbering(contract, space)
        self._values = np.empty((0, 0))

    def with_bundle(self, bundle: AgentBundle) -> 'DynaQAgent':
        """See `Agent.with_bundle`."""
        bundle.card.check_fits(self._contract)
        agent = copy.copy(self)
        agent.version, agent.is_ready = bundle.version, True
        agent._values = _Tables.of_bundle(bundle, self._numbering).values
        return agent

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        return f'acting by a table of {self._numbering.num_states} states and {self._numbering.num_actions} actions'

    def reset(self, seed: int) -> np.random.Generator:
        """See `Agent.reset`."""
        return np.random.default_rng(seed)

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> None:
        """See `Agent.predict`; the model is the learner's."""

    def act(self, obs: np.ndarray, goal: np.ndarray | None, memory: np.random.Generator, *, objective: Objective,
            previous_action: np.ndarray, deadline_s: float | None = None) -> Decision:
        """See `Agent.act`."""
        begin_s = time.perf_counter()
        values = self._values[self._numbering.states(obs[None])[0]]
        is_random = self._epsilon > 0.0 and memory.random() < self._epsilon
        may = np.arange(len(values)) if is_random else np.flatnonzero(values == values.max())
        action = self._numbering.action(may[memory.integers(len(may))])
        return Decision(action, time.perf_counter() - begin_s, value=float(values.max()))


class DynaQLearner:
    """Updates values from each new step and from remembered ones; implements `Learner`.

    It holds nothing out, and its candidates cannot be compared with the bundle in use: they continue it.
    Arguments are those of `AgentKind.make_learner`; raises ConfigError like `DynaQAgent`.
    """

    def __init__(self, contract: Contract, space: Space, config: DynaQLearnerConfig, wanted: GoalReward | None = None) -> None:
        self._config, self._numbering = config, _numbering(contract, space)
        self._tables: _Tables | None = None

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        self._tables = _Tables.of_bundle(bundle, self._numbering)

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`: none."""
        return np.zeros(len(transitions), dtype=bool)

    def surprise(self, transitions: Transitions) -> Surprise | None:
        """See `Learner.surprise`: the share that the model foresaw otherwise, each before it learned from it."""
        if self._tables is None or not len(transitions):
            return None
        tables, stamps_ns = self._tables, transitions.stamp_ns
        otherwise = np.where(stamps_ns <= tables.seen_ns, np.isin(stamps_ns, tables.surprised_ns),
                             tables.model.foresees_otherwise(*self._outcomes(transitions)))
        return Surprise(float(otherwise.mean()), float(np.median(otherwise)), len(transitions))

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        before = self._tables or _Tables.blank(self._numbering, self._config.initial_value)
        stamps_ns = lesson.transitions.stamp_ns
        new = lesson.transitions.take(slice(np.searchsorted(stamps_ns, before.seen_ns[0], side='right'), None))
        if not len(new):
            raise ModelError('no transition is new')
        values, model, rng = before.values.copy(), before.model.copy(), np.random.default_rng(lesson.seed)
        step, errors, surprised_ns = int(model.tried_at.max()), [], []
        for stamp_ns, *outcome in zip(new.stamp_ns, *self._outcomes(new)):
            if is_cancelled():
                raise TrainingCancelled
            if model.foresees_otherwise(*outcome):
                surprised_ns.append(stamp_ns)
            errors.append(abs(self._improve(values, *outcome)))
            step += 1
            model.learn(*outcome, step=step)
            self._plan(values, model, step, rng)
        kept = before.surprised_ns[before.surprised_ns >= stamps_ns[0]]
        tables = _Tables(values, model, new.stamp_ns[-1:].copy(), np.concatenate([kept, np.array(surprised_ns, dtype=np.int64)]))
        error, share = float(np.mean(errors)), len(surprised_ns) / len(new)
        return LearningReport(tables.groups(), True, f'{len(new)} new transitions, mean error of their values {error:.3g}, '
                              f'{share:.0%} foreseen otherwise', {'td_error': error, 'surprise': share}, {})

    def _plan(self, values: np.ndarray, model: TabularModel, step: int, rng: np.random.Generator) -> None:
        """Update the values of remembered steps, drawn at random."""
        kappa = self._config.kappa
        at = model.sample(self._config.planning_steps, rng, tries_all=kappa > 0.0)
        reward = model.reward[at] + kappa * np.sqrt(step - model.tried_at[at])
        for outcome in zip(*(table.tolist() for table in (*at, reward, model.next_state[at], model.ended[at]))):
            self._improve(values, *outcome)

    def _improve(self, values: np.ndarray, state: int, choice: int, reward: float, next_state: int, ended: bool) -> float:
        """One update of Q-learning (Watkins 1989), in place; returns the error before it."""
        target = reward if ended else reward + self._config.discount * values[next_state].max()
        error = float(target - values[state, choice])
        values[state, choice] += self._config.learning_rate * error
        return error

    def _outcomes(self, transitions: Transitions) -> tuple[np.ndarray, ...]:
        """State, action, reward, next state and end of N transitions, shape (N,) each; a time limit is no end."""
        number = self._numbering
        return (number.states(transitions.obs), number.choices(transitions.action), transitions.reward,
                number.states(transitions.next_obs), transitions.terminated)


def _numbering(contract: Contract, space: Space) -> Numbering:
    """Numbers of the states and actions of a space; raises ConfigError as described for `DynaQAgent`."""
    numbering = getattr(space, 'numbering', None)
    if numbering is None:
        raise ConfigError(f'the agent {contract.agent!r} has a table of states and actions, so both need to be Discrete, '
                          f'MultiDiscrete or MultiBinary; those of {contract.task} are not')
    if numbering.num_states * numbering.num_actions > _LARGEST_TABLE:
        raise ConfigError(f'{contract.task} has {numbering.num_states:,} states and {numbering.num_actions:,} actions; a table '
                          f'of the agent {contract.agent!r} has at most {_LARGEST_TABLE:,} entries')
    if contract.reward != _OF_STEPS:
        raise ConfigError(f'the agent {contract.agent!r} learns from the rewards of steps, so --reward is to be left out, '
                          f'got {contract.reward!r}')
    return numbering


KIND = AgentKind('table of values, planned with the last outcomes', DynaQActingConfig, DynaQLearnerConfig, DynaQAgent,
                 DynaQLearner, is_tabular=True, follows=Follows.NEVER)
KIND_PLUS = AgentKind('the same, with a bonus for what was long untried', DynaQActingConfig, DynaQPlusLearnerConfig, DynaQAgent,
                      DynaQLearner, is_tabular=True, follows=Follows.NEVER)
