"""The agents that there are, by the name that `agent:=` and `--agent` take."""

from mbrl_ros.agents import pets
from mbrl_ros.agents.agent import AgentKind
from mbrl_ros.config import suggestion
from mbrl_ros.errors import ConfigError

DEFAULT_AGENT = pets.NAME
AGENTS: dict[str, AgentKind] = {pets.NAME: pets.KIND}


def agent_kind(name: str) -> AgentKind:
    """The kind of agent of that name.

    Raises:
        ConfigError: There is none; the text names one that is spelt alike.
    """
    if name not in AGENTS:
        raise ConfigError(f'there is no agent {name!r}{suggestion(name, AGENTS)}')
    return AGENTS[name]
