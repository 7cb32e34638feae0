"""`mbrl-ros launch`: run a launch file without ROS 2's own launch."""

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from mbrl_ros.errors import LaunchError
from mbrl_ros.launching import description, executables
from mbrl_ros.launching.actions import Argument
from mbrl_ros.launching.console import Console, log_folder
from mbrl_ros.launching.substitutions import Call, Template
from mbrl_ros.launching.supervisor import Supervisor


def launch(
    file: Annotated[str, typer.Argument(help='Name of a launch file of this package, or path of any.')],
    arguments: Annotated[list[str] | None, typer.Argument(help='Launch arguments, as name:=value.')] = None,
    show_args: Annotated[bool, typer.Option('--show-args', '-s', help='List the arguments of the file and end.')] = False,
) -> None:
    """Run a launch file: start its nodes, restart what crashes, stop everything on Ctrl-C, the arm first."""
    path = description.find_file(file)
    environment = executables.ros_environment(os.environ)
    if show_args:
        typer.echo(argument_help(description.declared_arguments(path, environment)))
        return
    with tempfile.TemporaryDirectory(prefix='mbrl_launch_') as scratch:
        specs = description.resolve(path, description.parse_given(arguments or []), environment, Path(scratch))
        with contextlib.closing(_console(environment)) as console:
            code = asyncio.run(Supervisor(specs, environment, console).run())
    raise typer.Exit(code)


def argument_help(arguments: list[Argument]) -> str:
    """The listing of `--show-args`: every argument with description, choices and default."""
    lines = ["Arguments (pass arguments as '<name>:=<value>'):"]
    for argument in arguments:
        text = argument.description or 'no description given'
        choices = ', '.join(repr(choice) for choice in argument.choices)
        lines += ['', f"    '{argument.name}':", f'        {text}' + (f' Valid choices are: [{choices}]' if choices else '')]
        if argument.default is not None:
            lines.append(f'        (default: {_source(argument.default)!r})')
    return '\n'.join(lines if arguments else [*lines, '', '  No arguments.'])


def _source(part: str | Call | Template) -> str:
    if isinstance(part, Template):
        return ''.join(map(_source, part.parts))
    return part if isinstance(part, str) else f'$({" ".join([part.name, *map(_source, part.arguments)])})'


def _console(environment: dict[str, str]) -> Console:
    folder = log_folder(environment)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f'launch-{time.strftime("%Y-%m-%d-%H-%M-%S")}-{os.getpid()}.log'
        console = Console(file)
    except OSError as error:
        raise LaunchError(f'{folder}: the launch cannot write its log there ({error.strerror})') from None
    console.info('launch', f'log file: {file}')
    return console
