"""What protects the arm: the command filter, the command guard, the state watch, the named holds and the emergency stop."""
