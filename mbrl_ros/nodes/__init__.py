"""The nodes: one thin node a file. A callback converts in, calls a pure object, converts out."""

import os

# Threads that spin in OpenMP barriers starve the neighbours on a small machine; read when torch is first imported.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
