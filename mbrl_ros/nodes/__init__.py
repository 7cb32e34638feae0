"""One thin node a file. A callback converts a message, calls a pure object, and converts its answer."""

import os

# OpenMP threads that spin at barriers starve other nodes on a small machine. torch reads the variable when it is imported.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
