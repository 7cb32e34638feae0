"""Experience: transitions from what was measured and commanded; `bags` keeps it on disk."""

from mbrl_ros.experience.assembler import AssemblerConfig, TransitionAssembler
from mbrl_ros.experience.dataset import TransitionArrays, TransitionDataset
from mbrl_ros.experience.replay import load_transitions
from mbrl_ros.experience.saved import SavedExperience, saved_experience_path

__all__ = ['AssemblerConfig', 'SavedExperience', 'TransitionArrays', 'TransitionAssembler', 'TransitionDataset',
           'load_transitions', 'saved_experience_path']
