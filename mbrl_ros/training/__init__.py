"""Rounds of learning: when a round is due, what the learner gets, and whether the dynamics have changed."""
