"""One node in this process: a launch starts it with `python -m mbrl_ros.cli.node <executable> [ROS arguments]`.

The installed executables, such as `mpc_controller`, call `main`, which finds the node by the executable's name.
"""

import os
import pkgutil
import sys
from pathlib import Path

from mbrl_ros.config import suggestion
from mbrl_ros.launching.executables import NODES, SUPERVISOR_VARIABLE, end_with_parent, ros_environment
from mbrl_ros.signals import take_signals


def run_node(name: str, arguments: list[str]) -> int:
    """Run a node, and end this process with the node's exit code; return only if there is no such node.

    Args:
        name: An executable of this package.
        arguments: Further words of the command line.
    """
    if name not in NODES:
        print(f'error: there is no node {name!r}{suggestion(name, NODES)}', file=sys.stderr)
        return 2
    # Until `runtime.run` handles the signals there is nothing to close, and loading torch takes seconds.
    take_signals(lambda *_: os._exit(0))
    _end_with_launch()
    os.environ.update(ros_environment(os.environ))
    from mbrl_ros.ros import runtime  # rclpy finds its libraries only now.

    code = runtime.run(pkgutil.resolve_name(NODES[name]), [name, *arguments])
    # The node has closed its files and connections. A regular exit of interpreter and torch would only take most of a second in
    # each process of the stack, while a stop has three seconds.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> int:
    """Run the node that this executable is named after."""
    return run_node(Path(sys.argv[0]).name, sys.argv[1:])


def _end_with_launch() -> None:
    """End with the launch, even if SIGKILL ends it: an arm must not move without its launch."""
    end_with_parent()
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is not None and sys.platform.startswith('linux') and os.getppid() != int(supervisor):
        sys.exit(f'error: the launch (process {supervisor}) has ended; not starting')


if __name__ == '__main__':
    sys.exit(run_node(sys.argv[1] if len(sys.argv) > 1 else '', sys.argv[2:]))
