"""Launch files as YAML with the file and line of every value, for error messages."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mbrl_ros.config import suggestion
from mbrl_ros.errors import LaunchError

_KINDS = {str: 'text (quote it)', bool: 'true or false', int: 'a whole number', float: 'a number with a decimal point'}


@dataclasses.dataclass(frozen=True)
class Place:
    """A line of a launch file; `line` counts from 1."""

    file: Path
    line: int

    def error(self, text: str) -> LaunchError:
        """An error with file, line and `text`."""
        return LaunchError(f'{self.file}:{self.line}: {text}')


class Element:
    """One mapping of a launch file, read key by key; `finish` refuses all keys that were not read.

    Raises:
        LaunchError: The data is no mapping.
    """

    def __init__(self, kind: str, data: Any, place: Place) -> None:
        if not isinstance(data, dict):
            raise place.error(f'{kind!r} needs a mapping, got {_shown(data)}')
        self.kind = kind
        self.place = place
        self._data = data
        self._asked: list[str] = []

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Value of `key`, of exactly the type `kind`; the default if the key is missing.

        Raises:
            LaunchError: The value has another type, which ROS 2's launch refuses as well, or is a negative `float`.
        """
        value = self.value(key)
        if value is None and key not in self._data:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.at(key).error(f'{key!r} of {self.kind!r} needs {_KINDS[kind]}, got {_shown(value)}')
        if kind is float and value < 0:
            raise self.at(key).error(f'{key!r} of {self.kind!r} must not be negative, got {value}')
        return kind(value)

    def required_text(self, key: str) -> str:
        """Text of `key`.

        Raises:
            LaunchError: The key is missing, or its value is no text.
        """
        value = self.get(key, str)
        if value is None:
            raise self.place.error(f'{self.kind!r} needs the key {key!r}')
        return value

    def value(self, key: str) -> Any:
        """Value of `key`, of any type; None if it is missing."""
        self._asked.append(key)
        return self._data.get(key)

    def children(self, key: str) -> list['Element']:
        """The mappings listed under `key`, each an `Element` of kind `key`.

        Raises:
            LaunchError: The value is no list of mappings.
        """
        items = self.value(key)
        if items is None:
            return []
        if not isinstance(items, list) or not items:
            raise self.at(key).error(f'{key!r} of {self.kind!r} needs a list of mappings, got {_shown(items)}')
        return [Element(key, item, _place_in(items, index, self.at(key))) for index, item in enumerate(items)]

    def at(self, key: str) -> Place:
        """Place of `key`, or of the element if the key is missing."""
        return _place_in(self._data, key, self.place)

    def finish(self) -> None:
        """Refuse keys that were not read.

        Raises:
            LaunchError: There is such a key; the text names it, and the known ones.
        """
        for key in self._data:
            if key not in self._asked:
                known = suggestion(str(key), dict.fromkeys(self._asked))
                raise self.at(key).error(f'unknown key {key!r} in {self.kind!r}{known}')


def read(path: Path) -> tuple[list[Any], Place]:
    """Items of the list under `launch` in one file, and the place of the list.

    Raises:
        LaunchError: The file is missing, is not YAML, repeats a key, or is not a list under `launch`.
    """
    try:
        loader = YAML(typ='rt')
        loader.version = (1, 1)  # ROS 2 reads this version too: a bare `yes` is a truth value.
        data = loader.load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise LaunchError(f'{path}: cannot be read ({error.strerror})') from None
    except UnicodeDecodeError as error:
        raise LaunchError(f'{path}: is not UTF-8 text ({error})') from None
    except YAMLError as error:
        raise _yaml_error(path, error) from None
    top = Element('file', data, Place(path, 1))
    items = top.value('launch')
    top.finish()
    place = top.at('launch')
    if not isinstance(items, list):
        raise place.error(f"needs a list under 'launch', got {_shown(items)}")
    return items, place


def entries(items: Iterable[Any], around: Place) -> Iterator[tuple[str, Any, Place]]:
    """Kind, content and place of each action in a list of `{kind: content}` mappings.

    Raises:
        LaunchError: An item is no such mapping.
    """
    for index, item in enumerate(items):
        place = _place_in(items, index, around)
        if not isinstance(item, dict) or len(item) != 1:
            raise place.error(f'needs one action, as `- kind: ...`, got {_shown(item)}')
        [(kind, content)] = item.items()
        yield str(kind), content, place


def _place_in(data: Any, key: str | int, around: Place) -> Place:
    """Place of one entry of a mapping or list; `around` if YAML gives none."""
    positions = data.lc.data if hasattr(data, 'lc') else {}
    return Place(around.file, positions[key][0] + 1) if key in positions else around


def _yaml_error(path: Path, error: YAMLError) -> LaunchError:
    mark = error.problem_mark or error.context_mark if isinstance(error, MarkedYAMLError) else None
    text = (error.problem or error.context) if isinstance(error, MarkedYAMLError) else str(error)
    reason = ' '.join(str(text).split())
    return Place(path, mark.line + 1).error(reason) if mark else LaunchError(f'{path}: {reason}')


def _shown(value: Any) -> str:
    if value is None:
        return 'nothing'
    if isinstance(value, dict | list):
        return 'a mapping' if isinstance(value, dict) else 'a list'
    return f'{value!r}'
