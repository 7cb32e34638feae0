"""The known actions of the launch format, as a tree; reading checks every branch, taken or not."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mbrl_ros.config import suggestion
from mbrl_ros.launching import source, substitutions
from mbrl_ros.launching.source import Element, Place
from mbrl_ros.launching.substitutions import Template

_OUTPUTS = ('screen', 'log', 'both')
_VALUE_TYPES = ('str', 'int', 'float', 'bool')


@dataclasses.dataclass(frozen=True)
class Condition:
    """`if` (wanted is true) or `unless` (wanted is false)."""

    expression: Template
    wanted: bool


@dataclasses.dataclass(frozen=True)
class Action:
    """Fields of every action."""

    place: Place
    condition: Condition | None


@dataclasses.dataclass(frozen=True)
class Argument(Action):
    """`arg`: a launch argument; required if it has no default."""

    name: str
    default: Template | None
    description: str
    choices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Let(Action):
    """`let`: a variable."""

    name: Template
    value: Template


@dataclasses.dataclass(frozen=True)
class Namespace(Action):
    """`push_ros_namespace`: a namespace for the nodes that follow in the group."""

    namespace: Template


@dataclasses.dataclass(frozen=True)
class Group(Action):
    """`group`: a list of actions; after a scoped group, variables and namespace are as before it."""

    scoped: bool
    actions: tuple[Action, ...]


@dataclasses.dataclass(frozen=True)
class Include(Action):
    """`include`: another launch file."""

    file: Template
    arguments: tuple[tuple[Template, Template], ...]


@dataclasses.dataclass(frozen=True)
class ParameterFile:
    """`param` with `from`: a file of parameters, optionally with substitutions in it."""

    place: Place
    file: Template
    allow_substs: bool


@dataclasses.dataclass(frozen=True)
class Parameter:
    """`param` with `name`: one parameter. `value` is a template, or a YAML value without substitutions."""

    place: Place
    name: str
    value: Any
    kind: str | None


@dataclasses.dataclass(frozen=True)
class Process(Action):
    """Fields of both `node` and `executable`."""

    name: Template | None
    output: Template | None
    env: tuple[tuple[Template, Template], ...]
    required: bool
    respawn: Template | None
    respawn_delay_s: float
    respawn_max_retries: int


@dataclasses.dataclass(frozen=True)
class Executable(Process):
    """`executable`: any command."""

    cmd: Template


@dataclasses.dataclass(frozen=True)
class Node(Process):
    """`node`: a ROS node of a package."""

    package: Template
    executable: Template
    namespace: Template | None
    args: Template | None
    ros_args: Template | None
    remaps: tuple[tuple[Template, Template], ...]
    parameters: tuple[Parameter | ParameterFile, ...]


def read_file(path: Path) -> tuple[Action, ...]:
    """The actions of one launch file, in order.

    Raises:
        LaunchError: The file is no launch file, or has an unknown action or key; the text names file and line.
    """
    return _read_list(*source.read(path))


def _read_list(items: list[Any], around: Place) -> tuple[Action, ...]:
    found = []
    for kind, content, place in source.entries(items, around):
        if kind not in _READERS:
            raise place.error(f'unknown action {kind!r}{suggestion(kind, _READERS)}')
        if kind == 'group' and isinstance(content, list):
            found.append(Group(place, None, True, _read_list(content, place)))
            continue
        element = Element(kind, content, place)
        found.append(_READERS[kind](element, _condition(element)))
        element.finish()
    return tuple(found)


def _condition(element: Element) -> Condition | None:
    wanted, unwanted = _template(element, 'if'), _template(element, 'unless')
    if wanted and unwanted:
        raise element.place.error(f"'if' and 'unless' exclude each other in {element.kind!r}")
    if wanted or unwanted:
        return Condition(wanted or unwanted, wanted is not None)
    return None


def _template(element: Element, key: str) -> Template | None:
    text = element.get(key, str)
    return None if text is None else substitutions.parse(text, element.at(key))


def _required(element: Element, key: str) -> Template:
    return substitutions.parse(element.required_text(key), element.at(key))


def _pairs(element: Element, key: str, first: str, second: str) -> tuple[tuple[Template, Template], ...]:
    found = []
    for child in element.children(key):
        found.append((_required(child, first), _required(child, second)))
        child.finish()
    return tuple(found)


def _argument(element: Element, condition: Condition | None) -> Argument:
    choices = []
    for child in element.children('choice'):
        choices.append(child.required_text('value'))
        child.finish()
    return Argument(element.place, condition, element.required_text('name'), _template(element, 'default'),
                    element.get('description', str, ''), tuple(choices))


def _group(element: Element, condition: Condition | None) -> Group:
    children = element.value('children')
    if not isinstance(children, list):
        raise element.at('children').error("'group' needs a list of actions under 'children'")
    return Group(element.place, condition, element.get('scoped', bool, True), _read_list(children, element.at('children')))


def _process(element: Element, condition: Condition | None) -> dict[str, Any]:
    respawn, on_exit = _template(element, 'respawn'), element.get('on_exit', str)
    if on_exit not in (None, 'shutdown'):
        raise element.at('on_exit').error(f"'on_exit' of {element.kind!r} needs 'shutdown', got {on_exit!r}")
    if on_exit and respawn:
        raise element.at('respawn').error("'on_exit: shutdown' and 'respawn' exclude each other in one process")
    output = _template(element, 'output')
    if output and output.is_plain and ''.join(output.parts) not in _OUTPUTS:
        raise element.at('output').error(f"'output' needs one of {', '.join(_OUTPUTS)}, got {''.join(output.parts)!r}")
    return {
        'place': element.place,
        'condition': condition,
        'name': _template(element, 'name'),
        'output': output,
        'env': _pairs(element, 'env', 'name', 'value'),
        'required': on_exit == 'shutdown',
        'respawn': respawn,
        'respawn_delay_s': element.get('respawn_delay', float, 0.0),
        'respawn_max_retries': element.get('respawn_max_retries', int, -1),
    }


def _node(element: Element, condition: Condition | None) -> Node:
    return Node(
        **_process(element, condition),
        package=_required(element, 'pkg'),
        executable=_required(element, 'exec'),
        namespace=_template(element, 'namespace'),
        args=_template(element, 'args'),
        ros_args=_template(element, 'ros_args'),
        remaps=_pairs(element, 'remap', 'from', 'to'),
        parameters=tuple(found for child in element.children('param') for found in _parameters(child)),
    )


def _parameters(element: Element) -> list[Parameter | ParameterFile]:
    file = _template(element, 'from')
    if file:
        found = [ParameterFile(element.place, file, element.get('allow_substs', bool, False))]
        element.finish()
        return found
    return _named_parameters(element, '')


def _named_parameters(element: Element, prefix: str) -> list[Parameter]:
    name = prefix + element.required_text('name')
    nested, kind = element.children('param'), element.get('type', str)
    if kind not in (None, *_VALUE_TYPES):
        raise element.at('type').error(f"'type' of 'param' needs one of {', '.join(_VALUE_TYPES)}, got {kind!r}")
    value = element.value('value')
    element.finish()
    if (value is None) == (not nested) or (nested and kind):
        raise element.place.error(f"parameter {name!r} needs either a 'value' or a list of further parameters under 'param'")
    if nested:
        return [found for child in nested for found in _named_parameters(child, f'{name}.')]
    return [Parameter(element.place, name, _parameter_value(value, element.at('value')), kind)]


def _parameter_value(value: Any, place: Place) -> Any:
    if isinstance(value, str):
        return substitutions.parse(value, place)
    if isinstance(value, list):
        entries = list(value)
        if entries and len({type(entry) for entry in entries}) == 1 and isinstance(entries[0], bool | int | float | str):
            return entries
    elif isinstance(value, bool | int | float):
        return value
    raise place.error(f'a parameter needs a truth value, a number, a text or a list of one of these kinds, got {value!r}')


_READERS: dict[str, Callable[[Element, Condition | None], Action]] = {
    'arg': _argument,
    'let': lambda element, condition: Let(element.place, condition, _required(element, 'name'), _required(element, 'value')),
    'node': _node,
    'executable': lambda element, condition: Executable(**_process(element, condition), cmd=_required(element, 'cmd')),
    'include': lambda element, condition: Include(element.place, condition, _required(element, 'file'),
                                                  _pairs(element, 'arg', 'name', 'value')),
    'group': _group,
    'push_ros_namespace': lambda element, condition: Namespace(element.place, condition, _required(element, 'namespace')),
}
