"""Learning: transitions become a dynamics model with uncertainty, an immutable snapshot that planners predict with.

Shape letters: `B` batch, `E` ensemble members, `O` obs, `A` action, `I` = O + A inputs, `N` transitions.
"""

from mbrl_ros.learning.acceptance import AcceptanceConfig, Decision, decide, describe_change
from mbrl_ros.learning.continual import ContinualConfig, ContinualLearner
from mbrl_ros.learning.drift import DriftConfig, DriftState
from mbrl_ros.learning.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.learning.framed import Frame, FramedModel, framed_transitions, imagined_transitions, inner_sizes, out_of_frame
from mbrl_ros.learning.linear import LinearPart
from mbrl_ros.learning.metrics import Validation, validate
from mbrl_ros.learning.normalizer import Normalizer
from mbrl_ros.learning.parameters import DynamicsParameters
from mbrl_ros.learning.predictor import Predictor
from mbrl_ros.learning.schedule import DueRound, RoundSchedule, ScheduleConfig
from mbrl_ros.learning.snapshot import ModelCard, ModelSnapshot
from mbrl_ros.learning.split import bootstrap_counts, holdout_mask
from mbrl_ros.learning.trainer import EnsembleTrainer, TrainerConfig, TrainingCancelled, TrainingResult

__all__ = [
    'AcceptanceConfig', 'ContinualConfig', 'ContinualLearner', 'Decision', 'DriftConfig', 'DriftState', 'DueRound',
    'DynamicsParameters', 'Ensemble', 'EnsembleConfig', 'EnsembleTrainer', 'Frame', 'FramedModel', 'LinearPart', 'ModelCard',
    'ModelSnapshot', 'Normalizer', 'Predictor', 'RoundSchedule', 'ScheduleConfig', 'TrainerConfig', 'TrainingCancelled',
    'TrainingResult', 'Validation', 'bootstrap_counts', 'decide', 'describe_change', 'framed_transitions', 'holdout_mask',
    'imagined_transitions', 'inner_sizes', 'out_of_frame', 'validate',
]
