"""Launch files as YAML whose every value knows where it stands, so that an error can say so."""

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
    """Where something stands in a launch file; `line` counts from 1."""

    file: Path
    line: int

    def error(self, text: str) -> LaunchError:
        """The error that says `text` of this place."""
        return LaunchError(f'{self.file}:{self.line}: {text}')


class Element:
    """One mapping of a launch file, read key by key; `finish` refuses the keys that nobody asked for.

    Raises:
        LaunchError: It is no mapping.
    """

    def __init__(self, kind: str, data: Any, place: Place) -> None:
        if not isinstance(data, dict):
            raise place.error(f'{kind!r} needs a mapping, got {_shown(data)}')
        self.kind = kind
        self.place = place
        self._data = data
        self._asked: list[str] = []

    def text(self, key: str, default: str | None = None) -> str | None:
        """Text of `key`; ROS 2's launch refuses a bare number or truth value here, and so do we."""
        return self._typed(key, str, default)

    def required_text(self, key: str) -> str:
        """Text of `key`, which must be there.

        Raises:
            LaunchError: It is not, or is no text.
        """
        value = self.text(key)
        if value is None:
            raise self.place.error(f'{self.kind!r} needs the key {key!r}')
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Truth value of `key`."""
        return self._typed(key, bool, default)

    def number(self, key: str, kind: type, default: float) -> float:
        """Number of `key`, of exactly that type, as ROS 2's launch wants it; a `float` must not be negative.

        Raises:
            LaunchError: It is another.
        """
        value = self._typed(key, kind, default)
        if kind is float and value < 0:
            raise self.at(key).error(f'{key!r} of {self.kind!r} must not be negative, got {value}')
        return value

    def value(self, key: str) -> Any:
        """Whatever stands under `key`, None where nothing does."""
        self._asked.append(key)
        return self._data.get(key)

    def children(self, key: str) -> list['Element']:
        """The mappings listed under `key`, each an `Element` of kind `key`.

        Raises:
            LaunchError: There is no such list.
        """
        items = self.value(key)
        if items is None:
            return []
        if not isinstance(items, list) or not items:
            raise self.at(key).error(f'{key!r} of {self.kind!r} needs a list of mappings, got {_shown(items)}')
        return [Element(key, item, _item_place(self.at(key), items, index)) for index, item in enumerate(items)]

    def at(self, key: str) -> Place:
        """Where `key` stands, or the element itself where it is not given."""
        positions = self._data.lc.data if hasattr(self._data, 'lc') else {}
        return Place(self.place.file, positions[key][0] + 1) if key in positions else self.place

    def finish(self) -> None:
        """Refuse keys that were not asked for.

        Raises:
            LaunchError: There is one; the text names it and what would fit.
        """
        for key in self._data:
            if key not in self._asked:
                known = suggestion(str(key), dict.fromkeys(self._asked))
                raise self.at(key).error(f'unknown key {key!r} in {self.kind!r}{known}')

    def _typed(self, key: str, kind: type, default: Any) -> Any:
        value = self.value(key)
        if value is None and key not in self._data:
            return default
        fits = isinstance(value, kind) and not (kind is not bool and isinstance(value, bool))
        if not fits:
            raise self.at(key).error(f'{key!r} of {self.kind!r} needs {_KINDS[kind]}, got {_shown(value)}')
        return kind(value)


def read(path: Path) -> tuple[list[Any], Place]:
    """Items of the list under `launch` in one file, and where the list stands.

    Raises:
        LaunchError: The file is missing, is not YAML, repeats a key, or is not a list under `launch`.
    """
    try:
        loader = YAML(typ='rt')
        loader.version = (1, 1)  # as ROS 2 reads it: a bare `yes` is a truth value
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
    """Kind, content and place of each action in a list of `{kind: content}` mappings."""
    for index, item in enumerate(items):
        place = _item_place(around, items, index)
        if not isinstance(item, dict) or len(item) != 1:
            raise place.error(f'needs one action, as `- kind: ...`, got {_shown(item)}')
        [(kind, content)] = item.items()
        yield str(kind), content, place


def _item_place(around: Place, items: Any, index: int) -> Place:
    positions = items.lc.data if hasattr(items, 'lc') else {}
    return Place(around.file, positions[index][0] + 1) if index in positions else around


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
