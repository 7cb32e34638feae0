"""Running a node as a process: start, spin, stop, with one-line errors and a clean end."""

import sys
import threading
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from mbrl_ros.errors import EXIT_REFUSED, ConfigError, MbrlError, ModelError
from mbrl_ros.signals import take_signals

_POLL_S = 0.1


def run(build: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Spin one node until SIGINT, SIGTERM or until the node has an `exit_code`.

    A node may have `close()`, called while its publishers still work, and an attribute `exit_code` that ends the process
    when it is no longer None.

    Args:
        build: Makes the node; called once ROS is up.
        args: Command line, `sys.argv` by default.

    Returns:
        The process's exit code: 0 after a signal; `EXIT_REFUSED` where settings, or a model that they name, do not let the node
        be made; 1 after any other `MbrlError`; else the node's.
    """
    stop = threading.Event()
    take_signals(lambda *_: stop.set())
    # Own handlers: rclpy's shut the context down at once, and then nobody could stop the arm any more.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        node = build()
        return _spin(node, stop)
    except MbrlError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        return refusal_code(error) if node is None else 1
    except ExternalShutdownException:
        return 0
    finally:
        if node is not None:
            if hasattr(node, 'close'):
                node.close()
            node.destroy_node()
        rclpy.try_shutdown()


def refusal_code(error: Exception) -> int:
    """Exit code of a process whose node an error keeps from starting: `EXIT_REFUSED` where it would do so again, else 1."""
    return EXIT_REFUSED if isinstance(error, (ConfigError, ModelError)) else 1


def _spin(node: Node, stop: threading.Event) -> int:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=_POLL_S)
            exit_code = getattr(node, 'exit_code', None)
            if exit_code is not None:
                return exit_code
        return 0
    finally:
        executor.shutdown(timeout_sec=0)
