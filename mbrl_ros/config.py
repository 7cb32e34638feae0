"""Settings: each listed once, as a field of a frozen dataclass beside the component that uses it.

A `Config` subclass declares its fields with `setting(...)`, which records default, unit, range and meaning. The ROS
parameters (`ros/params.py`), the YAML files and the documentation are all read from these declarations.
"""

import copy
import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mbrl_ros.errors import ConfigError

_ConfigT = TypeVar('_ConfigT', bound='Config')


def setting(default: Any = dataclasses.MISSING, doc: str = '', *, unit: str = '', low: float | None = None,
            high: float | None = None, choices: tuple | None = None, live: bool = False, finite: bool = True) -> Any:
    """Declare one field of a `Config`.

    Args:
        default: The field is required without one.
        doc: One sentence; becomes the ROS parameter's description.
        unit: SI unit, for the description.
        low: Smallest allowed number, or entry of a tuple of numbers.
        high: Largest allowed number or entry.
        choices: The allowed values, if they are few.
        live: Whether the value may change while the node runs; otherwise the ROS parameter is read-only.
        finite: Whether infinity is refused.
    """
    metadata = {'doc': doc, 'unit': unit, 'low': low, 'high': high, 'choices': choices, 'live': live, 'finite': finite}
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


def section(kind: type['Config'], doc: str = '', **metadata: Any) -> Any:
    """Declare a nested `Config` whose settings appear as `<field>.<name>`."""
    return dataclasses.field(default_factory=kind, metadata={'doc': doc, **metadata}, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of all settings; checks every field on construction.

    Subclasses are frozen dataclasses too. A rule over several fields goes into an overridden `check`.

    Raises:
        ConfigError: A value has the wrong type or is out of range; the text names the key, the value and the allowed values.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _coerced(getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
            _check_field(type(self).__name__, field, value, hints[field.name])
        self.check()

    def check(self) -> None:
        """Raise ConfigError when fields contradict each other, such as a lower bound above an upper one."""

    @classmethod
    def from_mapping(cls: type[_ConfigT], values: Mapping[str, Any], where: str = '') -> _ConfigT:
        """Build from a plain nested mapping, as YAML gives it.

        Args:
            values: Values by field name; a section is a mapping itself.
            where: File or message that has the values; errors begin with it.

        Raises:
            ConfigError: A key is unknown or missing, or a value does not fit.
        """
        place = f'{where}: ' if where else ''
        if not isinstance(values, Mapping):
            raise ConfigError(f'{place}{cls.__name__} needs a mapping of settings, got {values!r}')
        known = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise ConfigError(f'{place}unknown key {key!r} in {cls.__name__}{suggestion(str(key), known)}')
        hints = typing.get_type_hints(cls)
        arguments = {}
        for name, field in known.items():
            if name not in values:
                if field.default is field.default_factory is dataclasses.MISSING:
                    raise ConfigError(f'{place}{cls.__name__} needs the key {name!r}')
                continue
            nested = _config_type(hints[name])
            raw = values[name]
            arguments[name] = nested.from_mapping(raw, where) if nested and isinstance(raw, Mapping) else raw
        try:
            return cls(**arguments)
        except ConfigError as error:
            raise ConfigError(f'{place}{error}') from None

    def to_mapping(self) -> dict[str, Any]:
        """Plain nested dict of every resolved value, ready for YAML or JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def declared(kind: type['Config'], field: dataclasses.Field) -> tuple[str, Any, Any]:
    """Name, type and declaration of a field of a class, for another class that is made with it."""
    return field.name, typing.get_type_hints(kind)[field.name], dataclasses.field(
        default=field.default, default_factory=field.default_factory, metadata=field.metadata, kw_only=True)


@functools.cache
def extended(kind: type[_ConfigT], other: type[Config]) -> type[_ConfigT]:
    """Subclass of a `Config` with the settings of another one too; `part` extracts these again.

    No module has the subclass as an attribute, so pickle cannot find it; its attribute `extends` is the class `kind`.

    Raises:
        ConfigError: Both classes have a setting of the same name.
    """
    own = {field.name for field in dataclasses.fields(kind)}
    fields = dataclasses.fields(other)
    if shared := [field.name for field in fields if field.name in own]:
        raise ConfigError(f'{kind.__name__} and {other.__name__} both have {", ".join(shared)}')
    added = [declared(other, field) for field in fields]
    return dataclasses.make_dataclass(kind.__name__, added, bases=(kind,), namespace={'extends': kind}, frozen=True)


def part(config: Config, kind: type[_ConfigT]) -> _ConfigT:
    """Extract the settings that a class lists from a config with more settings."""
    return kind(**{field.name: getattr(config, field.name) for field in dataclasses.fields(kind)})


def leaves(kind: type[Config], prefix: str = '') -> typing.Iterator[tuple[str, dataclasses.Field]]:
    """Every setting of a config with its dotted name, such as `planner.horizon`; `prefix` is put before each name."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Config):
            yield from leaves(hint, f'{prefix}{field.name}.')
        else:
            yield prefix + field.name, field


def flat(nested: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Values of a nested mapping by dotted name."""
    values = {}
    for key, value in nested.items():
        values.update(flat(value, f'{prefix}{key}.') if isinstance(value, Mapping) else {f'{prefix}{key}': value})
    return values


def load_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: The file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        data = yaml.load(path.read_text(encoding='utf-8'), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read ({error.strerror})') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: is not valid YAML ({error})') from None
    if not isinstance(data, dict):
        raise ConfigError(f'{path}: needs a mapping at the top, got {type(data).__name__}')
    return data


def with_changes(values: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Copy a nested mapping and change some of its values.

    Args:
        values: Not modified.
        changes: Dotted keys with YAML values, such as `planner.horizon=9`.

    Raises:
        ConfigError: A change has another form, or a part of its key names a value and not a section.
    """
    changed = copy.deepcopy(dict(values))
    for change in changes:
        key, equals, text = change.partition('=')
        *path, last = key.strip().split('.')
        node = changed
        for name in path:
            node = node.setdefault(name, {}) if isinstance(node, dict) else None
        if not equals or not last or not isinstance(node, dict):
            raise ConfigError(f'a changed setting needs the form section.name=value, got {change!r}')
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f'{key} needs a YAML value, got {text!r}') from None
    return changed


def suggestion(word: str, known: typing.Iterable[str]) -> str:
    """End of an error text: `; did you mean 'x'?` if a known word is close, else `; known: x, y`."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f'; did you mean {close[0]!r}?' if close else f'; known: {", ".join(known)}'


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses repeated keys; YAML silently keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        repeated = {str(key) for key in keys if keys.count(key) > 1}
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f'repeats the key {", ".join(sorted(repeated))}', node.start_mark)
        return super().construct_mapping(node, deep)


def _config_type(hint: Any) -> type[Config] | None:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((option for option in options if isinstance(option, type) and issubclass(option, Config)), None)


def _coerced(value: Any, hint: Any) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        kind = typing.get_args(hint)[0]
        return tuple(_coerced(entry, kind) for entry in value)
    return value


def _check_field(owner: str, field: dataclasses.Field, value: Any, hint: Any) -> None:
    key = f'{owner}.{field.name}'
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if not any(_is_of_type(value, option) for option in options):
        names = ' or '.join(getattr(option, '__name__', str(option)) for option in options)
        raise ConfigError(f'{key} needs {names}, got {value!r}')
    if value is None or isinstance(value, Config):
        return
    entries = value if isinstance(value, tuple) else (value,)
    choices, low, high = (field.metadata.get(name) for name in ('choices', 'low', 'high'))
    for entry in entries:
        if choices and entry not in choices:
            raise ConfigError(f'{key} needs one of {", ".join(map(str, choices))}, got {entry!r}')
        if isinstance(entry, int | float) and not isinstance(entry, bool):
            if math.isnan(entry) or (math.isinf(entry) and field.metadata.get('finite', True)):
                raise ConfigError(f'{key} needs a finite number, got {entry!r}')
            if (low is not None and entry < low) or (high is not None and entry > high):
                bounds = f'[{"-inf" if low is None else low}, {"inf" if high is None else high}]'
                raise ConfigError(f'{key} needs a value in {bounds} {field.metadata["unit"]}'.rstrip() + f', got {entry!r}')


def _is_of_type(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_is_of_type(entry, kind) for entry in value)
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, hint)


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_mapping()
    return list(value) if isinstance(value, tuple) else value
