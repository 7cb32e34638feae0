"""Experience: transitions, assembled from measurements and commands; `bags` records the messages on disk."""

from mbrl_ros.experience.assembler import AssemblerConfig, TransitionAssembler
from mbrl_ros.experience.buffer import ReplayBuffer, Transitions
from mbrl_ros.experience.replay import load_transitions
from mbrl_ros.experience.saved import SavedExperience, saved_experience_path

__all__ = ['AssemblerConfig', 'ReplayBuffer', 'SavedExperience', 'TransitionAssembler', 'Transitions', 'load_transitions',
           'saved_experience_path']
