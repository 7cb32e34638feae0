"""The outside yardstick of `compare`: model-free agents of stable-baselines3."""
