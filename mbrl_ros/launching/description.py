"""A launch file with its arguments filled in: the flat list of processes to run.

The meaning is that of ROS 2's launch. All files share their variables: an included file sees every variable set before it, and
its own variables stay set after it, unless a scoped group surrounds it.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mbrl_ros.config import suggestion
from mbrl_ros.errors import LaunchError
from mbrl_ros.launching import actions, executables, substitutions
from mbrl_ros.launching.actions import Argument, Executable, Group, Include, Let, Namespace, Node, Process
from mbrl_ros.launching.source import Place
from mbrl_ros.launching.substitutions import Scope, Template
from mbrl_ros.resources import share_directory

_KINDS = {'str': str, 'int': int, 'float': float}


@dataclasses.dataclass(frozen=True)
class ProcessSpec:
    """One process to run.

    Attributes:
        name: Label of its log lines, unique in the launch.
        command: Words of the command line.
        environment: Variables on top of the launch's own.
        output: `screen`, `log` or `both`.
        required: Whether its end ends the launch.
        respawn: Whether it is started again when it ends; an end with `EXIT_REFUSED` ends the launch instead.
        respawn_delay_s: Wait before a restart.
        respawn_max_retries: Largest number of restarts; without limit if negative.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    output: str = 'log'
    required: bool = False
    respawn: bool = False
    respawn_delay_s: float = 0.0
    respawn_max_retries: int = -1


def find_file(name: str) -> Path:
    """Path of a launch file, from its path or its name in the package's `launch/`, with or without `.launch.yaml`.

    Raises:
        LaunchError: There is no such file; the text lists the package's launch files.
    """
    folder = share_directory() / 'launch'
    for path in (Path(name).expanduser(), folder / name, folder / f'{name}.launch.yaml'):
        if path.is_file():
            return path.resolve() if path.parent != folder else path
    known = ', '.join(sorted(path.name for path in folder.glob('*.launch.yaml')))
    raise LaunchError(f'there is no launch file {name!r}; the package has {known}')


def declared_arguments(path: Path, environment: Mapping[str, str]) -> list[Argument]:
    """The arguments of a launch file, then those of its included files, except the arguments that it sets itself.

    Raises:
        LaunchError: A file cannot be read.
    """
    found: dict[str, Argument] = {}
    _collect(actions.read_file(path), Scope({}, environment), found, {path.resolve()})
    return list(found.values())


def resolve(path: Path, given: Mapping[str, str], environment: Mapping[str, str], scratch: Path) -> list[ProcessSpec]:
    """The processes that a launch file describes.

    Args:
        path: The launch file.
        given: Launch arguments by name.
        environment: Environment variables, for `$(env ...)` and to find packages.
        scratch: Folder for parameter files with filled-in substitutions; must outlive the processes.

    Raises:
        LaunchError: An argument is unknown, missing or not among its choices, or the file cannot be carried out.
    """
    known = [argument.name for argument in declared_arguments(path, environment)]
    for name in given:
        if name not in known:
            raise LaunchError(f'{path.name} has no argument {name!r}{suggestion(name, known)}')
    resolver = _Resolver(dict(given), environment, scratch)
    resolver.run(actions.read_file(path))
    if not resolver.found:
        raise LaunchError(f'{path}: with these arguments there is nothing to run')
    return resolver.found


def parse_given(words: list[str]) -> dict[str, str]:
    """Launch arguments from command-line words `name:=value`; for a repeated name the last word counts.

    Raises:
        LaunchError: A word has another form.
    """
    given = {}
    for word in words:
        name, separator, value = word.partition(':=')
        if not separator or not name:
            raise LaunchError(f'{word!r} is not a launch argument; write name:=value')
        given[name] = value
    return given


def _collect(items: tuple[actions.Action, ...], scope: Scope, found: dict[str, Argument], visited: set[Path]) -> None:
    included: list[Include] = []
    for action in items:
        if isinstance(action, Argument):
            found.setdefault(action.name, action)
        elif isinstance(action, Group):
            _collect(action.actions, scope, found, visited)
        elif isinstance(action, Include):
            included.append(action)
    for action in included:
        with contextlib.suppress(LaunchError):  # The file's name may depend on arguments.
            path = Path(action.file.evaluate(scope))
            if path.resolve() not in visited:
                inner: dict[str, Argument] = {}
                _collect(actions.read_file(path), scope, inner, visited | {path.resolve()})
                decided = {name.evaluate(scope) for name, _ in action.arguments}
                for name, argument in inner.items():
                    if name not in decided:
                        found.setdefault(name, argument)


class _Resolver:
    """Carries out the actions in order, as ROS 2's launch does, and collects the processes."""

    def __init__(self, variables: dict[str, str], environment: Mapping[str, str], scratch: Path) -> None:
        self.found: list[ProcessSpec] = []
        self._variables = variables
        self._scope = Scope(variables, environment)
        self._scratch = scratch
        self._namespace: str | None = None
        self._including: list[Path] = []

    def run(self, items: tuple[actions.Action, ...]) -> None:
        """Carry out the actions whose condition holds."""
        for action in items:
            if not self._holds(action.condition):
                continue
            if isinstance(action, Argument):
                self._declare(action)
            elif isinstance(action, Let):
                self._variables[action.name.evaluate(self._scope)] = action.value.evaluate(self._scope)
            elif isinstance(action, Namespace):
                self._namespace = _joined(self._namespace, action.namespace.evaluate(self._scope))
            elif isinstance(action, Group):
                with self._scoped() if action.scoped else contextlib.nullcontext():
                    self.run(action.actions)
            elif isinstance(action, Include):
                self._include(action)
            elif isinstance(action, Node):
                self._add(action, self._node_command(action), action.executable.evaluate(self._scope))
            elif isinstance(action, Executable):
                words = action.cmd.words(self._scope)
                self._add(action, words, self._text(action.name) or Path(words[0]).name)

    def _holds(self, condition: actions.Condition | None) -> bool:
        if condition is None:
            return True
        text = condition.expression.evaluate(self._scope)
        return substitutions.truth(text, condition.expression.place) == condition.wanted

    def _text(self, template: Template | None) -> str | None:
        return None if template is None else template.evaluate(self._scope)

    @contextlib.contextmanager
    def _scoped(self) -> Iterator[None]:
        variables, namespace = dict(self._variables), self._namespace
        yield
        self._variables.clear()
        self._variables.update(variables)
        self._namespace = namespace

    def _declare(self, argument: Argument) -> None:
        if argument.name not in self._variables:
            if argument.default is None:
                text = f' ({argument.description})' if argument.description else ''
                raise argument.place.error(f'the argument {argument.name!r}{text} is required; give {argument.name}:=<value>')
            self._variables[argument.name] = argument.default.evaluate(self._scope)
        value = self._variables[argument.name]
        if argument.choices and value not in argument.choices:
            raise LaunchError(f'{argument.name}:={value}: {argument.name} needs one of {", ".join(argument.choices)}')

    def _include(self, action: Include) -> None:
        path = Path(action.file.evaluate(self._scope))
        if path.resolve() in self._including:
            raise action.place.error(f'{path} includes itself')
        items = actions.read_file(path)
        known = [argument.name for argument in declared_arguments(path, self._scope.environment)]
        for name, value in action.arguments:
            key = name.evaluate(self._scope)
            if key not in known:
                raise name.place.error(f'{path.name} has no argument {key!r}{suggestion(key, known)}')
            self._variables[key] = value.evaluate(self._scope)
        self._including.append(path.resolve())
        self.run(items)
        self._including.pop()

    def _add(self, action: Process, command: list[str], label: str) -> None:
        respawn = self._text(action.respawn)
        output = self._text(action.output) or 'log'
        if output not in ('screen', 'log', 'both'):
            raise action.output.place.error(f"'output' needs one of screen, log, both, got {output!r}")
        self.found.append(ProcessSpec(
            name=f'{label}-{len(self.found) + 1}',
            command=tuple(command),
            environment={name.evaluate(self._scope): value.evaluate(self._scope) for name, value in action.env},
            output=output,
            required=action.required,
            respawn=respawn is not None and substitutions.truth(respawn, action.respawn.place),
            respawn_delay_s=action.respawn_delay_s,
            respawn_max_retries=action.respawn_max_retries,
        ))

    def _node_command(self, node: Node) -> list[str]:
        package, executable = node.package.evaluate(self._scope), node.executable.evaluate(self._scope)
        try:
            command = executables.command(package, executable, self._scope.environment)
        except LaunchError as error:
            raise node.place.error(str(error)) from None
        command += node.args.words(self._scope) if node.args else []
        command += ['--ros-args', *(node.ros_args.words(self._scope) if node.ros_args else [])]
        if node.name:
            command += ['-r', f'__node:={node.name.evaluate(self._scope)}']
        namespace = self._namespace if node.namespace is None else _joined(self._namespace, self._text(node.namespace))
        if namespace is not None:
            command += ['-r', f'__ns:={namespace}']
        for parameter in node.parameters:
            command += self._parameter(parameter)
        for source, target in node.remaps:
            command += ['-r', f'{source.evaluate(self._scope)}:={target.evaluate(self._scope)}']
        return command

    def _parameter(self, parameter: actions.Parameter | actions.ParameterFile) -> list[str]:
        if isinstance(parameter, actions.ParameterFile):
            return ['--params-file', str(self._parameter_file(parameter))]
        value, place = parameter.value, parameter.place
        if isinstance(value, Template):
            text = value.evaluate(self._scope)
            value = text if value.is_plain and parameter.kind is None else _typed(text, parameter.kind, place)
        elif isinstance(value, list):
            value = [substitutions.parse(entry, place).evaluate(self._scope) if isinstance(entry, str) else entry
                     for entry in value]
        return ['-p', f'{parameter.name}:={json.dumps(value)}']  # JSON is valid YAML and quotes every text.

    def _parameter_file(self, parameter: actions.ParameterFile) -> Path:
        path = Path(parameter.file.evaluate(self._scope))
        try:
            text = path.read_text(encoding='utf-8')
        except OSError as error:
            raise parameter.place.error(f'{path}: cannot be read ({error.strerror})') from None
        if not parameter.allow_substs:
            return path
        filled = self._scratch / f'{len(list(self._scratch.iterdir()))}-{path.name}'
        filled.write_text(substitutions.parse(text, Place(path, 1)).evaluate(self._scope), encoding='utf-8')
        return filled


def _typed(text: str, kind: str | None, place: Place) -> bool | int | float | str | list:
    if kind is None:
        return substitutions.typed(text, place)
    if kind == 'bool':
        return substitutions.truth(text, place)
    try:
        return _KINDS[kind](text)
    except ValueError:
        raise place.error(f'{text!r} is not of the type {kind}') from None


def _joined(base: str | None, namespace: str) -> str:
    absolute = namespace if namespace.startswith('/') or not base else f'{base.rstrip("/")}/{namespace}'
    return '/' + absolute.strip('/')
