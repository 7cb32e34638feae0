"""Everything that measures this project."""
