"""From raw joint states and object poses to one filtered, stamped state.

`measurements` checks messages, `kalman` filters them, `jumps` tells a world that was reset from a bad reading, `grid` says which
states are due in lockstep, and `estimator` joins these parts.
"""
