"""`mbrl-ros run`: one node in the foreground."""

from typing import Annotated

import typer

from mbrl_ros.cli.node import run_node
from mbrl_ros.launching.executables import NODES


def run(context: typer.Context, node: Annotated[str, typer.Argument(help=f'One of {", ".join(NODES)}.')]) -> None:
    """Run one node; what follows its name goes to it, such as --ros-args -p seed:=7."""
    raise typer.Exit(run_node(node, context.args))


run.context_settings = {'allow_extra_args': True, 'ignore_unknown_options': True}
