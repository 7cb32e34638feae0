"""Sampling planners over any `DynamicsModel` or `WorldModel`: pure, deterministic from a seed, anytime under a deadline.

Shapes: N candidates, K elites, P particles, E ensemble members, H horizon, O observation, A action. E leads.
"""

from mbrl_ros.planning.planner import Objective, Planner, PlannerConfig, plan_bytes, resolve_device
from mbrl_ros.planning.sampling import SamplingPlanner, make_planner

__all__ = ['Objective', 'Planner', 'PlannerConfig', 'SamplingPlanner', 'make_planner', 'plan_bytes', 'resolve_device']
