"""One node in this process: `python -m mbrl_ros.cli.node <executable> [ROS arguments]`, which is how a launch starts it.

The installed executables, such as `mpc_controller`, come here too, each by its own name.
"""

import importlib
import os
import sys
from pathlib import Path

from mbrl_ros.config import suggestion
from mbrl_ros.launching.executables import NODES, SUPERVISOR_VARIABLE, end_with_parent, ros_environment
from mbrl_ros.signals import take_signals


def run_node(name: str, arguments: list[str]) -> int:
    """Run the node `name`, and end this process with the node's exit code; returns only if there is no such node.

    Args:
        name: An executable of this package.
        arguments: What follows it on the command line.
    """
    if name not in NODES:
        print(f'error: there is no node {name!r}{suggestion(name, NODES)}', file=sys.stderr)
        return 2
    # Loading torch takes seconds, and there is nothing to close until `runtime.run` takes the signals over.
    take_signals(lambda *_: os._exit(0))
    _end_with_launch()
    os.environ.update(ros_environment(os.environ))
    code = importlib.import_module(NODES[name]).main([name, *arguments])
    # The node has closed what it had open. Taking the interpreter and torch apart in good order would do nothing more, but
    # costs each of the stack's processes most of a second of a stop that has three.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> int:
    """Run the node that this executable is named after."""
    return run_node(Path(sys.argv[0]).name, sys.argv[1:])


def _end_with_launch() -> None:
    """Outlive no launch, even one that ends by SIGKILL: an arm must not move on without one."""
    end_with_parent()
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is not None and sys.platform.startswith('linux') and os.getppid() != int(supervisor):
        sys.exit(f'error: the launch (process {supervisor}) has ended; not starting')


if __name__ == '__main__':
    sys.exit(run_node(sys.argv[1] if len(sys.argv) > 1 else '', sys.argv[2:]))
