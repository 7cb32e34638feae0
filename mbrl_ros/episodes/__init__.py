"""Episodes: what the arm is to do next, how well it did, and how that is shown. Pure; the node only wires it."""

from mbrl_ros.episodes.machine import EpisodeConfig, EpisodeMachine
from mbrl_ros.episodes.scores import EpisodeScore, ScoreBoard, ScoreConfig

__all__ = ['EpisodeConfig', 'EpisodeMachine', 'EpisodeScore', 'ScoreBoard', 'ScoreConfig']
