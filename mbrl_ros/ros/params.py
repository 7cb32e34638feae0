"""ROS parameters from `Config` dataclasses: each field of a config becomes a parameter with the field's dotted name.

The dataclass checks the values, so that ROS, YAML and Python callers get the same error. A float setting also accepts an
integer, which ROS by itself refuses.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.node import Node
from rclpy.parameter import Parameter

from mbrl_ros.config import Config, flat, leaves, suggestion
from mbrl_ros.errors import ConfigError

ConfigT = TypeVar('ConfigT', bound=Config)

_BUILT_IN = ('use_sim_time', 'start_type_description_service')
_BUILT_IN_PREFIXES = ('qos_overrides.',)
_LARGEST_INTEGER = 2**63 - 1


def declare_config(node: Node, kind: type[ConfigT],
                   following: Mapping[str, Callable[[Any], Mapping[str, Any]]] | None = None,
                   blank: Mapping[str, Any] | None = None) -> ConfigT:
    """Declare every setting of a `Config` as a ROS parameter and build the config from the given values.

    Args:
        node: Node that gets the parameters.
        kind: Config dataclass; nested configs give dotted names.
        following: By the name of a setting, a function from its value to defaults of other settings, nested as in the config;
            explicitly given values override these defaults.
        blank: By the name of a setting, the value that counts as not given; launch files cannot leave a parameter out.

    Raises:
        ConfigError: An unknown parameter was given, a value does not fit, or a setting has no default.
    """
    fields = dict(leaves(kind))
    # rclpy ignores overrides of undeclared parameters, and has no public access to them.
    for name in node._parameter_overrides:
        if name not in fields and name not in _BUILT_IN and not name.startswith(_BUILT_IN_PREFIXES):
            raise ConfigError(f'{node.get_name()}: unknown parameter {name!r}{suggestion(name, fields)}')
    given = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
    blanks = {name for name, value in (blank or {}).items() if given.get(name) == value}
    values, defaults = {}, {name: _default(field) for name, field in fields.items()}
    for name, follow in (following or {}).items():
        values[name] = _declare(node, name, fields[name], defaults[name], name in blanks)
        defaults.update(flat(follow(values[name])))
    for name, field in fields.items():
        if name not in values:
            values[name] = _declare(node, name, field, defaults[name], name in blanks)
    return _build(kind, values, node.get_name())


def given(node: Node, name: str, default: str) -> str:
    """The value given for a parameter that is not declared yet; which parameters a node has may depend on it."""
    parameter = node._parameter_overrides.get(name)
    return default if parameter is None else str(parameter.value)


def watch_live(node: Node, config: ConfigT, on_change: Callable[[ConfigT], None]) -> None:
    """Let settings declared `live` change while the node runs; an update is accepted or refused as a whole.

    Args:
        node: The node given to `declare_config`.
        config: The config that `declare_config` returned.
        on_change: Called with the new config in the executor's thread.
    """
    kind = type(config)
    fields = dict(leaves(kind))

    def current(changes: list[Parameter]) -> ConfigT:
        values = {name: node.get_parameter(name).value for name in fields}
        values.update({change.name: change.value for change in changes if change.name in fields})
        return _build(kind, values, node.get_name())

    def check(changes: list[Parameter]) -> SetParametersResult:
        try:
            current(changes)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def apply(changes: list[Parameter]) -> None:
        if any(change.name in fields for change in changes):
            on_change(current([]))

    def require_known(changes: list[Parameter]) -> list[Parameter]:
        for change in changes:
            if not node.has_parameter(change.name):
                raise _UnknownParameter(f'{node.get_name()}: unknown parameter {change.name!r}{suggestion(change.name, fields)}')
        return changes

    node.add_pre_set_parameters_callback(require_known)
    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(apply)


class _UnknownParameter(ParameterNotDeclaredException):
    """As rclpy's, which the parameter services turn into an answer, but with a text that names the parameter."""

    def __init__(self, text: str) -> None:
        Exception.__init__(self, text)


def _declare(node: Node, name: str, field: dataclasses.Field, default: Any, is_blank: bool) -> Any:
    value = list(default) if isinstance(default, tuple) else default
    try:
        return node.declare_parameter(name, value, _descriptor(field), ignore_override=is_blank).value
    except Exception as error:  # rclpy raises errors of several classes, each with a clear text.
        raise ConfigError(f'{node.get_name()}: parameter {name!r}: {error}') from None


def _build(kind: type[ConfigT], values: dict[str, Any], where: str) -> ConfigT:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *sections, leaf = name.split('.')
        place = nested
        for part in sections:
            place = place.setdefault(part, {})
        # ROS arrays arrive as array.array or list; an empty one has no element type and arrives as bytes or strings.
        place[leaf] = value if isinstance(value, str | bool | int | float | None) else tuple(value)
    return kind.from_mapping(nested, where)


def _default(field: dataclasses.Field) -> Any:
    if field.default is dataclasses.MISSING:
        raise ConfigError(f'setting {field.name!r} has no default, so it cannot be a ROS parameter')
    return field.default


def _descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    metadata = field.metadata
    low, high, choices = metadata['low'], metadata['high'], metadata['choices']
    unit = f' [{metadata["unit"]}]' if metadata['unit'] else ''
    is_array = isinstance(field.default, tuple)
    descriptor = ParameterDescriptor(
        description=f'{metadata["doc"]}{unit}',
        read_only=not metadata['live'],
        dynamic_typing=is_array or isinstance(field.default, float),
        additional_constraints=f'one of {", ".join(map(str, choices))}' if choices else '',
    )
    if is_array or isinstance(field.default, bool) or (low is None and high is None):
        return descriptor
    if isinstance(field.default, int):
        bounds = (-_LARGEST_INTEGER if low is None else int(low), _LARGEST_INTEGER if high is None else int(high))
        descriptor.integer_range = [IntegerRange(from_value=bounds[0], to_value=bounds[1], step=0)]
    elif isinstance(field.default, float) and None not in (low, high):
        # With one bound alone, rclpy's text would name the largest double; the config's is better.
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    return descriptor
