"""What plays the episodes of a run in one process: the contract between learning and whatever is learned in."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mbrl_ros.agents.snapshot import ModelSnapshot
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.spaces.frame import Frame
from mbrl_ros.training.continual import ContinualConfig
from mbrl_ros.types import DynamicsModel

#: Episodes of learning and those of evaluating are drawn from different streams of a seed.
LEARNING, EVALUATION = 0, 1


@dataclasses.dataclass(frozen=True)
class Episode:
    """What happened in one episode of T control steps.

    Attributes:
        phase: `demonstrated`, `exploring` or `running`.
        success: Whether the goal was reached and held; None where nothing says so.
        distance_m: Distance from the goal at the end; NaN where there is no goal.
        episode_return: Sum of rewards; an episode ends with its success.
        plan_s: Time of each plan, shape (T,); empty where nothing was planned.
        obs: Observations, the last one included, shape (T + 1, O).
        action: What the applied commands amounted to, shape (T, A).
    """

    phase: str
    success: bool | None
    distance_m: float
    episode_return: float
    plan_s: np.ndarray
    obs: np.ndarray
    action: np.ndarray

    @property
    def steps(self) -> int:
        """Control steps, T."""
        return len(self.action)


class LoopConfig(Protocol):
    """Settings that every run has, whatever it is learned in.

    Attributes:
        explorations: Episodes of random motion after the demonstrations.
        learner: How to train and which model to keep.
    """

    explorations: int
    learner: ContinualConfig

    def to_mapping(self) -> dict[str, Any]:
        """As `Config.to_mapping`."""


class Loop(Protocol):
    """Plays episodes, each a function of its arguments.

    Attributes:
        config: Settings.
        name: What is learned.
        file_name: The same as a name of a folder.
        identity: What a run has to be of, besides seed and settings, for another to go on with it.
        layout: What a model has to be for; as `ModelSnapshot.check_fits` takes it.
        frame: What the dynamics are learned in; None for as they are.
        period_s: Control period.
        demonstrations: First episodes, which are not the model's.
        has_goal: Whether episodes have a success and a distance.
    """

    config: LoopConfig
    name: str
    file_name: str
    identity: dict[str, Any]
    layout: dict[str, Any]
    frame: Frame | None
    period_s: float
    demonstrations: int
    has_goal: bool

    def check_memory(self, ensemble: EnsembleConfig) -> None:
        """Raise unless there is memory for plans with a model of this size, which need not be there yet.

        Raises:
            ConfigError: A plan would need more than the planner's settings allow.
        """

    def ready(self, model: ModelSnapshot) -> DynamicsModel:
        """A learned model as `play` takes it.

        Raises:
            ModelMismatchError: It is for something else.
            ConfigError: As for `check_memory`.
        """

    def play(self, model: DynamicsModel | None, *, seed: int, episode: int, stream: int = LEARNING) -> Episode:
        """Run one episode with a model, or explore without one; the same arguments give the same episode."""

    def demonstrate(self, *, seed: int, episode: int) -> Episode:
        """One of the first episodes, which are not the model's."""

    def draw(self, scores: Sequence[EpisodeScore], path: Path, *, seed: int) -> None:
        """Write the learning curve of a run as a PNG."""

    def close(self) -> None:
        """Leave what is played in."""
