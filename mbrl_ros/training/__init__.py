"""Rounds of learning: when one is due, what is held out, what is accepted, whether the world has changed."""
