"""Sampling planners over any `DynamicsModel` or `WorldModel`: pure, deterministic from a seed, anytime under a deadline.

Shapes: N candidates, K elites, P particles, E ensemble members, H horizon, O observation, A action. E leads.
"""
