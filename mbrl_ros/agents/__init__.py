"""What acts and what learns, one file an algorithm, and the bundle that travels between the two."""
