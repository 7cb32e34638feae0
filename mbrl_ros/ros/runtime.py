"""A node as a process: start, spin, stop, with errors of one line; and timers by the steady clock."""

import sys
import threading
from collections.abc import Callable, Sequence

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.timer import Timer

from mbrl_ros.errors import EXIT_REFUSED, ConfigError, MbrlError, ModelError
from mbrl_ros.ros.executor import QuickExecutor
from mbrl_ros.signals import take_signals

_POLL_S = 0.1


def run(build: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Spin one node until SIGINT or SIGTERM, or until the node sets an `exit_code`.

    If the node has a method `close`, it is called while the node's publishers still work. If the node has an attribute
    `exit_code`, the process ends once it is not None.

    Args:
        build: Makes the node; called after ROS is initialised.
        args: Command line, `sys.argv` by default.

    Returns:
        Exit code of the process: 0 after a signal; `EXIT_REFUSED` if wrong settings or a wrong model kept the node from being
        made; 1 after any other `MbrlError`; otherwise the node's `exit_code`.
    """
    stop = threading.Event()
    take_signals(lambda *_: stop.set())
    # rclpy's own signal handlers shut the context down at once; then no node could stop the arm any more.
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
    """Exit code after an error while a node was made: `EXIT_REFUSED` if a restart would fail in the same way, else 1."""
    return EXIT_REFUSED if isinstance(error, (ConfigError, ModelError)) else 1


def steady_timer(node: Node, period_s: float, callback: Callable[[], None]) -> Timer:
    """Create a timer by the steady clock, which goes on while simulated time stands or the system clock is set back."""
    return node.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def _spin(node: Node, stop: threading.Event) -> int:
    executor = QuickExecutor()
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
