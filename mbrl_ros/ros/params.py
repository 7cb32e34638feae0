"""ROS parameters from `Config` dataclasses: each setting is declared once, in pure code, and appears here by its dotted name.

Values are checked by the dataclass, so that ROS, YAML and Python callers get the same error. Integers are accepted where
a setting is a float, which ROS by itself refuses.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from mbrl_ros.config import Config, flat, leaves, suggestion
from mbrl_ros.errors import ConfigError

ConfigT = TypeVar('ConfigT', bound=Config)

_BUILT_IN = ('use_sim_time', 'start_type_description_service')
_BUILT_IN_PREFIXES = ('qos_overrides.',)
_LARGEST_INTEGER = 2**63 - 1
_LARGEST_FLOAT = 1.7976931348623157e308


def declare_config(node: Node, kind: type[ConfigT],
                   following: Mapping[str, Callable[[Any], Mapping[str, Any]]] | None = None,
                   blank: Mapping[str, Any] | None = None) -> ConfigT:
    """Declare every setting of a `Config` as a ROS parameter and build the config from what was given.

    Args:
        node: Node whose parameters they become.
        kind: Config dataclass; nested configs give dotted names.
        following: By the name of a setting, what other defaults follow from its value, nested as in the config; what was given
            explicitly comes before them.
        blank: By the name of a setting, the value that counts as none given, for launch files, which cannot leave one out.

    Raises:
        ConfigError: A parameter was given that the node does not have, or a value does not fit.
    """
    fields = dict(leaves(kind))
    # rclpy keeps silent about overrides that no declaration asks for, and offers no public view of them.
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
    """What was given for a parameter that is not declared yet, as which others there are may hang on it."""
    parameter = node._parameter_overrides.get(name)
    return default if parameter is None else str(parameter.value)


def watch_live(node: Node, config: ConfigT, on_change: Callable[[ConfigT], None]) -> None:
    """Let settings declared `live` change while the node runs.

    An update is checked as a whole and refused as a whole; `on_change` gets the new config once it holds.

    Args:
        node: The node given to `declare_config`.
        config: What that call returned.
        on_change: Called in the executor's thread.
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

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(apply)


def _declare(node: Node, name: str, field: dataclasses.Field, default: Any, is_blank: bool) -> Any:
    try:
        return node.declare_parameter(name, _to_ros(default), _descriptor(field), ignore_override=is_blank).value
    except Exception as error:  # rclpy raises a family of its own, each with a clear text.
        raise ConfigError(f'{node.get_name()}: parameter {name!r}: {error}') from None


def _build(kind: type[ConfigT], values: dict[str, Any], where: str) -> ConfigT:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *sections, leaf = name.split('.')
        place = nested
        for part in sections:
            place = place.setdefault(part, {})
        place[leaf] = _from_ros(value)
    return kind.from_mapping(nested, where)


def _default(field: dataclasses.Field) -> Any:
    if field.default is dataclasses.MISSING:
        raise ConfigError(f'setting {field.name!r} has no default, so it cannot be a ROS parameter')
    return field.default


def _to_ros(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _from_ros(value: Any) -> Any:
    # ROS arrays arrive as array.array or list; an empty one has no element type and arrives as bytes or strings.
    if isinstance(value, str | bool | int | float | None):
        return value
    return tuple(value)


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
    elif isinstance(field.default, float):
        bounds = (-_LARGEST_FLOAT if low is None else float(low), _LARGEST_FLOAT if high is None else float(high))
        descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1], step=0.0)]
    return descriptor
