"""`mbrl-ros reference`: the generated tables of docs/, from the declarations in the code."""

import dataclasses
import importlib
import typing
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from mbrl_ros.agents.registry import AGENTS, agent_kind
from mbrl_ros.config import Config, leaves
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.launching.executables import NODES
from mbrl_ros.tasks.registry import TASKS, weights_config

app = typer.Typer(help='Print reference tables as Markdown.', no_args_is_help=True)

#: Nodes whose parameters depend on the agent, and the agent's settings that they use.
_PARTS = {'mpc_controller': 'acting', 'model_trainer': 'learning'}
#: Node whose parameters depend on the task.
_WITH_WEIGHTS = 'episode_manager'
_TYPES = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}


@app.command()
def parameters() -> None:
    """Every ROS parameter of every node."""
    typer.echo(parameter_reference())


@app.command()
def agent(name: str) -> None:
    """Every setting of an agent."""
    typer.echo(agent_reference(name))


@app.command()
def holds() -> None:
    """Every reason for which the controller keeps the arm still."""
    typer.echo(hold_reference())


def parameter_reference() -> str:
    """A section for each node, with a table row for each parameter; the parameters of its agents or tasks follow."""
    sections = []
    for node, path in NODES.items():
        sections.append(f'## {node}\n\n{_parameter_table(node_config(path.partition(":")[0]))}')
        # No node takes an agent with tables.
        kinds = {name: agent_kind(name) for name in AGENTS} if node in _PARTS else {}
        sections += [f'### {node} with `agent` {name}\n\n{_parameter_table(getattr(kind, _PARTS[node]))}'
                     for name, kind in kinds.items() if not kind.is_tabular]
        if node == _WITH_WEIGHTS:
            sections += [f'### {node} with `task` {name}\n\n{_parameter_table(weights_config(name))}' for name in TASKS]
    return '\n\n'.join(sections)


def agent_reference(name: str) -> str:
    """A table row for each setting of an agent; raises ConfigError if there is none of this name."""
    return _parameter_table(agent_kind(name).config)


def hold_reference() -> str:
    """A table row for each hold."""
    return _table(('hold', 'why the arm stands', 'way back'),
                  ((f'`{hold.value}`', hold.explanation, hold.way_back) for hold in HoldReason))


def node_config(module: str) -> type[Config]:
    """The config of a node: the only one that its module, given by its dotted name, defines."""
    found = vars(importlib.import_module(module)).values()
    (config,) = (kind for kind in found if isinstance(kind, type) and issubclass(kind, Config) and kind.__module__ == module)
    return config


def _parameter_table(config: type[Config]) -> str:
    return _table(('parameter', 'type', 'default', 'unit', 'allowed', 'changes', 'meaning'),
                  (_parameter_row(name, field) for name, field in leaves(config)))


def _parameter_row(name: str, field: dataclasses.Field) -> Sequence[str]:
    metadata = field.metadata
    return (f'`{name}`', _type(field.type), f'`{_text(field.default)}`', metadata['unit'], _allowed(field),
            'live' if metadata['live'] else 'at start', metadata['doc'].replace('<', '&lt;').replace('>', '&gt;'))


def _type(hint: Any) -> str:
    return f'{_TYPES[typing.get_args(hint)[0]]} array' if typing.get_origin(hint) is tuple else _TYPES[hint]


def _text(value: Any) -> str:
    """A value in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f'[{", ".join(map(_text, value))}]'
    return "''" if value == '' else str(value)


def _allowed(field: dataclasses.Field) -> str:
    low, high, choices = (field.metadata[name] for name in ('low', 'high', 'choices'))
    if choices:
        return ', '.join(f'`{choice}`' for choice in choices)
    if low is None and high is None:
        return ''
    if high is None:
        return f'≥ {low:g}'
    return f'≤ {high:g}' if low is None else f'{low:g} to {high:g}'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
