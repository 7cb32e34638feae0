"""Rounds of PETS's learner on made-up moves of a single joint; for tests."""

import numpy as np

from mbrl_ros.agents.bundle import Contract
from mbrl_ros.agents.pets import PetsLearner
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.training.rounds import Rounds


class ToySpace:
    """One joint as it is; implements `spaces.space.Space`."""

    name, version, has_velocities, is_directed = 'joint', 1, True, False
    state_names = action_names = ('a',)
    frame = None

    def directions(self, obs: np.ndarray) -> None:
        """See `spaces.space.Space.directions`."""


def make_rounds(config, seed: int = 0, robot: str = 'toy', learner: type = PetsLearner) -> Rounds:
    """Rounds for the toy space."""
    contract = Contract.of('pets', ToySpace(), robot=robot, task='reach', period_s=0.05)
    return Rounds(learner(contract, ToySpace(), config), contract, config, seed=seed)


def transitions(obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, start: int = 0) -> Transitions:
    """Rows as transitions of one episode, a period of 50 ms apart."""
    return Transitions.of(obs, action, next_obs, (start + np.arange(len(obs))) * 50_000_000)
