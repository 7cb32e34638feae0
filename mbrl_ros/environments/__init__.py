"""Learning and planning in any Gymnasium environment with continuous actions.

Separate from `tasks`, whose rewards and frames are the arm's. Here the observation is the environment's own, and the reward is
learned or given as a function.
"""
