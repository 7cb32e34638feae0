"""Tasks: rewards of named terms with live weights, goals, and when a goal is reached. Pure."""
