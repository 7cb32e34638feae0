"""Dynamics models for planners. `ensemble` has the learned model of PETS."""
