"""Models that predict: what a planner plans with. `ensemble` is the learned one of PETS."""
