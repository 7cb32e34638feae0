"""Compiled code behind `Predictor` and `EnsembleTrainer`; every caller works without it, in torch."""
