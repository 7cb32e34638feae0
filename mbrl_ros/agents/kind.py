"""Kinds of agents: an algorithm with its settings, its agent and its learner; the registry finds one by its name."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np

from mbrl_ros.agents.agent import Agent, Follows, Learner
from mbrl_ros.agents.bundle import Contract
from mbrl_ros.config import Config, declared, section
from mbrl_ros.errors import ConfigError
from mbrl_ros.spaces.space import Space
from mbrl_ros.tasks.reward import GoalReward


def of_learner(kind: type[Config], path: str, doc: str) -> Any:
    """Declare a section of an `ActingConfig` that a run's settings have once, at `path` in the section `learner`."""
    return section(kind, doc, of_learner=path)


@dataclasses.dataclass(frozen=True)
class ActingConfig(Config):
    """Settings of an agent; each algorithm has a class of its own."""

    def evaluated(self) -> 'ActingConfig':
        """The same settings without exploration, for an evaluation."""
        return self

    @classmethod
    def on_device(cls, device: str) -> dict[str, Any]:
        """Nested settings that make the agent compute on a device.

        Raises:
            ConfigError: The agent cannot; one without a choice takes the CPU.
        """
        if device == 'cuda':
            raise ConfigError("device needs 'auto' or 'cpu' with this agent, which computes on the CPU, got 'cuda'")
        return {}


@dataclasses.dataclass(frozen=True)
class AgentConfig(Config):
    """Settings of an agent and, in the section `learner`, of its learner; `AgentKind.config` is a subclass."""

    kind: ClassVar['AgentKind']

    def check(self) -> None:
        """Raise ConfigError when settings of the agent contradict each other."""
        self.acting()

    def acting(self) -> ActingConfig:
        """Settings of the agent alone."""
        fields = dataclasses.fields(self.kind.acting)
        return self.kind.acting(**{field.name: self._value(field) for field in fields})

    def evaluated(self) -> 'AgentConfig':
        """The same settings without exploration, for an evaluation."""
        acting = self.acting().evaluated()
        return dataclasses.replace(self, **{field.name: getattr(acting, field.name) for field in _own(self.kind.acting)})

    def _value(self, field: dataclasses.Field) -> Any:
        path = field.metadata.get('of_learner')
        return functools.reduce(getattr, path.split('.'), self.learner) if path else getattr(self, field.name)


def _own(acting: type[ActingConfig]) -> list[dataclasses.Field]:
    """The settings that only the agent has."""
    return [field for field in dataclasses.fields(acting) if not field.metadata.get('of_learner')]


class AgentMaker(Protocol):
    """Makes an agent that has no bundle yet."""

    def __call__(self, contract: Contract, space: Space, config: Any, *, max_action_change: np.ndarray | None = None,
                 is_repeatable: bool = True) -> Agent:
        """Make the agent.

        Args:
            contract: What the agent is for.
            space: The agent's observations and actions.
            config: Settings, an instance of `AgentKind.acting`.
            max_action_change: Largest change of an action within one step, shape (A,); None for no limit.
            is_repeatable: Whether equal seeds must give equal actions, so that no choice may depend on measured times.

        Raises:
            ConfigError: A setting does not fit this machine.
        """


@dataclasses.dataclass(frozen=True)
class AgentKind:
    """An algorithm: its settings, its agent and its learner.

    Attributes:
        summary: One line for a table.
        acting: Settings of the agent.
        learner: Settings of the learner; its name is that of the algorithm, then `LearnerConfig`.
        make_agent: Makes the agent.
        make_learner: Makes the learner from contract, space, the settings in the section `learner`, and what is wanted, whose
            reward may change between rounds.
        is_tabular: Whether it needs a space with a `numbering`; others need one without.
        follows: When it follows new weights of the reward.
    """

    summary: str
    acting: type[ActingConfig]
    learner: type[Config]
    make_agent: AgentMaker
    make_learner: Callable[[Contract, Space, Any, GoalReward], Learner]
    is_tabular: bool = False
    follows: Follows = Follows.RETRAINED

    @functools.cached_property
    def learning(self) -> type[Config]:
        """Settings with the section `learner` alone."""
        return self._class('LearningConfig', (Config,), {}, [])

    @functools.cached_property
    def config(self) -> type[AgentConfig]:
        """Settings of agent and learner."""
        return self._class('Config', (AgentConfig,), {'kind': self}, _own(self.acting))

    def _class(self, suffix: str, bases: tuple[type, ...], namespace: dict[str, Any], fields: list[dataclasses.Field]) -> type:
        name = self.learner.__name__.removesuffix('LearnerConfig') + suffix
        both = [declared(self.acting, field) for field in fields]
        return dataclasses.make_dataclass(name, [*both, ('learner', self.learner, section(self.learner, 'How to train.'))],
                                          bases=bases, namespace=namespace, frozen=True)
