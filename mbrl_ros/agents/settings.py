"""Settings of a run: those of a task or an environment, with the agent's settings beside them.

Three sources override each other: `config/agents/<name>.yaml`, which has an agent's settings for each task below `tasks` and for
each environment or kind of environments below `envs`; then the file of the task or environment; then changes of single settings.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbrl_ros.agents.kind import AgentConfig, AgentKind
from mbrl_ros.agents.registry import AGENTS, DEFAULT_AGENT, agent_kind
from mbrl_ros.config import Config, extended, load_yaml, part, setting, with_changes
from mbrl_ros.errors import ConfigError
from mbrl_ros.resources import share_directory

if TYPE_CHECKING:
    from typing import Self  # Python 3.10 has none.


@dataclasses.dataclass(frozen=True)
class RunConfig(Config):
    """Settings of every run; `read` and `from_mapping` make a subclass that has the agent's settings too."""

    agent: str = setting(DEFAULT_AGENT, 'Agent that learns and acts, a name or module:KIND; its own settings stand beside these.')

    @classmethod
    def read(cls, where: str, names: Sequence[str], path: Path, changes: Sequence[str] = (), agent: str | None = None) -> 'Self':
        """Read the agent's settings for a task or an environment, and a file on top.

        Args:
            where: `tasks` or `envs`.
            names: Names of the task or environment; the agent's settings for the first that it has are taken.
            path: File on top.
            changes: Changes of single settings, such as `planner.horizon=9`.
            agent: Name of the agent; by default the file's, or else `DEFAULT_AGENT`.

        Raises:
            ConfigError: There is no such agent or file, a key or value does not fit, or file or changes name another agent.
        """
        def on_top(values: Mapping[str, Any], source: str) -> 'Self':
            chosen = values.get('agent', agent or DEFAULT_AGENT)
            if agent not in (None, chosen):
                raise ConfigError(f'{source}: is for the agent {chosen!r}, here it is {agent!r}')
            return cls.from_mapping({**_merged(_defaults(chosen, where, names), values), 'agent': chosen}, source)

        if agent is not None:
            agent_kind(agent)  # Refuse an unknown agent before an error could blame the file.
        in_file = load_yaml(path)
        config = on_top(in_file, str(path))
        return on_top(with_changes(in_file, changes), '--set') if changes else config

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = '') -> 'Self':
        """See `Config.from_mapping`; the result's class has the settings of the agent that `values` name too.

        Raises:
            ConfigError: There is no such agent, a setting is another agent's, or `Config.from_mapping` raises it.
        """
        agent, place = values.get('agent', DEFAULT_AGENT), f'{where}: ' if where else ''
        if not isinstance(agent, str):
            raise ConfigError(f'{place}agent needs a name, got {agent!r}')
        try:
            kind = agent_kind(agent).config
        except ConfigError as error:
            raise ConfigError(f'{place}{error}') from None
        whole = cls if _names(kind) <= _names(cls) else extended(cls, kind)
        for key in [key for key in values if key not in _names(whole)]:
            if owners := [name for name in AGENTS if key in _names(agent_kind(name).config)]:
                raise ConfigError(f'{place}{key!r} is a setting of the agent {owners[0]!r}, and this is for {agent!r}')
        return super(RunConfig, whole).from_mapping(values, where)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle the agent's name: another process could not import a user's agent from the working directory by itself.
        return getattr(type(self), 'extends', type(self)).from_mapping, (self.to_mapping(),)

    @property
    def kind(self) -> AgentKind:
        """Kind of the agent; raises ConfigError if its module has gone."""
        return agent_kind(self.agent)

    @property
    def agent_config(self) -> AgentConfig:
        """Settings of the agent and its learner."""
        return part(self, self.kind.config)

    def evaluated(self) -> 'Self':
        """The same settings without exploration, for an evaluation."""
        return dataclasses.replace(self, **vars(self.agent_config.evaluated()))


def _defaults(agent: str, where: str, names: Sequence[str]) -> dict[str, Any]:
    """Settings in the agent's own file for the first name that it has; an agent without a file has none."""
    path = share_directory() / 'config' / 'agents' / f'{agent}.yaml'
    if not path.is_file():
        return {}
    known = load_yaml(path).get(where) or {}
    name = next((name for name in names if name in known), '')
    values = known.get(name) or {}
    agent_kind(agent).config.from_mapping(values, f'{path}: {where}.{name}')
    return values


def _names(kind: type[Config]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; values of `above` override those of `below`."""
    both = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = _merged(both[key], value) if nested else value
    return both
