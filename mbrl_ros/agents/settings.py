"""Settings of what an agent learns in, with those of the agent beside them.

`config/agents/<name>.yaml` has what an agent needs for the tasks and environments that are known, below `tasks` and `envs`; those
without an entry there have `default`. A file of a task or an environment comes on top, and single changes on top of that.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from mbrl_ros.agents.agent import AgentConfig, AgentKind
from mbrl_ros.agents.registry import AGENTS, DEFAULT_AGENT, agent_kind
from mbrl_ros.config import Config, extended, load_yaml, part, setting, with_changes
from mbrl_ros.errors import ConfigError
from mbrl_ros.resources import share_directory


@dataclasses.dataclass(frozen=True)
class RunConfig(Config):
    """What every run has; `read` and `from_mapping` make one that has the agent's settings too."""

    agent: str = setting(DEFAULT_AGENT, 'Agent that learns and acts, a name or module:KIND; its own settings stand beside these.')

    @classmethod
    def read(cls, where: str, name: str, path: Path, changes: Sequence[str] = (), agent: str | None = None) -> Self:
        """Read the agent's settings for a task or an environment, and a file on top.

        Args:
            where: `tasks` or `envs`.
            name: Of the task or environment.
            path: File on top.
            changes: Of single settings, such as `planner.horizon=9`.
            agent: Its name; that in the file, or the usual one, when left out.

        Raises:
            ConfigError: No such agent or file, a key or value that does not fit, or file or changes name another agent.
        """
        def on_top(values: Mapping[str, Any], source: str) -> Self:
            chosen = values.get('agent', agent or DEFAULT_AGENT)
            if agent not in (None, chosen):
                raise ConfigError(f'{source}: is for the agent {chosen!r}, here it is {agent!r}')
            return cls.from_mapping({**_merged(_defaults(chosen, where, name), values), 'agent': chosen}, source)

        if agent is not None:
            agent_kind(agent)  # It is not the file that is wrong when there is none.
        in_file = load_yaml(path)
        config = on_top(in_file, str(path))
        return on_top(with_changes(in_file, changes), '--set') if changes else config

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = '') -> Self:
        """As `Config.from_mapping`; of the class that has the settings of the agent that is named.

        Raises:
            ConfigError: As there, or there is no such agent, or a setting is another agent's.
        """
        agent, place = values.get('agent', DEFAULT_AGENT), f'{where}: ' if where else ''
        if not isinstance(agent, str):
            raise ConfigError(f'{place}agent needs a name, got {agent!r}')
        try:
            kind = agent_kind(agent).config
        except ConfigError as error:
            raise ConfigError(f'{place}{error}') from None
        whole = cls if _names(kind) <= _names(cls) else extended(cls, kind)
        for key in set(values) - _names(whole):
            if owners := [name for name in AGENTS if key in _names(agent_kind(name).config)]:
                raise ConfigError(f'{place}{key!r} is a setting of the agent {owners[0]!r}, and this is for {agent!r}')
        return super(RunConfig, whole).from_mapping(values, where)

    def __reduce__(self) -> tuple[Any, ...]:
        # By the agent's name: the module of somebody's own agent may lie where another process does not look by itself.
        return getattr(type(self), 'extends', type(self)).from_mapping, (self.to_mapping(),)

    @property
    def kind(self) -> AgentKind:
        """What the agent is."""
        return agent_kind(self.agent)

    @property
    def agent_config(self) -> AgentConfig:
        """Settings of the agent and its learner."""
        return part(self, self.kind.config)

    def evaluated(self) -> Self:
        """The same settings for an evaluation, in which nothing is tried out."""
        config = self.agent_config.evaluated()
        return dataclasses.replace(self, **{field.name: getattr(config, field.name) for field in dataclasses.fields(config)})


def _defaults(agent: str, where: str, name: str) -> dict[str, Any]:
    """An agent's own settings for a task or environment; an agent without a file has none."""
    path = share_directory() / 'config' / 'agents' / f'{agent}.yaml'
    if not path.is_file():
        return {}
    known = load_yaml(path).get(where) or {}
    values = known.get(name, known.get('default')) or {}
    agent_kind(agent).config.from_mapping(values, f'{path}: {where}.{name}')
    return values


def _names(kind: type[Config]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, the second's values before the first's."""
    both = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = _merged(both[key], value) if nested else value
    return both
