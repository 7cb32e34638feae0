"""The command line: one file a command. The nodes that do the work are elsewhere."""
