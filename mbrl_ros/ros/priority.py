"""Real-time priority for the nodes between sensor and command, where the system permits it."""

import os
from pathlib import Path

from rclpy.node import Node

#: Description of the settings that hold a priority.
DESCRIPTION = 'SCHED_FIFO priority against the wall clock, where permitted; 0 leaves the scheduling alone.'


def request_priority(node: Node, priority: int) -> None:
    """Schedule every thread of this process, and the threads that they start later, by SCHED_FIFO.

    Args:
        node: Logs a line if the system does not permit it.
        priority: 1 to 99; ros2_control runs at 50. 0 does nothing.
    """
    if priority == 0:
        return
    try:
        for thread in Path('/proc/self/task').iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(priority))
    except (OSError, AttributeError) as error:
        node.get_logger().info(f'runs without real-time priority ({error}); grant "rtprio" in /etc/security/limits.conf for it')
