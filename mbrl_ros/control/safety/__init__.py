"""What protects the arm: the command filter, the state watch, the named holds and the latched emergency stop."""

from mbrl_ros.control.safety.command_filter import CommandFilter, CommandFilterConfig, FilteredCommand
from mbrl_ros.control.safety.hold import EmergencyStop, HoldReason, StopSequence
from mbrl_ros.control.safety.state_watch import StateWatch, StateWatchConfig

__all__ = ['CommandFilter', 'CommandFilterConfig', 'EmergencyStop', 'FilteredCommand', 'HoldReason', 'StateWatch',
           'StateWatchConfig', 'StopSequence']
