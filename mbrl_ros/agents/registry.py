"""The agents by name, as `agent:=` and `--agent` take it.

A user's own agent needs no entry: `module:KIND` names an `AgentKind` in a module that Python can import, also from the working
directory. The entries here have the same form, so that an algorithm is imported only when it is used.
"""

import importlib

from mbrl_ros.agents.kind import AgentKind
from mbrl_ros.config import suggestion
from mbrl_ros.errors import ConfigError
from mbrl_ros.modules import first_line, working_directory_modules

DEFAULT_AGENT = 'pets'
AGENTS: dict[str, str] = {
    'pets': 'mbrl_ros.agents.pets:KIND',
    'pets_value': 'mbrl_ros.agents.pets_value:KIND',
    'pets_distilled': 'mbrl_ros.agents.pets_distilled:KIND',
    'mbpo': 'mbrl_ros.agents.mbpo:KIND',
    'sac': 'mbrl_ros.agents.sac:KIND',
    'tdmpc': 'mbrl_ros.agents.tdmpc:KIND',
    'dyna_q': 'mbrl_ros.agents.dyna_q:KIND',
    'dyna_q_plus': 'mbrl_ros.agents.dyna_q:KIND_PLUS',
    'solver_mpc': 'mbrl_ros.agents.solver_mpc:KIND',
}


def agent_kind(name: str) -> AgentKind:
    """Kind of an agent, by its name in `AGENTS` or as `module:KIND`.

    Raises:
        ConfigError: There is no such agent, or the module cannot be imported; the text suggests a name or says why.
    """
    module, colon, attribute = AGENTS.get(name, name).partition(':')
    if not colon:
        raise ConfigError(f'there is no agent {name!r}{suggestion(name, AGENTS)}')
    try:
        with working_directory_modules():
            found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # Users' code may raise anything.
        raise ConfigError(f'agent {name!r}: {module!r} cannot be imported ({first_line(error)})') from None
    if not isinstance(found, AgentKind):
        raise ConfigError(f'agent {name!r}: {attribute!r} needs to be an AgentKind, got {type(found).__name__}')
    return found
