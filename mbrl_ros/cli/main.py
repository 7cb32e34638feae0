"""`mbrl-ros`: the command line; the modules of a subcommand are imported only if it is used."""

import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from typing import Annotated

import typer
import typer.core

from mbrl_ros.config import suggestion
from mbrl_ros.errors import ConfigError, MbrlError
from mbrl_ros.launching.executables import end_with_parent
from mbrl_ros.signals import take_signals

#: Subcommands, as module and name of a `typer` app or function.
COMMANDS = {
    'launch': 'mbrl_ros.cli.launch:launch',
    'run': 'mbrl_ros.cli.run:run',
    'learn': 'mbrl_ros.cli.learn:learn',
    'evaluate': 'mbrl_ros.cli.evaluate:evaluate',
    'compare': 'mbrl_ros.cli.compare:compare',
    'doctor': 'mbrl_ros.cli.doctor:doctor',
    'bag': 'mbrl_ros.cli.bag:app',
    'bench': 'mbrl_ros.cli.bench:app',
    'stop': 'mbrl_ros.cli.stop:stop',
    'release': 'mbrl_ros.cli.stop:release',
    'reference': 'mbrl_ros.cli.reference:app',
}


class _LazyGroup(typer.core.TyperGroup):
    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def resolve_command(self, ctx: object, args: list[str]) -> tuple:
        if args and args[0] not in COMMANDS:
            raise ConfigError(f'there is no command {args[0]!r}{suggestion(args[0], COMMANDS)}')
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: object, cmd_name: str) -> object | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(':')
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            group = typer.main.get_command(found)
            group.name = cmd_name
            return group
        app = typer.Typer(add_completion=False)
        app.command(cmd_name, cls=getattr(found, 'command_class', None),
                    context_settings=getattr(found, 'context_settings', None))(found)
        return typer.main.get_command(app)


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f'mbrl-ros {importlib.metadata.version("mbrl_ros")}')
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option('--version', callback=_say_version, is_eager=True,
                                                help='Say the version and end.')] = False) -> None:
    """Model-based reinforcement learning as a live ROS 2 control stack."""


def main() -> int:
    """Run the command line; an `MbrlError` prints one line and ends with code 2."""
    end_with_parent()
    return _run(app)


def run_script(command: Callable[..., None]) -> int:
    """Run a script outside the package as one command, with the same handling of errors."""
    script = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    script.command()(command)
    return _run(script)


def _run(commands: typer.Typer) -> int:
    take_signals()
    try:
        return commands(standalone_mode=True) or 0
    except MbrlError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
