"""Any Gymnasium environment with continuous actions as something to learn dynamics of and to plan in.

Separate from `tasks`, whose rewards and frames are the arm's: here an environment's observation is taken as it is, and its
reward is learned, or given as a function.
"""
