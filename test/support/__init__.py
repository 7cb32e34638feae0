"""What several test files need: benches for nodes, launched stacks, examples and stand-ins."""
