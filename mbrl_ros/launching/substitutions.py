"""The substitutions `$(...)` in launch files: parsed once, then evaluated with the launch arguments.

The known ones are `$(var name)`, `$(env NAME)`, `$(env NAME default)`, `$(find-pkg-share package)`, `$(dirname)` and
`$(equals one other)`. Substitutions may be nested, and their arguments may be quoted.
"""

import dataclasses
import math
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from mbrl_ros.config import suggestion
from mbrl_ros.launching.source import Place
from mbrl_ros.resources import PACKAGE, share_directory

_TRUTHS = {'true': True, '1': True, 'false': False, '0': False}


@dataclasses.dataclass(frozen=True)
class Scope:
    """Values that substitutions may refer to: launch arguments and `let` values, and environment variables."""

    variables: Mapping[str, str]
    environment: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Call:
    """One `$(name argument ...)`."""

    name: str
    arguments: tuple['Template', ...]


@dataclasses.dataclass(frozen=True)
class Template:
    """Text with substitutions, and its place."""

    parts: tuple['str | Call', ...]
    place: Place

    @property
    def is_plain(self) -> bool:
        """Whether the text has no substitution."""
        return not any(isinstance(part, Call) for part in self.parts)

    def evaluate(self, scope: Scope) -> str:
        """The text with every substitution replaced.

        Raises:
            LaunchError: A variable or package does not exist.
        """
        return ''.join(part if isinstance(part, str) else self._call(part, scope) for part in self.parts)

    def words(self, scope: Scope) -> list[str]:
        """Command-line words: the text is split at blanks as by a shell, but substituted values are not split.

        Raises:
            LaunchError: A variable or package does not exist, or a quote is not closed.
        """
        marked = ''.join(part if isinstance(part, str) else f'\0{index}\0' for index, part in enumerate(self.parts))
        try:
            words = shlex.split(marked)
        except ValueError as error:
            raise self.place.error(f'{error} in {marked!r}') from None
        return [re.sub('\0(\\d+)\0', lambda found: self._call(self.parts[int(found[1])], scope), word) for word in words]

    def _call(self, call: Call, scope: Scope) -> str:
        arguments = [argument.evaluate(scope) for argument in call.arguments]
        return _FUNCTIONS[call.name][0](self.place, scope, *arguments)


def parse(text: str, place: Place) -> Template:
    """Find the substitutions in `text`.

    Raises:
        LaunchError: A substitution is unknown, not closed, or has the wrong number of arguments.
    """
    parts, position, literal = [], 0, ''
    while position < len(text):
        if text[position] == '\\' and position + 1 < len(text):
            literal, position = literal + text[position + 1], position + 2
        elif text.startswith('$(', position):
            end = _closing(text, position, place)
            parts += [literal, _parse_call(text[position + 2:end], place)]
            literal, position = '', end + 1
        else:
            literal, position = literal + text[position], position + 1
    return Template(tuple(part for part in [*parts, literal] if part != ''), place)


def typed(text: str, place: Place) -> bool | int | float | str | list:
    """Value of a substituted parameter, by YAML's rules: `7` is a whole number, `7.0` is not, `true` is a truth value.

    Raises:
        LaunchError: The text is YAML of another kind, such as a mapping.
    """
    try:
        value = yaml.safe_load(text) if text else text
    except yaml.YAMLError:
        raise place.error(f'{text!r} is not a parameter value') from None
    if not isinstance(value, bool | int | float | str | list):
        raise place.error(f'{text!r} is not a parameter value; a text that looks like one is given with `type: str`')
    return value


def _closing(text: str, start: int, place: Place) -> int:
    depth = 0
    for index in range(start, len(text)):
        if text.startswith('$(', index):
            depth += 1
        elif text[index] == ')' and text[index - 1] != '\\':
            depth -= 1
            if depth == 0:
                return index
    raise place.error(f'{text[start:]!r} lacks a closing parenthesis')


def _parse_call(inside: str, place: Place) -> Call:
    name, _, rest = inside.partition(' ')
    if name not in _FUNCTIONS:
        raise place.error(f'unknown substitution $({name} ...){suggestion(name, _FUNCTIONS)}')
    arguments = tuple(parse(argument, place) for argument in _split(rest))
    _, fewest, most = _FUNCTIONS[name]
    if not fewest <= len(arguments) <= most:
        wanted = f'{fewest}' if fewest == most else f'{fewest} to {most}'
        raise place.error(f'$({inside}) has {len(arguments)} arguments; {name} takes {wanted}')
    return Call(name, arguments)


def _split(text: str) -> list[str]:
    """Arguments in `text`, split at blanks outside of quotes and nested substitutions; '' is an empty argument."""
    arguments, current, quote, depth = [], None, '', 0
    for index, letter in enumerate(text):
        depth += text.startswith('$(', index)
        if not depth and letter == quote:
            quote = ''
        elif not depth and not quote and letter in '\'"':
            quote, current = letter, current or ''
        elif letter == ' ' and not depth and not quote:
            arguments, current = arguments + ([] if current is None else [current]), None
        else:
            current = (current or '') + letter
        depth -= letter == ')' and depth > 0
    return arguments + ([] if current is None else [current])


def _variable(place: Place, scope: Scope, name: str) -> str:
    if name not in scope.variables:
        raise place.error(f'$(var {name}) is neither an argument nor a let{suggestion(name, scope.variables)}')
    return scope.variables[name]


def _environment(place: Place, scope: Scope, name: str, default: str | None = None) -> str:
    value = scope.environment.get(name, default)
    if value is None:
        raise place.error(f'$(env {name}): the environment has no variable {name!r} and there is no default')
    return value


def _share(place: Place, scope: Scope, package: str) -> str:
    if package == PACKAGE:
        return str(share_directory())
    for prefix in filter(None, scope.environment.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
        if (Path(prefix) / 'share' / package).is_dir():
            return str(Path(prefix) / 'share' / package)
    raise place.error(f'$(find-pkg-share {package}): there is no such ROS package')


def _equals(_place: Place, _scope: Scope, one: str, other: str) -> str:
    """`true` or `false`; like ROS 2's launch, compare as truth values if both are, else as numbers, else as texts."""
    truths = [_TRUTHS.get(text.lower()) for text in (one, other)]
    if None not in truths:
        return str(truths[0] == truths[1]).lower()
    try:
        return str(math.isclose(float(one), float(other))).lower()
    except ValueError:
        return str(one == other).lower()


#: Function of each substitution, with its fewest and most arguments.
_FUNCTIONS: dict[str, tuple[Callable[..., str], int, int]] = {
    'var': (_variable, 1, 1),
    'env': (_environment, 1, 2),
    'find-pkg-share': (_share, 1, 1),
    'dirname': (lambda place, _: str(place.file.parent), 0, 0),
    'equals': (_equals, 2, 2),
}


def truth(text: str, place: Place) -> bool:
    """Value of a condition: true or 1, false or 0; upper and lower case are equal.

    Raises:
        LaunchError: The text is none of these.
    """
    word = text.strip().lower()
    if word not in _TRUTHS:
        raise place.error(f'a condition needs true or false, got {text!r}')
    return _TRUTHS[word]
