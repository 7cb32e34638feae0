"""Model-free agents of stable-baselines3, which `compare` sets beside this project's."""
