"""The agents that there are, by the name that `agent:=` and `--agent` take.

An agent of somebody's own needs no entry: `module:KIND` names an `AgentKind` in a module that can be imported, also one in the
working directory. The entries here are such names themselves, so that an algorithm is loaded only when it is wanted.
"""

import importlib

from mbrl_ros.agents.agent import AgentKind
from mbrl_ros.config import suggestion
from mbrl_ros.errors import ConfigError
from mbrl_ros.modules import first_line, working_directory_modules

DEFAULT_AGENT = 'pets'
AGENTS: dict[str, str] = {'pets': 'mbrl_ros.agents.pets:KIND'}


def agent_kind(name: str) -> AgentKind:
    """The kind of agent of that name.

    Args:
        name: In `AGENTS`, or `module:KIND`.

    Raises:
        ConfigError: There is none; the text names one that is spelt alike, or what is wrong with the module.
    """
    module, colon, attribute = AGENTS.get(name, name).partition(':')
    if not colon:
        raise ConfigError(f'there is no agent {name!r}{suggestion(name, AGENTS)}')
    try:
        with working_directory_modules():
            found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # It may be somebody else's code.
        raise ConfigError(f'agent {name!r}: {module!r} cannot be imported ({first_line(error)})') from None
    if not isinstance(found, AgentKind):
        raise ConfigError(f'agent {name!r}: {attribute!r} needs to be an AgentKind, got {type(found).__name__}')
    return found
