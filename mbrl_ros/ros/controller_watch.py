"""Whether the driver's controller is there for this stack alone, by what ros2_control itself publishes.

A goal of the controller's own action moves the arm without a publisher on the command topic, and a controller that is switched
off hears no command at all.
"""

import math
import time

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from mbrl_ros.errors import shortened
from mbrl_ros.ros import qos, topics

try:
    from action_msgs.msg import GoalStatus, GoalStatusArray
except ImportError:  # Not every installation has it.
    GoalStatusArray = None

#: What the controller manager calls its list of controllers, and what may follow a controller's name in it.
_ACTIVITY, _STATE = 'Controllers Activity', '.state'
_ACTIVE = 'active'
#: A controller counts as active for so long after somebody said so. Controller managers speak once a second, and those of two
#: arms may know controllers of equal names.
_MEMORY_S = 2.5


class ControllerWatch:
    """Watches one controller; of a driver that is not ros2_control's it sees nothing.

    Args:
        node: Owner of the subscriptions.
        controller: Name of the controller, with the namespace of its topics; empty for none.
    """

    def __init__(self, node: Node, controller: str) -> None:
        self._node, self._name = node, controller.rpartition('/')[2]
        self._is_executing = False
        self._other_state, self._active_s = '', -math.inf
        self._status_topic = node.resolve_topic_name(f'{controller}/follow_joint_trajectory/_action/status')
        if not controller:
            return
        if GoalStatusArray is not None:
            qos.subscribe(node, GoalStatusArray, self._status_topic, self.on_goals, qos.LATCHED)
        qos.subscribe(node, DiagnosticArray, topics.DIAGNOSTICS, self.on_diagnostics, qos.DIAGNOSTICS)

    def on_goals(self, message: 'GoalStatusArray') -> None:
        """Note whether a goal moves the arm."""
        moving = (GoalStatus.STATUS_EXECUTING, GoalStatus.STATUS_CANCELING)
        self._is_executing = any(goal.status in moving for goal in message.status_list)

    def on_diagnostics(self, message: DiagnosticArray) -> None:
        """Note what a controller manager says of the controller."""
        for state in (entry.value for status in message.status if status.name.endswith(_ACTIVITY)
                      for entry in status.values if entry.key.removesuffix(_STATE) == self._name):
            if state == _ACTIVE:
                self._other_state, self._active_s = '', time.monotonic()
            else:
                self._other_state = state

    def goal(self) -> str:
        """The action with a goal that moves the arm; empty where there is none."""
        if self._is_executing and not self._node.count_publishers(self._status_topic):
            self._is_executing = False  # Its server has ended, and the goal with it.
        return f'a goal of {self._status_topic.removesuffix("/_action/status")}' if self._is_executing else ''

    def inactivity(self) -> str:
        """What the controller is instead of active; empty where it is active, or nobody says."""
        is_active = not self._other_state or time.monotonic() - self._active_s < _MEMORY_S
        return '' if is_active else shortened(f'{self._name} is {self._other_state}')
