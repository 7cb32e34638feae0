"""One control tick after another: from state, mandate and goal to a command that may be sent."""
