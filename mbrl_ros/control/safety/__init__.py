"""What protects the arm: the command filter, the state watch, the named holds and the latched emergency stop."""
