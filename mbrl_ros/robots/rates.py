"""The control rate of a task, for nodes that need nothing else of its settings and run without torch."""

from mbrl_ros.config import load_yaml
from mbrl_ros.resources import config_file

#: Control rate of a task whose settings name none, Hz.
DEFAULT_RATE_HZ = 20.0


def control_rate_hz(task: str) -> float:
    """Control rate that `config/tasks/<task>.yaml` sets.

    Raises:
        ConfigError: There is no such file.
    """
    return float(load_yaml(config_file('tasks', task)).get('control_rate_hz', DEFAULT_RATE_HZ))
