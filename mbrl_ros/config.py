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

_MISSING = dataclasses.MISSING
_ConfigT = TypeVar('_ConfigT', bound='Config')


def setting(default: Any = _MISSING, doc: str = '', *, unit: str = '', low: float | None = None, high: float | None = None,
            choices: tuple | None = None, live: bool = False) -> Any:
    """Declare one field of a `Config`.

    Args:
        default: Value when nothing is given; leave out to make the field required.
        doc: One sentence; becomes the ROS parameter's description.
        unit: SI unit, for the description; the field's name carries it too where the value crosses a boundary.
        low: Smallest allowed value, for numbers and for each entry of a tuple of numbers.
        high: Largest allowed value, likewise.
        choices: The allowed values, if they are few.
        live: Whether the value may change while the node runs; others are read-only ROS parameters.
    """
    metadata = {'doc': doc, 'unit': unit, 'low': low, 'high': high, 'choices': choices, 'live': live}
    if default is _MISSING:
        return dataclasses.field(metadata=metadata, kw_only=True)
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


def section(kind: type['Config'], doc: str = '') -> Any:
    """Declare a nested `Config` whose settings appear as `<field>.<name>`."""
    return dataclasses.field(default_factory=kind, metadata={'doc': doc}, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of all settings; checks every field on construction.

    Subclasses are frozen dataclasses too. A rule over several fields goes into an overridden `check`.

    Raises:
        ConfigError: A value has the wrong type or lies outside its range; the text names key, value and what fits.
    """

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for field in dataclasses.fields(self):
            value = _coerced(getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
            _check_field(type(self).__name__, field, value, hints[field.name])
        self.check()

    def check(self) -> None:
        """Raise `ConfigError` when fields that are each fine do not fit together."""

    @classmethod
    def from_mapping(cls: type[_ConfigT], values: Mapping[str, Any], where: str = '') -> _ConfigT:
        """Build from a plain nested mapping, as YAML gives it.

        Args:
            values: Field names to values; sections are mappings themselves.
            where: File or message the values come from, for errors.

        Raises:
            ConfigError: Unknown or missing keys, or values that do not fit.
        """
        place = f'{where}: ' if where else ''
        if not isinstance(values, Mapping):
            raise ConfigError(f'{place}{cls.__name__} needs a mapping of settings, got {values!r}')
        known = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise ConfigError(f'{place}unknown key {key!r} in {cls.__name__}{suggestion(str(key), known)}')
        hints = _hints(cls)
        arguments = {}
        for name, field in known.items():
            if name not in values:
                if field.default is _MISSING and field.default_factory is _MISSING:
                    raise ConfigError(f'{place}{cls.__name__} needs the key {name!r}')
                continue
            nested = _config_type(hints[name])
            raw = values[name]
            arguments[name] = nested.from_mapping(raw, where) if nested and isinstance(raw, Mapping) else raw
        try:
            return cls(**arguments)
        except ConfigError as error:
            raise ConfigError(f'{place}{error}') from None

    @classmethod
    def from_file(cls: type[_ConfigT], path: Path, changes: Sequence[str] = ()) -> _ConfigT:
        """Read a YAML file and change single settings of it.

        Args:
            path: Of the file, whose settings have to fit without the changes.
            changes: As for `with_changes`; errors name them as the command line does, `--set`.

        Raises:
            ConfigError: No such file, or a key or value of it or of a change that does not fit.
        """
        values = load_yaml(path)
        config = cls.from_mapping(values, str(path))
        return cls.from_mapping(with_changes(values, changes), '--set') if changes else config

    def to_mapping(self) -> dict[str, Any]:
        """Plain nested dict of every resolved value, ready for YAML or JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


@functools.cache
def extended(kind: type[_ConfigT], other: type[Config]) -> type[_ConfigT]:
    """Subclass of a `Config` that has the settings of another beside its own; `part` takes them out again.

    It is found by no name; its attribute `extends` is the class that it was made of.

    Raises:
        ConfigError: Both have a setting of the same name.
    """
    own = {field.name for field in dataclasses.fields(kind)}
    fields = dataclasses.fields(other)
    if shared := [field.name for field in fields if field.name in own]:
        raise ConfigError(f'{kind.__name__} and {other.__name__} both have {", ".join(shared)}')
    hints = _hints(other)
    added = [(field.name, hints[field.name], dataclasses.field(
        default=field.default, default_factory=field.default_factory, metadata=field.metadata, kw_only=True)) for field in fields]
    return dataclasses.make_dataclass(kind.__name__, added, bases=(kind,), namespace={'extends': kind}, frozen=True)


def part(config: Config, kind: type[_ConfigT]) -> _ConfigT:
    """Those settings of a config that another kind of `Config` has."""
    return kind(**{field.name: getattr(config, field.name) for field in dataclasses.fields(kind)})


def leaves(kind: type[Config], prefix: str = '') -> typing.Iterator[tuple[str, dataclasses.Field]]:
    """Every setting of a config with its dotted name, those of nested configs in their place.

    Args:
        kind: Config dataclass.
        prefix: Put before each name.
    """
    hints = _hints(kind)
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
    """A nested mapping with some of its values changed.

    Args:
        values: As `load_yaml` gives it; not modified.
        changes: Each a dotted key and a YAML value, as in `planner.horizon=9`.

    Raises:
        ConfigError: A change is not of this form, or its key leads through something that is no section.
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
    """`; did you mean 'x'?` where a known word is close, else the list of known words."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f'; did you mean {close[0]!r}?' if close else f'; known: {", ".join(known)}'


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML silently keeps the last of two equal keys; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        repeated = {str(key) for key in keys if keys.count(key) > 1}
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f'repeats the key {", ".join(sorted(repeated))}', node.start_mark)
        return super().construct_mapping(node, deep)


def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


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
            if not math.isfinite(entry):
                raise ConfigError(f'{key} needs a finite number, got {entry!r}')
            if (low is not None and entry < low) or (high is not None and entry > high):
                bounds = f'[{"-inf" if low is None else low}, {"inf" if high is None else high}]'
                raise ConfigError(f'{key} needs a value in {bounds} {field.metadata["unit"]}'.rstrip() + f', got {entry!r}')


def _is_of_type(value: Any, hint: Any) -> bool:
    if hint is type(None) or hint is None:
        return value is None
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
