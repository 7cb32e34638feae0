"""A planner that has exactly what `planning.planner.Planner` lists: it plans to stand still."""

import numpy as np
import torch

from mbrl_ros.types import Plan


class StillPlanner:
    """Stands still, whatever the model says; implements `Planner`."""

    device = torch.device('cpu')

    def __init__(self, horizon: int = 2) -> None:
        self._horizon = horizon

    def plan(self, model, obs, objective, *, previous_action=None, directions=None, proposals=None, deadline_s=None) -> Plan:
        """See `Planner.plan`."""
        actions = np.zeros((self._horizon, model.action_size))
        path = np.tile(obs, (self._horizon + 1, 1))
        return Plan(actions, 0.0, 0.0, path, 0.0, actions[None], np.zeros(1), 1, 0, 0.0)

    def reset(self, seed: int) -> None:
        """See `Planner.reset`."""

    def prepare(self, model, obs, objective) -> None:
        """See `Planner.prepare`."""

    def check_memory(self, obs_size: int, ensemble_size: int, hidden_units: int) -> None:
        """See `Planner.check_memory`."""
