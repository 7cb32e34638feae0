"""Experience: transitions from what was measured and commanded, and the bags that keep it."""

from mbrl_ros.experience.assembler import AssemblerConfig, TransitionAssembler
from mbrl_ros.experience.bag_metadata import BagTopic
from mbrl_ros.experience.bag_reader import BagMessage, BagReader, read_messages
from mbrl_ros.experience.bag_recovery import RecoveredFile, recover
from mbrl_ros.experience.bag_writer import BagWriter
from mbrl_ros.experience.dataset import TransitionArrays, TransitionDataset
from mbrl_ros.experience.pretraining import Pretraining, pretraining_path
from mbrl_ros.experience.recorder import ExperienceRecorder, RecorderConfig
from mbrl_ros.experience.replay import load_transitions

__all__ = [
    'AssemblerConfig',
    'BagMessage',
    'BagReader',
    'BagTopic',
    'BagWriter',
    'ExperienceRecorder',
    'Pretraining',
    'RecorderConfig',
    'RecoveredFile',
    'TransitionArrays',
    'TransitionAssembler',
    'TransitionDataset',
    'load_transitions',
    'pretraining_path',
    'read_messages',
    'recover',
]
