"""Episodes and runs: playing, scoring, learning, evaluating, comparing. Pure; the node only wires it."""
