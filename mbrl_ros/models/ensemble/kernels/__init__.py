"""Compiled code for `Predictor` and `EnsembleTrainer`; without it both use torch."""
