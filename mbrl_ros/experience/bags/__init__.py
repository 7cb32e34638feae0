"""Recordings: MCAP bags that `ros2 bag` and Foxglove open; a crash loses no message that was written before it."""

from mbrl_ros.experience.bags.metadata import BagTopic
from mbrl_ros.experience.bags.reader import BagMessage, BagReader, read_messages
from mbrl_ros.experience.bags.recorder import ExperienceRecorder, RecorderConfig
from mbrl_ros.experience.bags.recovery import RecoveredFile, recover
from mbrl_ros.experience.bags.writer import BagWriter

__all__ = ['BagMessage', 'BagReader', 'BagTopic', 'BagWriter', 'ExperienceRecorder', 'RecorderConfig', 'RecoveredFile',
           'read_messages', 'recover']
