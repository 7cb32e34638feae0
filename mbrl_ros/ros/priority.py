"""Real-time priority for the nodes between sensor and command, where the machine grants it."""

import os
from pathlib import Path

from rclpy.node import Node

#: What settings of this kind say of themselves.
DESCRIPTION = 'SCHED_FIFO priority against the wall clock, where permitted; 0 leaves the scheduling alone.'


def request_priority(node: Node, priority: int) -> None:
    """Schedule every thread of this process first-in-first-out, and those that they start later; says so if it may not.

    Args:
        node: Says what came of it.
        priority: 1 to 99; ros2_control runs at 50. 0 does nothing.
    """
    if priority == 0:
        return
    try:
        for thread in Path('/proc/self/task').iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(priority))
    except (OSError, AttributeError) as error:
        node.get_logger().info(f'runs without real-time priority ({error}); grant "rtprio" in /etc/security/limits.conf for it')
