"""What a running stack says of its punctuality, heard from outside."""

from types import TracebackType

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray

from mbrl_ros.ros import convert, qos, topics

#: Figures of control ticks in `controller_status`, and that of the guard.
TICK_FIGURES, GUARD_FIGURE = ('period_ms', 'state_age_ms', 'state_to_command_ms', 'plan_ms'), 'command_to_driver_ms'


class StatusRecord:
    """What the controller says of its ticks, and the command guard of its answers to commands."""

    def __init__(self) -> None:
        self.figures: dict[str, list[float]] = {name: [] for name in (*TICK_FIGURES, GUARD_FIGURE)}
        self.ticks = 0
        self.missed = 0
        self._skipped: list[int] = []
        self.model_versions: set[int] = set()

    def on_status(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        self.ticks += 1
        self.missed += values.get('deadline_missed') == 'True'
        self._skipped.append(int(values.get('skipped', 0)))
        self.model_versions.add(int(values.get('model_version', 0)))
        for name in TICK_FIGURES:
            self._add(name, values.get(name, 'nan'))

    def on_guard_status(self, message: DiagnosticArray) -> None:
        self._add(GUARD_FIGURE, convert.status_values(message).get('latency_ms', 'nan'))

    @property
    def skipped(self) -> int:
        """Periods without a tick."""
        return self._skipped[-1] - self._skipped[0] if self._skipped else 0

    def _add(self, name: str, text: str) -> None:
        value = float(text)
        if np.isfinite(value):
            self.figures[name].append(value)


class StackListener:
    """Hears the statuses of controller and guard; a context, in which alone it may be used.

    Attributes:
        record: What they said since the context began, or since it was replaced.
    """

    def __init__(self) -> None:
        self.record = StatusRecord()

    def __enter__(self) -> 'StackListener':
        rclpy.init()
        self._node = rclpy.create_node('loop_benchmark')
        qos.subscribe(self._node, DiagnosticArray, topics.CONTROLLER_STATUS, lambda message: self.record.on_status(message),
                      qos.RECORD)
        qos.subscribe(self._node, DiagnosticArray, topics.GUARD_STATUS, lambda message: self.record.on_guard_status(message),
                      qos.RECORD)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._node.destroy_node()
        rclpy.shutdown()

    def listen(self, timeout_s: float) -> None:
        """Hear what comes first, or nothing for as long."""
        rclpy.spin_once(self._node, timeout_sec=timeout_s)
